"""The second stage of a decoupled training: a new head on features that stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.samplers import ClassBalancedSampler
from counterpoise.workflow.training.stream import Order, of_sampler

__all__ = ["Retraining", "build_retraining"]


@dataclass(frozen=True)
class Retraining:
    """From epoch ``first`` on, a new head learns from the passes of ``order``; the backbone is frozen (cRT).

    Kang et al., Decoupling Representation and Classifier, ICLR 2020 (arXiv:1910.09217).
    """

    first: int
    order: Order


def build_retraining(
    strategy: Strategy, labels: NDArray[np.int64], counts: ClassCounts, *, seed: int, epochs: int
) -> Retraining | None:
    """The second stage of a strategy; None where there is none.

    Raises:
        ArgumentError: an unknown stage or share, one epoch only, or ingredients whose prior the second stage changes.
    """
    if strategy.retraining is None:
        return None
    where = f"strategy {strategy.name!r}: retraining {strategy.retraining!r}"
    if strategy.retraining != "head":
        raise ArgumentError(f"{where} is unknown; expected 'head'")
    others = (strategy.weights, strategy.reweighting, strategy.mixing, strategy.augment)
    if strategy.loss != "cross_entropy" or strategy.head != "linear" or any(others):
        raise ArgumentError(f"{where} goes with cross-entropy on a linear head alone: it changes the prior half-way")
    share = float(strategy.retraining_options.get("share", 0.2))
    if not 0 < share < 1 or epochs < 2:
        raise ArgumentError(f"{where} needs at least 2 epochs and a `share` in (0, 1); got {epochs} and {share}")
    power = float(strategy.retraining_options.get("power", 0.0))
    sampler = ClassBalancedSampler(labels, power=power, seed=seed, num_classes=counts.num_classes)
    last = min(epochs - 1, max(1, round(share * epochs)))
    return Retraining(epochs - last, of_sampler(sampler))
