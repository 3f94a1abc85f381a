"""The one place where a strategy's names become functions, and one class prior is carried through them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from counterpoise import losses, posthoc, samplers, weights
from counterpoise.core.artifacts import Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.hierarchy import ClassTree
from counterpoise.workflow.evaluation import Fit, Fitted
from counterpoise.workflow.evaluation.tuning import fit_norm, fit_thresholds
from counterpoise.workflow.training.retraining import Retraining, build_retraining
from counterpoise.workflow.training.reweighting import Reweighting, build_reweighting
from counterpoise.workflow.training.stream import Order, of_sampler, shuffled
from counterpoise.workflow.training.treatment import Treatment, build_treatment

__all__ = ["Known", "Recipe", "build", "build_posthoc", "corrections", "known_of", "needs_validation"]

Scores = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """What a correction may know: the counts, the prior left in the scores, the linear head; never the test split.

    ``trained`` is the prior that the loss has seen, as sampled and weighted; ``left`` what of it is in the scores, None
    where the loss does not define it (focal, margins, sigmoids). ``tree`` is that of a hierarchical strategy.
    """

    counts: ClassCounts
    trained: Floats
    left: Floats | None
    head: tuple[Floats, Floats] | None = None
    tree: ClassTree | None = None

    def tempered(self, power: float) -> Floats:
        """``left ^ power``, normalised: what a correction of strength 1 − power leaves."""
        return _tempered(self.trained if self.left is None else self.left, power)


@dataclass(frozen=True)
class Recipe:
    """A strategy as functions: what the loop trains with, and what is known for the correction afterwards."""

    order: Order
    known: Known
    loss: nn.Module
    treatment: Treatment
    reweighting: Reweighting | None
    retraining: Retraining | None


def build(
    strategy: Strategy,
    labels: NDArray[np.int64],
    counts: ClassCounts,
    *,
    symmetries: frozenset[str],
    seed: int,
    epochs: int,
    tree: ClassTree | None = None,
) -> Recipe:
    """Turn the names of a strategy into functions, for these training images."""
    order = build_order(strategy, labels, counts, seed=seed, epochs=epochs)
    retraining = build_retraining(strategy, labels, counts, seed=seed, epochs=epochs)
    # What the scores hold is what the head has seen.
    sampled = order.prior if retraining is None else retraining.order.prior
    known = replace(known_of(strategy, counts, sampled), tree=tree)
    reweighting = build_reweighting(strategy, counts, epochs=epochs)
    weight = _class_weight(strategy, counts) if strategy.weights else None
    if reweighting is not None:
        weight = reweighting.weight_at(0)
    make: Callable[..., nn.Module] = _one_of(_LOSSES, strategy.loss, "loss", strategy)
    loss = make(known, weight, **strategy.loss_options)
    treatment = build_treatment(strategy, labels, counts, prior=order.prior, symmetries=symmetries, seed=seed)
    return Recipe(order, known, loss, treatment, reweighting, retraining)


def needs_validation(strategy: Strategy) -> str | None:
    """What of a strategy is fitted on validation images; None where nothing is."""
    if strategy.reweighting == "adaptive":
        return "reweighting 'adaptive'"
    return f"posthoc {strategy.posthoc!r}" if strategy.posthoc in _FITTED else None


def known_of(strategy: Strategy, counts: ClassCounts, sampled: Floats | None) -> Known:
    """The one prior of a strategy: as sampled, times the weights, and what its loss takes out of the scores."""
    trained = weights.effective_prior(
        counts.prior() if sampled is None else sampled, weight=_class_weight(strategy, counts)
    )
    if strategy.loss in _ADJUSTING:
        tau = float(strategy.loss_options.get("tau", 1.0))
        return Known(counts, trained, _tempered(trained, 1.0 - tau))
    defined = strategy.loss in _LIKELIHOOD and not strategy.loss_options.get("gamma") and not strategy.reweighting
    return Known(counts, trained, trained if defined else None)


def build_order(strategy: Strategy, labels: NDArray[np.int64], counts: ClassCounts, *, seed: int, epochs: int) -> Order:
    """The order of training images of a strategy, the same on every process."""
    if strategy.sampler is None:
        return shuffled(len(labels), seed)
    make = _one_of(_SAMPLERS, strategy.sampler, "sampler", strategy)
    planned = {"epochs": epochs} if strategy.sampler == "progressive" else {}
    sampler = make(labels, seed=seed, num_classes=counts.num_classes, **planned, **strategy.sampler_options)
    sampler.set_epoch(epochs)
    return of_sampler(sampler)


def build_posthoc(strategy: Strategy, known: Known) -> Fit:
    """The correction of the scores after training, to be fitted on validation scores; most have nothing to fit."""
    if strategy.posthoc is None:
        return lambda scores, labels: Fitted({}, lambda scores: scores)
    make: Callable[..., Fit] = _one_of(_POSTHOC, strategy.posthoc, "posthoc", strategy)
    return make(known, **strategy.posthoc_options)


def corrections(strategy: Strategy, counts: ClassCounts, sampled: Floats | None) -> str | None:
    """Which methods of a strategy compensate the class imbalance more than once, and what to change; None for none."""
    known = known_of(strategy, counts, sampled)
    adjusts = strategy.loss in (*_ADJUSTING, "vector_scaling")
    found = weights.Correction.measure(
        counts.prior(),
        sampled=sampled,
        weight=_class_weight(strategy, counts),
        adjusted=(known.trained if strategy.loss in _ADJUSTING else counts.prior()) if adjusts else None,
        tau=float(strategy.loss_options.get("tau", 1.0)) if adjusts else 1.0,
        gamma=float(strategy.loss_options.get("gamma", 0.0)) if strategy.loss in _FOCUSING else 0.0,
    )
    milder = "`beta=0.99`" if strategy.loss == "class_balanced" else '`weights="inverse_sqrt"`'
    return found.advice_for(strategy.name, milder_weights=milder)


def _one_of(table: dict[str, Any], name: str, kind: str, strategy: Strategy) -> Any:
    """The function of that name; an unknown one is an `ArgumentError` that lists the table."""
    if name not in table:
        raise ArgumentError(
            f"strategy {strategy.name!r}: {kind} {name!r} is unknown; expected one of {', '.join(table)}"
        )
    return table[name]


def _class_weight(strategy: Strategy, counts: ClassCounts) -> Floats | None:
    """The class weights of a strategy, wherever it states them; 0 for a class without training images."""
    if strategy.loss == "class_balanced":
        beta = float(strategy.loss_options.get("beta", 0.9999))
        return weights.class_weights(counts, "effective_number", beta=beta, empty="exclude")
    if strategy.weights is None:
        return None
    scheme: Any = strategy.weights
    options: dict[str, Any] = strategy.weight_options
    return weights.class_weights(counts, scheme, empty="exclude", **options)


def _hierarchical(known: Known, weight: Floats | None, **options: Any) -> losses.HierarchicalLoss:
    if known.tree is None or weight is not None:
        raise ArgumentError("loss 'hierarchical' needs the hierarchical head, and balances each node by itself")
    return losses.HierarchicalLoss(tree=known.tree, class_counts=known.counts, **options)


def _tempered(prior: Floats, power: float) -> Floats:
    """∝ prior^power; a class that has no share gets none."""
    shares = np.where(prior > 0, np.where(prior > 0, prior, 1.0) ** power, 0.0)
    tempered: Floats = shares / shares.sum()
    return tempered


def _adjust_logits(known: Known, *, tau: float) -> Fit:
    prior = known.left
    if prior is None:
        raise ArgumentError(
            "posthoc 'adjust_logits' needs a loss that leaves a known prior in the scores: cross-entropy, weighted or "
            "not; focal loss, margins and sigmoids do not define one"
        )

    def adjust(scores: Scores) -> Scores:
        return posthoc.adjust_logits(scores, prior, tau=tau, empty="exclude")

    return lambda scores, labels: Fitted({}, adjust)


def _scale_logits(known: Known, *, scale: float) -> Fit:
    return lambda scores, labels: Fitted({}, lambda scores: scores * np.float32(scale))


def _tune_thresholds(known: Known, **options: float) -> Fit:
    return lambda scores, labels: fit_thresholds(scores, labels, **options)


def _tau_normalize(known: Known) -> Fit:
    if known.head is None:
        raise ArgumentError("posthoc 'tau_normalize' needs a model with a linear head")
    weight, bias = known.head
    return lambda scores, labels: fit_norm(scores, labels, weight=weight, bias=bias)


_LIKELIHOOD = ("cross_entropy", "class_balanced")
_ADJUSTING = ("logit_adjusted", "balanced_softmax")
_FOCUSING = ("focal", "class_balanced")
_FITTED = ("tau_normalize", "tune_thresholds")
"""Corrections that choose their numbers on validation scores."""

_LOSSES: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": lambda known, weight, **o: losses.CrossEntropyLoss(weight=weight, **o),
    "focal": lambda known, weight, **o: losses.FocalLoss(weight=weight, **o),
    "class_balanced": lambda known, weight, **o: losses.ClassBalancedLoss(
        class_counts=known.counts, empty="exclude", **o
    ),
    "logit_adjusted": lambda known, weight, **o: losses.LogitAdjustedLoss(
        prior=known.trained, weight=weight, empty="exclude", **o
    ),
    # log n_c and log π_c differ by a constant; the prior is that of the sampler and the weights, too.
    "balanced_softmax": lambda known, weight, **o: losses.LogitAdjustedLoss(
        prior=known.trained, weight=weight, empty="exclude", **o
    ),
    "vector_scaling": lambda known, weight, **o: losses.VectorScalingLoss(
        class_counts=known.counts, weight=weight, empty="exclude", **o
    ),
    "ldam": lambda known, weight, **o: losses.LDAMLoss(class_counts=known.counts, weight=weight, empty="exclude", **o),
    "hierarchical": _hierarchical,
    "sigmoid_focal": lambda known, weight, **o: losses.SigmoidFocalLoss(weight=weight, **o),
    "asymmetric": lambda known, weight, **o: losses.AsymmetricLoss(weight=weight, **o),
}
_SAMPLERS: dict[str, Callable[..., Any]] = {
    "class_balanced": samplers.ClassBalancedSampler,
    "progressive": samplers.ProgressiveSampler,
    "resample": samplers.ResampleSampler,
}
_POSTHOC: dict[str, Callable[..., Fit]] = {
    "adjust_logits": _adjust_logits,
    "scale_logits": _scale_logits,
    "tau_normalize": _tau_normalize,
    "tune_thresholds": _tune_thresholds,
}
