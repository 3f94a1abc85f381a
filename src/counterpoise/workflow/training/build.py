"""The one place where a strategy's names become functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise import losses, posthoc, samplers, weights
from counterpoise.core.artifacts import Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.losses.stored import StoredLoss
from counterpoise.workflow.training.stream import Order, shuffled

__all__ = ["build_loss", "build_order", "build_posthoc"]

Scores = NDArray[np.floating[Any]]


def build_loss(strategy: Strategy, counts: ClassCounts) -> StoredLoss:
    """The loss module of a strategy, from the training counts.

    A class without training images gets weight 0, and is left out of the softmax where its prior would be 0.
    """
    weight = None
    if strategy.weights:
        options: dict[str, Any] = strategy.weight_options
        scheme: Any = strategy.weights
        weight = weights.class_weights(counts, scheme, empty="exclude", **options)
    make: Callable[..., StoredLoss] = _one_of(_LOSSES, strategy.loss, "loss", strategy)
    return make(counts, weight, **strategy.loss_options)


def build_order(strategy: Strategy, labels: NDArray[np.int64], seed: int) -> Order:
    """The order of training images of a strategy, the same on every process."""
    if strategy.sampler is None:
        return shuffled(len(labels), seed)
    make = _one_of(_SAMPLERS, strategy.sampler, "sampler", strategy)
    sampler = make(labels, seed=seed, **strategy.sampler_options)

    def draw(number: int) -> NDArray[np.int64]:
        sampler.set_epoch(number)
        return np.concatenate(list(sampler.batches(1 << 16)))

    return Order(len(sampler), draw)


def build_posthoc(strategy: Strategy, counts: ClassCounts) -> Callable[[Scores], Scores]:
    """The correction of the scores after training; the identity where a strategy has none."""
    if strategy.posthoc is None:
        return lambda scores: scores
    make: Callable[..., Callable[[Scores], Scores]] = _one_of(_POSTHOC, strategy.posthoc, "posthoc", strategy)
    return make(counts, **strategy.posthoc_options)


def _one_of(table: dict[str, Any], name: str, kind: str, strategy: Strategy) -> Any:
    if name not in table:
        raise ArgumentError(
            f"strategy {strategy.name!r}: {kind} {name!r} is unknown; expected one of {', '.join(table)}"
        )
    return table[name]


def _adjust_logits(counts: ClassCounts, *, tau: float) -> Callable[[Scores], Scores]:
    seen = counts.counts > 0

    def adjust(scores: Scores) -> Scores:
        adjusted = scores.copy()
        adjusted[:, seen] = posthoc.adjust_logits(scores[:, seen], counts.prior()[seen], tau=tau)
        return adjusted

    return adjust


_LOSSES: dict[str, Callable[..., StoredLoss]] = {
    "cross_entropy": lambda counts, weight: losses.CrossEntropyLoss(weight=weight),
    "focal": lambda counts, weight, **o: losses.FocalLoss(weight=weight, **o),
    "class_balanced": lambda counts, weight, **o: losses.ClassBalancedLoss(class_counts=counts, empty="exclude", **o),
    "logit_adjusted": lambda counts, weight, **o: losses.LogitAdjustedLoss(
        prior=counts.prior(), weight=weight, empty="exclude", **o
    ),
    "balanced_softmax": lambda counts, weight: losses.BalancedSoftmaxLoss(
        class_counts=counts, weight=weight, empty="exclude"
    ),
    "vector_scaling": lambda counts, weight, **o: losses.VectorScalingLoss(
        class_counts=counts, weight=weight, empty="exclude", **o
    ),
    "ldam": lambda counts, weight, **o: losses.LDAMLoss(class_counts=counts, weight=weight, empty="exclude", **o),
    "sigmoid_focal": lambda counts, weight, **o: losses.SigmoidFocalLoss(weight=weight, **o),
    "asymmetric": lambda counts, weight, **o: losses.AsymmetricLoss(weight=weight, **o),
}
_SAMPLERS: dict[str, Callable[..., Any]] = {
    "class_balanced": samplers.ClassBalancedSampler,
    "resample": samplers.ResampleSampler,
}
_POSTHOC: dict[str, Callable[..., Callable[[Scores], Scores]]] = {
    "adjust_logits": _adjust_logits,
    "scale_logits": lambda counts, *, scale: lambda scores: scores * np.float32(scale),
}
