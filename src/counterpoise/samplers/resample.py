"""Resampling to a fixed number of items per class: oversampling, undersampling, or given counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_count
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import check_options
from counterpoise.samplers.base import CLASSES, OrderedSampler
from counterpoise.samplers.index import ClassIndex, Membership
from counterpoise.samplers.permutation import ClassSequence, FixedCounts

SamplingStrategy = Literal["over", "under"] | float | Mapping[Any, int]


@final
class ResampleSampler(OrderedSampler):
    """Samples a fixed number of items per class and epoch, in shuffled order.

    A class with fewer items than samples goes through all its items before it repeats any. A class with more items
    than samples gives distinct items, other ones in every epoch.

    Args:
        labels: ``(N,)`` class indices or names, one class per item.
        sampling_strategy:
            - ``"over"``: every class as often as the largest class;
            - ``"under"``: every class as often as the smallest class that has items;
            - a ratio in (0, 1]: every class below ratio × the largest count is raised to it, and the others stay as
              they are. For two classes this is imbalanced-learn's ratio of minority to majority after resampling;
            - ``{class: count}``: these numbers for these classes; the others stay as they are.
        seed: at least 0; seed and epoch determine the order.
        num_classes: C, if the labels do not contain all classes.

    Raises:
        ArgumentError: an unknown strategy, a ratio outside (0, 1], an unknown class, or samples of a class without
            items.
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
            raise ArgumentError("`labels` must have one class per item; for several use RepeatFactorSampler")
        super().__init__(ClassIndex(membership), seed=seed)
        self.counts = _resampled_counts(self._index, sampling_strategy)
        if not self.counts.any():
            raise ArgumentError("`sampling_strategy` leaves no items; give at least one class a count above 0")

    @property
    def prior(self) -> NDArray[np.float64]:
        prior: NDArray[np.float64] = self.counts / self.counts.sum()
        return prior

    def _sequence(self) -> ClassSequence:
        return FixedCounts(self.counts, self._key(CLASSES))

    def _settings(self) -> dict[str, Any]:
        return {"counts": self.counts.tolist()}


def _resampled_counts(index: ClassIndex, strategy: Any) -> NDArray[np.int64]:
    counts, present = index.counts, index.counts > 0
    if isinstance(strategy, Mapping):
        return _given_counts(index, strategy)
    check_options("sampler", "resample", {"sampling_strategy": strategy})
    if isinstance(strategy, str):
        goal = counts.max() if strategy == "over" else counts[present].min()
        return np.where(present, goal, 0).astype(np.int64)
    return np.where(present, np.maximum(counts, round(strategy * int(counts.max()))), 0).astype(np.int64)


def _given_counts(index: ClassIndex, strategy: Mapping[Any, int]) -> NDArray[np.int64]:
    counts, places = index.counts.copy(), {name: c for c, name in enumerate(index.names)}
    unknown = [name for name in strategy if str(name) not in places]
    if unknown:
        raise ArgumentError(
            f"`sampling_strategy` names {unknown[:10]}, which are not among the classes {index.names[:10]}"
        )
    for name, count in strategy.items():
        c = places[str(name)]
        counts[c] = checked_count(f"sampling_strategy[{name!r}]", count, minimum=0)
        if counts[c] and not index.counts[c]:
            raise ArgumentError(f"`sampling_strategy` asks for {count} items of class {name!r}, which has none")
    return counts
