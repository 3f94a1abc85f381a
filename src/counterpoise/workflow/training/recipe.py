"""From the names in a strategy to functions: its sampler, loss and class weights, and the class prior they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from counterpoise import losses, samplers, weights
from counterpoise.core.artifacts import Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import defaults, hyperparameters
from counterpoise.hierarchy import ClassTree
from counterpoise.posthoc import prior_after_adjustment
from counterpoise.workflow.training.data import SampleOrder, sampler_order, shuffled_order
from counterpoise.workflow.training.transforms import BatchTransform, build_transform

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Reweighting = weights.AdaptiveWeights | weights.DeferredWeights
ADJUSTING = ("logit_adjusted", "balanced_softmax")
"""Losses that add the log prior to the logits."""


@dataclass(frozen=True)
class ClassPrior:
    """The class prior of a strategy, in training and in the logits afterwards.

    Attributes:
        counts: training images per class.
        sampling_prior: ``(C,)``, the class prior that the sampler of the final head produces; None for that of the
            data.
        effective_prior: ``(C,)``, the sampling prior times the class weights.
        logit_prior: ``(C,)``, the class prior implied by the trained logits; None if the loss does not define it
            (focal loss, margins, sigmoid losses).
    """

    counts: ClassCounts
    sampling_prior: Floats | None
    effective_prior: Floats
    logit_prior: Floats | None

    def after_adjustment(self, tau: float) -> Floats:
        """The prior that logit adjustment of strength ``tau`` leaves: ``∝ prior^(1 − τ)``."""
        return prior_after_adjustment(self.effective_prior if self.logit_prior is None else self.logit_prior, tau)


@dataclass(frozen=True)
class Retraining:
    """Second stage of decoupled training (cRT): from epoch ``start_epoch`` on, only a new head is trained.

    Kang et al., Decoupling Representation and Classifier, ICLR 2020 (arXiv:1910.09217).
    """

    start_epoch: int
    order: SampleOrder


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
    prior = _class_prior(
        strategy, counts, order.sampling_prior if retraining is None else retraining.order.sampling_prior
    )
    reweighting = None
    if strategy.reweighting is not None:
        reweighting = REWEIGHTINGS[strategy.reweighting](counts, **strategy.reweighting_options)
    weight = _class_weight(strategy, counts) if reweighting is None else reweighting.weight
    loss = LOSSES[strategy.loss](LossInputs(prior, weight, tree), **strategy.loss_options)
    transform = build_transform(
        strategy, labels, counts, sampling_prior=order.sampling_prior, symmetries=symmetries, seed=seed
    )
    return Recipe(order, prior, loss, transform, reweighting, retraining, tree)


def check_components(strategy: Strategy) -> None:
    """Raise `ArgumentError` for a loss or sampler that the package has, but not for the training of classifiers."""
    for kind, name, table in (("loss", strategy.loss, LOSSES), ("sampler", strategy.sampler, SAMPLERS)):
        if name is not None and name not in table:
            raise ArgumentError(
                f"strategy {strategy.name!r}: {kind} {name!r} cannot be used in `train`; use one of {', '.join(table)}"
            )


def build_class_prior(strategy: Strategy, labels: Labels, counts: ClassCounts, *, epochs: int) -> ClassPrior:
    """The class prior of a strategy, for training images with these labels."""
    # The prior does not depend on the seed, so any will do.
    retraining = _build_retraining(strategy, labels, counts, seed=0, epochs=epochs)
    order = _build_order(strategy, labels, counts, seed=0, epochs=epochs) if retraining is None else retraining.order
    return _class_prior(strategy, counts, order.sampling_prior)


def double_correction_advice(strategy: Strategy, prior: ClassPrior) -> str | None:
    """Which methods of a strategy compensate the imbalance more than once, and what to change; None if none do."""
    natural = prior.counts.prior()
    adjusted = {"vector_scaling": natural, **dict.fromkeys(ADJUSTING, prior.effective_prior)}.get(strategy.loss)
    found = weights.Correction.measure(
        natural,
        sampled=prior.sampling_prior,
        weight=_class_weight(strategy, prior.counts),
        adjusted=adjusted,
        tau=1.0 if adjusted is None else _loss_option(strategy, "tau", 1.0),
        gamma=_loss_option(strategy, "gamma", 0.0) if strategy.loss in ("focal", "class_balanced") else 0.0,
    )
    milder = '`weights="inverse_sqrt"`'
    if strategy.loss == "class_balanced":
        milder = "`beta=0.99`" if _loss_option(strategy, "beta", 0.0) > 0.99 else "a smaller `beta`, or `gamma=0`"
    return found.advice_for(strategy.name, milder_weights=milder)


def _class_prior(strategy: Strategy, counts: ClassCounts, sampling_prior: Floats | None) -> ClassPrior:
    """The sampling prior, the effective one, and the one that the trained logits imply."""
    shares = counts.prior() if sampling_prior is None else sampling_prior
    effective = weights.effective_prior(shares, weight=_class_weight(strategy, counts))
    if strategy.loss in ADJUSTING:
        adjusted = prior_after_adjustment(effective, _loss_option(strategy, "tau", 1.0))
        return ClassPrior(counts, sampling_prior, effective, adjusted)
    changes = [_loss_option(strategy, name, 0.0) for name in ("gamma", "margin", "poly", "label_smoothing")]
    defined = strategy.loss in ("cross_entropy", "class_balanced") and not any(changes) and not strategy.reweighting
    return ClassPrior(counts, sampling_prior, effective, effective if defined else None)


def _loss_option(strategy: Strategy, name: str, absent: float) -> float:
    """A hyperparameter of the loss, or its default; ``absent`` if the loss does not have it or leaves it unset."""
    default = getattr(hyperparameters("loss", strategy.loss).get(name), "default", None)
    value = strategy.loss_options.get(name, default)
    return absent if value is None else float(value)


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
    options: dict[str, Any] = {"epochs": epochs} if strategy.sampler == "progressive" else {}
    options |= {"seed": seed, "num_classes": counts.num_classes, **strategy.sampler_options}
    sampler = SAMPLERS[strategy.sampler](labels, **options)
    # `.prior` of a progressive sampler is that of its epoch: the last one is what the trained logits contain.
    sampler.set_epoch(epochs)
    return sampler_order(sampler)


def _build_retraining(
    strategy: Strategy, labels: Labels, counts: ClassCounts, *, seed: int, epochs: int
) -> Retraining | None:
    """The second stage of a strategy: class-balanced sampling in the last epochs, at least one."""
    if strategy.retraining is None:
        return None
    options = {**defaults("retraining", strategy.retraining, "share", "power"), **strategy.retraining_options}
    sampler = samplers.ClassBalancedSampler(labels, power=options["power"], seed=seed, num_classes=counts.num_classes)
    last = min(epochs - 1, max(1, round(options["share"] * epochs)))
    return Retraining(epochs - last, sampler_order(sampler))


@dataclass(frozen=True)
class LossInputs:
    """What the builder of a loss may use besides the options of the strategy."""

    prior: ClassPrior
    weight: Floats | None
    tree: ClassTree | None


def _with_weight(loss: type[nn.Module], inputs: LossInputs, **options: Any) -> nn.Module:
    return loss(weight=inputs.weight, **options)


def _with_counts(loss: type[nn.Module], inputs: LossInputs, **options: Any) -> nn.Module:
    return loss(class_counts=inputs.prior.counts, weight=inputs.weight, empty="exclude", **options)


def _with_prior(loss: type[nn.Module], inputs: LossInputs, **options: Any) -> nn.Module:
    return loss(prior=inputs.prior.effective_prior, weight=inputs.weight, empty="exclude", **options)


def _class_balanced(inputs: LossInputs, **options: Any) -> nn.Module:
    return losses.ClassBalancedLoss(class_counts=inputs.prior.counts, empty="exclude", **options)


def _hierarchical(inputs: LossInputs, **options: Any) -> nn.Module:
    assert inputs.tree is not None, "a strategy with this loss has the hierarchical head"
    return losses.HierarchicalLoss(tree=inputs.tree, class_counts=inputs.prior.counts, **options)


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": partial(_with_weight, losses.CrossEntropyLoss),
    "focal": partial(_with_weight, losses.FocalLoss),
    "class_balanced": _class_balanced,
    "logit_adjusted": partial(_with_prior, losses.LogitAdjustedLoss),
    # log n_c and log π_c differ by a constant, and π is the effective prior.
    "balanced_softmax": partial(_with_prior, losses.LogitAdjustedLoss),
    "vector_scaling": partial(_with_counts, losses.VectorScalingLoss),
    "ldam": partial(_with_counts, losses.LDAMLoss),
    "hierarchical": _hierarchical,
    "sigmoid_focal": partial(_with_weight, losses.SigmoidFocalLoss),
    "asymmetric": partial(_with_weight, losses.AsymmetricLoss),
}
SAMPLERS: dict[str, Callable[..., samplers.OrderedSampler]] = {
    "class_balanced": samplers.ClassBalancedSampler,
    "progressive": samplers.ProgressiveSampler,
    "resample": samplers.ResampleSampler,
}
REWEIGHTINGS: dict[str, Callable[..., Reweighting]] = {
    "adaptive": weights.AdaptiveWeights,
    "deferred": partial(weights.DeferredWeights, empty="exclude"),
}
