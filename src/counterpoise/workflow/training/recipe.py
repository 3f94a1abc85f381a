"""From the names in a strategy to functions: its sampler, loss and class weights, and the class prior they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from counterpoise import losses, samplers, weights
from counterpoise.core.artifacts import Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import defaults, hyperparameters
from counterpoise.hierarchy import ClassTree
from counterpoise.workflow.training.data import SampleOrder, sampler_order, shuffled_order
from counterpoise.workflow.training.transforms import BatchTransform, build_transform

__all__ = [
    "ClassPrior",
    "Recipe",
    "Retraining",
    "Reweighting",
    "build_recipe",
    "check_components",
    "class_prior",
    "double_correction",
]

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class ClassPrior:
    """The class prior of a strategy, in training and in the logits afterwards.

    Attributes:
        counts: training images per class.
        training: ``(C,)``, the effective prior of training: as sampled, times the class weights.
        remaining: ``(C,)``, the part of it that the logits contain after training; None if the loss does not define it
            (focal loss, margins, sigmoid losses).
    """

    counts: ClassCounts
    training: Floats
    remaining: Floats | None

    def after_adjustment(self, tau: float) -> Floats:
        """The prior that logit adjustment of strength ``tau`` leaves: ``∝ prior^(1 − τ)``."""
        return _adjusted(self.training if self.remaining is None else self.remaining, tau)


@dataclass(frozen=True)
class Retraining:
    """Second stage of a decoupled training (cRT): from epoch ``first`` on, only a new head is trained.

    Kang et al., Decoupling Representation and Classifier, ICLR 2020 (arXiv:1910.09217).
    """

    first: int
    order: SampleOrder


@final
class Reweighting:
    """Class weights that change between epochs: deferred, or adapted to validation."""

    def __init__(self, rule: weights.AdaptiveWeights | weights.DeferredWeights, epochs: int) -> None:
        self.rule, self.epochs = rule, epochs

    def weight_at(self, epoch: int) -> Floats:
        """Class weights ``(C,)`` of the epoch that begins."""
        if isinstance(self.rule, weights.DeferredWeights):
            return self.rule.weight_at(epoch, epochs=self.epochs)
        return self.rule.weight

    def observe(self, labels: Labels, predicted: Labels) -> None:
        """Update adaptive weights with the validation labels and predictions of an epoch."""
        if isinstance(self.rule, weights.AdaptiveWeights):
            self.rule.update(labels, predicted)

    def state_dict(self) -> dict[str, Floats]:
        """Arrays ``(C,)`` for a checkpoint; none if the weights are a function of the epoch."""
        return self.rule.state_dict() if isinstance(self.rule, weights.AdaptiveWeights) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        if isinstance(self.rule, weights.AdaptiveWeights):
            self.rule.load_state_dict(state)


@dataclass(frozen=True)
class Recipe:
    """A strategy as functions and objects, for one set of training images."""

    order: SampleOrder
    prior: ClassPrior
    loss: nn.Module
    transform: BatchTransform
    reweighting: Reweighting | None
    retraining: Retraining | None
    tree: ClassTree | None


def build_recipe(
    strategy: Strategy,
    labels: Labels,
    counts: ClassCounts,
    *,
    symmetries: frozenset[str],
    seed: int,
    epochs: int,
    tree: ClassTree | None = None,
) -> Recipe:
    """Build all that a strategy names, for training images with these labels."""
    order = _build_order(strategy, labels, counts, seed=seed, epochs=epochs)
    retraining = _build_retraining(strategy, labels, counts, seed=seed, epochs=epochs)
    # The logits contain the prior that the final head was trained on.
    prior = _class_prior(strategy, counts, order.prior if retraining is None else retraining.order.prior)
    reweighting = _build_reweighting(strategy, counts, epochs=epochs)
    weight = _class_weight(strategy, counts) if reweighting is None else reweighting.weight_at(0)
    loss = LOSSES[strategy.loss](LossInputs(prior, weight, tree), **strategy.loss_options)
    transform = build_transform(strategy, labels, counts, prior=order.prior, symmetries=symmetries, seed=seed)
    return Recipe(order, prior, loss, transform, reweighting, retraining, tree)


def check_components(strategy: Strategy) -> None:
    """Raise `ArgumentError` for a loss or sampler that the package has, but not for the training of classifiers."""
    for kind, name, table in (("loss", strategy.loss, LOSSES), ("sampler", strategy.sampler, SAMPLERS)):
        if name is not None and name not in table:
            raise ArgumentError(
                f"strategy {strategy.name!r}: {kind} {name!r} cannot be used in `train`; use one of {', '.join(table)}"
            )


def class_prior(strategy: Strategy, labels: Labels, counts: ClassCounts, *, epochs: int) -> ClassPrior:
    """The class prior of a strategy, for training images with these labels."""
    return _class_prior(strategy, counts, _sampled_prior(strategy, labels, counts, epochs=epochs))


def double_correction(strategy: Strategy, labels: Labels, counts: ClassCounts, *, epochs: int) -> str | None:
    """Which methods of a strategy compensate the imbalance more than once, and what to change; None if none do."""
    sampled = _sampled_prior(strategy, labels, counts, epochs=epochs)
    adjusted = {
        "logit_adjusted": _class_prior(strategy, counts, sampled).training,
        "balanced_softmax": _class_prior(strategy, counts, sampled).training,
        "vector_scaling": counts.prior(),
    }.get(strategy.loss)
    found = weights.Correction.measure(
        counts.prior(),
        sampled=sampled,
        weight=_class_weight(strategy, counts),
        adjusted=adjusted,
        tau=1.0 if adjusted is None else _loss_option(strategy, "tau", 1.0),
        gamma=_loss_option(strategy, "gamma", 0.0) if strategy.loss in ("focal", "class_balanced") else 0.0,
    )
    milder = "`beta=0.99`" if strategy.loss == "class_balanced" else '`weights="inverse_sqrt"`'
    return found.advice_for(strategy.name, milder_weights=milder)


def _sampled_prior(strategy: Strategy, labels: Labels, counts: ClassCounts, *, epochs: int) -> Floats | None:
    """The class prior that the sampler of the final head produces; None for that of the data."""
    retraining = _build_retraining(strategy, labels, counts, seed=0, epochs=epochs)
    order = _build_order(strategy, labels, counts, seed=0, epochs=epochs) if retraining is None else retraining.order
    return order.prior


def _class_prior(strategy: Strategy, counts: ClassCounts, sampled: Floats | None) -> ClassPrior:
    """The prior as sampled, times the class weights, and the part of it that the loss leaves in the logits."""
    training = weights.effective_prior(
        counts.prior() if sampled is None else sampled, weight=_class_weight(strategy, counts)
    )
    if strategy.loss in ("logit_adjusted", "balanced_softmax"):
        return ClassPrior(counts, training, _adjusted(training, _loss_option(strategy, "tau", 1.0)))
    likelihood = strategy.loss in ("cross_entropy", "class_balanced") and not any(
        _loss_option(strategy, name, 0.0) for name in ("gamma", "margin", "poly", "label_smoothing")
    )
    return ClassPrior(counts, training, training if likelihood and not strategy.reweighting else None)


def _loss_option(strategy: Strategy, name: str, absent: float) -> float:
    """A hyperparameter of the loss, or its default; ``absent`` if the loss does not have it or leaves it open."""
    default = getattr(hyperparameters("loss", strategy.loss).get(name), "default", None)
    value = strategy.loss_options.get(name, default)
    return absent if value is None else float(value)


def _adjusted(prior: Floats, tau: float) -> Floats:
    """``∝ prior^(1 − τ)``; a class with share 0 keeps it."""
    shares = np.where(prior > 0, np.where(prior > 0, prior, 1.0) ** (1.0 - tau), 0.0)
    adjusted: Floats = shares / shares.sum()
    return adjusted


def _class_weight(strategy: Strategy, counts: ClassCounts) -> Floats | None:
    """The fixed class weights of a strategy, its loss included; 0 for a class without training images."""
    if strategy.loss == "class_balanced":
        options = {**defaults("loss", strategy.loss, "beta"), **strategy.loss_options}
        return weights.class_weights(counts, "effective_number", beta=options["beta"], empty="exclude")
    if strategy.weights is None:
        return None
    scheme: Any = strategy.weights
    return weights.class_weights(counts, scheme, empty="exclude", **cast("dict[str, Any]", strategy.weight_options))


def _build_order(strategy: Strategy, labels: Labels, counts: ClassCounts, *, seed: int, epochs: int) -> SampleOrder:
    """The order of training images of a strategy, the same on every process."""
    if strategy.sampler is None:
        return shuffled_order(len(labels), seed)
    inputs = SamplerInputs(labels, counts.num_classes, seed, epochs)
    sampler = SAMPLERS[strategy.sampler](inputs, **strategy.sampler_options)
    sampler.set_epoch(epochs)
    return sampler_order(sampler)


def _build_reweighting(strategy: Strategy, counts: ClassCounts, *, epochs: int) -> Reweighting | None:
    if strategy.reweighting is None:
        return None
    return Reweighting(REWEIGHTINGS[strategy.reweighting](counts, **strategy.reweighting_options), epochs)


def _build_retraining(
    strategy: Strategy, labels: Labels, counts: ClassCounts, *, seed: int, epochs: int
) -> Retraining | None:
    if strategy.retraining is None:
        return None
    inputs = SamplerInputs(labels, counts.num_classes, seed, epochs)
    options = {**defaults("retraining", strategy.retraining, "share"), **strategy.retraining_options}
    return RETRAININGS[strategy.retraining](inputs, **options)


@dataclass(frozen=True)
class LossInputs:
    """What the builder of a loss may use beside the options of the strategy."""

    prior: ClassPrior
    weight: Floats | None
    tree: ClassTree | None


def _cross_entropy(inputs: LossInputs, **options: Any) -> nn.Module:
    return losses.CrossEntropyLoss(weight=inputs.weight, **options)


def _focal(inputs: LossInputs, **options: Any) -> nn.Module:
    return losses.FocalLoss(weight=inputs.weight, **options)


def _class_balanced(inputs: LossInputs, **options: Any) -> nn.Module:
    return losses.ClassBalancedLoss(class_counts=inputs.prior.counts, empty="exclude", **options)


def _logit_adjusted(inputs: LossInputs, **options: Any) -> nn.Module:
    """Also balanced softmax: log n_c and log π_c differ by a constant, and π is the prior as sampled and weighted."""
    return losses.LogitAdjustedLoss(prior=inputs.prior.training, weight=inputs.weight, empty="exclude", **options)


def _vector_scaling(inputs: LossInputs, **options: Any) -> nn.Module:
    counts = inputs.prior.counts
    return losses.VectorScalingLoss(class_counts=counts, weight=inputs.weight, empty="exclude", **options)


def _ldam(inputs: LossInputs, **options: Any) -> nn.Module:
    return losses.LDAMLoss(class_counts=inputs.prior.counts, weight=inputs.weight, empty="exclude", **options)


def _hierarchical(inputs: LossInputs, **options: Any) -> nn.Module:
    assert inputs.tree is not None, "a strategy with this loss has the hierarchical head"
    return losses.HierarchicalLoss(tree=inputs.tree, class_counts=inputs.prior.counts, **options)


def _sigmoid_focal(inputs: LossInputs, **options: Any) -> nn.Module:
    return losses.SigmoidFocalLoss(weight=inputs.weight, **options)


def _asymmetric(inputs: LossInputs, **options: Any) -> nn.Module:
    return losses.AsymmetricLoss(weight=inputs.weight, **options)


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": _cross_entropy,
    "focal": _focal,
    "class_balanced": _class_balanced,
    "logit_adjusted": _logit_adjusted,
    "balanced_softmax": _logit_adjusted,
    "vector_scaling": _vector_scaling,
    "ldam": _ldam,
    "hierarchical": _hierarchical,
    "sigmoid_focal": _sigmoid_focal,
    "asymmetric": _asymmetric,
}


@dataclass(frozen=True)
class SamplerInputs:
    """What the builder of a sampler may use beside the options of the strategy."""

    labels: Labels
    num_classes: int
    seed: int
    epochs: int


def _class_balanced_sampler(inputs: SamplerInputs, **options: Any) -> samplers.OrderedSampler:
    return samplers.ClassBalancedSampler(inputs.labels, seed=inputs.seed, num_classes=inputs.num_classes, **options)


def _progressive_sampler(inputs: SamplerInputs, **options: Any) -> samplers.OrderedSampler:
    return samplers.ProgressiveSampler(
        inputs.labels, epochs=inputs.epochs, seed=inputs.seed, num_classes=inputs.num_classes, **options
    )


def _resample(inputs: SamplerInputs, **options: Any) -> samplers.OrderedSampler:
    return samplers.ResampleSampler(inputs.labels, seed=inputs.seed, num_classes=inputs.num_classes, **options)


SAMPLERS: dict[str, Callable[..., samplers.OrderedSampler]] = {
    "class_balanced": _class_balanced_sampler,
    "progressive": _progressive_sampler,
    "resample": _resample,
}


def _retrained_head(inputs: SamplerInputs, *, share: float, **options: Any) -> Retraining:
    last = min(inputs.epochs - 1, max(1, round(share * inputs.epochs)))
    return Retraining(inputs.epochs - last, sampler_order(_class_balanced_sampler(inputs, **options)))


RETRAININGS: dict[str, Callable[..., Retraining]] = {"head": _retrained_head}


def _deferred_weights(counts: ClassCounts, **options: Any) -> weights.DeferredWeights:
    return weights.DeferredWeights(counts, empty="exclude", **options)


def _adaptive_weights(counts: ClassCounts, **options: Any) -> weights.AdaptiveWeights:
    return weights.AdaptiveWeights(counts, **options)


REWEIGHTINGS: dict[str, Callable[..., weights.AdaptiveWeights | weights.DeferredWeights]] = {
    "adaptive": _adaptive_weights,
    "deferred": _deferred_weights,
}
