"""A sampler that draws a fixed number from every class: oversampling, undersampling, or counts of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.samplers.classes import ClassIndex
from counterpoise.samplers.draws import Draws, ExactDraws
from counterpoise.samplers.membership import Membership
from counterpoise.samplers.sampler import CLASSES, OrderedSampler, whole_number

__all__ = ["ResampleSampler", "SamplingStrategy"]

SamplingStrategy = Literal["over", "under"] | float | Mapping[Any, int]


@final
class ResampleSampler(OrderedSampler):
    """An epoch with exactly so many items of every class, in shuffled order.

    A class that gives more than it has goes through all its items before it repeats any; one that gives fewer gives
    distinct ones, others in every epoch.

    Args:
        labels: ``(N,)`` class ids or names.
        sampling_strategy:
            - ``"over"``: every class as often as the largest;
            - ``"under"``: every class as often as the smallest that has items;
            - a ratio in (0, 1]: oversamples every class below ratio x the largest count up to it, and leaves the others
              as they are. For two classes that is imbalanced-learn's ratio of minority to majority after resampling;
            - ``{class: count}``: so many of these classes; the others as they are.
        seed: with the epoch it fixes the order.
        num_classes: C, where the labels do not show all classes.

    Raises:
        ArgumentError: an unknown strategy, a ratio outside (0, 1], an unknown class, or items of a class without any.
        ArgumentTypeError: labels that are neither whole numbers nor strings.

    Example:
        >>> sampler = ResampleSampler([0] * 6 + [1] * 2, sampling_strategy="over")
        >>> sorted(sampler)
        [0, 1, 2, 3, 4, 5, 6, 6, 6, 7, 7, 7]
        >>> len(ResampleSampler([0] * 6 + [1] * 2, sampling_strategy="under"))
        4
    """

    def __init__(
        self,
        labels: Any,
        *,
        sampling_strategy: SamplingStrategy = "over",
        seed: int = 0,
        num_classes: int | None = None,
    ) -> None:
        membership = Membership.read(labels, num_classes=num_classes)
        if membership.owners is not None:
            raise ArgumentError("`labels` must have one class an item; for several use RepeatFactorSampler")
        super().__init__(ClassIndex(membership), seed=seed)
        self.counts = _quotas(self._index, sampling_strategy)
        if not self.counts.any():
            raise ArgumentError("`sampling_strategy` leaves no items; give at least one class a count above 0")

    @property
    def prior(self) -> NDArray[np.float64]:
        prior: NDArray[np.float64] = self.counts / self.counts.sum()
        return prior

    def _draws(self) -> Draws:
        return ExactDraws(self.counts, self._key(CLASSES))

    def _settings(self) -> dict[str, Any]:
        return {"counts": self.counts.tolist()}


def _quotas(index: ClassIndex, strategy: Any) -> NDArray[np.int64]:
    counts, present = index.counts, index.counts > 0
    if isinstance(strategy, Mapping):
        return _own_counts(index, strategy)
    if isinstance(strategy, str):
        if strategy not in ("over", "under"):
            raise ArgumentError(
                f'`sampling_strategy` must be "over", "under", a ratio or {{class: count}}; got {strategy!r}'
            )
        goal = counts.max() if strategy == "over" else counts[present].min()
        return np.where(present, goal, 0).astype(np.int64)
    if isinstance(strategy, bool) or not isinstance(strategy, int | float) or not 0.0 < strategy <= 1.0:
        raise ArgumentError(f"`sampling_strategy` as a ratio must be in (0, 1]; got {strategy!r}")
    return np.where(present, np.maximum(counts, round(strategy * int(counts.max()))), 0).astype(np.int64)


def _own_counts(index: ClassIndex, strategy: Mapping[Any, int]) -> NDArray[np.int64]:
    quotas, places = index.counts.copy(), {name: c for c, name in enumerate(index.names)}
    unknown = [name for name in strategy if str(name) not in places]
    if unknown:
        raise ArgumentError(f"`sampling_strategy` names {unknown[:10]}, not among the classes {index.names[:10]}")
    for name, count in strategy.items():
        c = places[str(name)]
        quotas[c] = whole_number(f"sampling_strategy[{name!r}]", count)
        if quotas[c] and not index.counts[c]:
            raise ArgumentError(f"`sampling_strategy` wants {count} of class {name!r}, which has no items")
    return quotas
