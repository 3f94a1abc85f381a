"""Class weights that change during a training: deferred, or adapted to validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.weights import AdaptiveWeights, class_weights

__all__ = ["Reweighting", "build_reweighting"]

Floats = NDArray[np.float64]


class Reweighting(Protocol):
    """The weights of each epoch; what it has learnt is in ``state_dict``, arrays ``(C,)``."""

    def weight_at(self, epoch: int) -> Floats:
        """``(C,)``, for the epoch that begins."""
        ...

    def observe(self, labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> None:
        """What validation saw at the end of an epoch."""
        ...

    def state_dict(self) -> dict[str, Floats]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class _Deferred:
    """Unweighted, then effective-number weights from a share of the epochs on (DRW, Cao et al., NeurIPS 2019)."""

    def __init__(self, counts: ClassCounts, epochs: int, *, start: float = 0.8, beta: float = 0.9999) -> None:
        if not 0 <= start <= 1:
            raise ArgumentError(f"reweighting 'deferred': `start` is a share of the epochs, in [0, 1]; got {start}")
        self.first = round(start * epochs)
        self.before = np.where(counts.counts > 0, 1.0, 0.0)
        self.after = class_weights(counts, "effective_number", beta=beta, empty="exclude")

    def weight_at(self, epoch: int) -> Floats:
        return self.before if epoch < self.first else self.after

    def observe(self, labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> None:
        """The schedule is fixed."""

    def state_dict(self) -> dict[str, Floats]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """There is none."""


class _Adaptive:
    """`AdaptiveWeights` after every epoch."""

    def __init__(self, counts: ClassCounts, epochs: int, **options: Any) -> None:
        self.rule = AdaptiveWeights(counts, **options)

    def weight_at(self, epoch: int) -> Floats:
        return self.rule.weight

    def observe(self, labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> None:
        self.rule.update(labels, predicted)

    def state_dict(self) -> dict[str, Floats]:
        return self.rule.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rule.load_state_dict(state)


def build_reweighting(strategy: Strategy, counts: ClassCounts, *, epochs: int) -> Reweighting | None:
    """What changes a strategy's weights; None where they are fixed."""
    if strategy.reweighting is None:
        return None
    if strategy.reweighting not in _REWEIGHTINGS:
        raise ArgumentError(
            f"strategy {strategy.name!r}: reweighting {strategy.reweighting!r} is unknown; expected one of "
            f"{', '.join(_REWEIGHTINGS)}"
        )
    if strategy.weights or strategy.loss == "class_balanced":
        raise ArgumentError(
            f"strategy {strategy.name!r} has both fixed weights and reweighting {strategy.reweighting!r}; keep one"
        )
    return _REWEIGHTINGS[strategy.reweighting](counts, epochs, **strategy.reweighting_options)


_REWEIGHTINGS: dict[str, Callable[..., Reweighting]] = {"adaptive": _Adaptive, "deferred": _Deferred}
