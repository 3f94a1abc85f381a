"""Resampling to a fixed number of items per class: oversampling, undersampling, or given counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_count
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.hyperparameters import check_options
from counterpoise.samplers.base import CLASSES, OrderedSampler
from counterpoise.samplers.index import ClassIndex, Membership
from counterpoise.samplers.permutation import ClassSequence, FixedCounts

SamplingType = Literal["over", "under"]
Name = Literal["over", "under", "auto", "all", "minority", "not minority", "not majority", "majority"]
SamplingStrategy = Name | float | Mapping[Any, int] | Callable[[NDArray[Any]], Mapping[Any, int]]


@final
class ResampleSampler(OrderedSampler):
    """Samples a fixed number of items per class and epoch, in shuffled order.

    A class with fewer items than samples goes through all its items before it repeats any. A class with more items
    than samples gives distinct items, other ones in every epoch. With ``sampling_type="over"`` or ``"under"``, the
    number of samples of each class is that of imbalanced-learn's ``RandomOverSampler`` or ``RandomUnderSampler`` with
    the same ``sampling_strategy``.

    Args:
        labels: ``(N,)`` class indices or names, one class per item.
        sampling_strategy: which classes are resampled, and to how many samples.

            - ``"over"``: every class as often as the largest class;
            - ``"under"``: every class as often as the smallest class that has items;
            - ``"minority"``, ``"not minority"``, ``"not majority"``, ``"majority"``, ``"all"``: the smallest class, all
              but the smallest, all but the largest, the largest, or all classes, resampled as ``sampling_type`` says:
              up to the largest class, or down to the smallest. ``"auto"`` is ``"not majority"`` for oversampling and
              ``"not minority"`` for undersampling;
            - a ratio in (0, 1]: every class below ratio × the largest count is raised to it, and the others stay as
              they are. With ``sampling_type``, imbalanced-learn's ratio of minority to majority after resampling, for
              two classes only;
            - ``{class: count}``: these numbers for these classes; the others stay as they are. With ``sampling_type``,
              none below (``"over"``) or above (``"under"``) the number of items;
            - a function of the ``(N,)`` labels that returns such a dictionary.
        sampling_type: ``"over"`` or ``"under"``; None stands for ``"over"`` where a name needs one, but for
            ``"under"`` with ``"majority"``, and sets no limits to ratios and counts.
        seed: at least 0; seed and epoch determine the order.
        num_classes: C, if the labels do not contain all classes.

    Raises:
        ArgumentError: an unknown strategy, a ratio outside (0, 1], an unknown class, samples of a class without items,
            or a strategy that ``sampling_type`` does not have.
        ArgumentTypeError: labels that are neither whole numbers nor strings.

    Example:
        >>> sampler = ResampleSampler([0] * 6 + [1] * 2, sampling_strategy="over")
        >>> sorted(sampler)
        [0, 1, 2, 3, 4, 5, 6, 6, 6, 7, 7, 7]
        >>> len(ResampleSampler([0] * 6 + [1] * 2, sampling_strategy="under"))
        4
        >>> ResampleSampler([0] * 6 + [1] * 3 + [2], sampling_strategy="minority").counts
        array([6, 3, 6])
    """

    def __init__(
        self,
        labels: Any,
        *,
        sampling_strategy: SamplingStrategy = "over",
        sampling_type: SamplingType | None = None,
        seed: int = 0,
        num_classes: int | None = None,
    ) -> None:
        membership = Membership.read(labels, num_classes=num_classes)
        if membership.owners is not None:
            raise ArgumentError("`labels` must have one class per item; for several use RepeatFactorSampler")
        super().__init__(ClassIndex(membership), seed=seed)
        check_options("sampler", "resample", {"sampling_type": sampling_type})
        if callable(sampling_strategy):
            sampling_strategy = _returned_counts(sampling_strategy, membership)
        self.counts = _resampled_counts(self._index, sampling_strategy, sampling_type)
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


def _returned_counts(
    strategy: Callable[[NDArray[Any]], Mapping[Any, int]], membership: Membership
) -> Mapping[Any, int]:
    """The counts that a function of the labels returns; it sees indices, or names where the labels have names."""
    numbered = membership.names == tuple(str(c) for c in range(len(membership.names)))
    counts = strategy(membership.classes if numbered else np.asarray(membership.names)[membership.classes])
    if not isinstance(counts, Mapping):
        raise ArgumentTypeError(
            f"`sampling_strategy` must return a dictionary of class to count; it returned {type(counts).__name__}"
        )
    return counts


def _resampled_counts(index: ClassIndex, strategy: Any, sampling_type: SamplingType | None) -> NDArray[np.int64]:
    if isinstance(strategy, Mapping):
        return _given_counts(index, strategy, sampling_type)
    if isinstance(strategy, bool) or not isinstance(strategy, (str, int, float, np.number)):
        raise ArgumentTypeError(
            "`sampling_strategy` must be a name such as 'over', a number above 0 and at most 1, a dictionary of class "
            f"to count, or a function of the labels; got {type(strategy).__name__}"
        )
    check_options("sampler", "resample", {"sampling_strategy": strategy})
    if isinstance(strategy, str):
        return _counts_by_name(index.counts, strategy, sampling_type)
    if sampling_type is not None:
        return _binary_ratio(index.counts, float(strategy), sampling_type)
    goal = round(strategy * int(index.counts.max()))
    return np.where(index.counts > 0, np.maximum(index.counts, goal), 0).astype(np.int64)


def _counts_by_name(counts: NDArray[np.int64], name: str, sampling_type: SamplingType | None) -> NDArray[np.int64]:
    """The chosen classes as often as the largest (oversampling) or the smallest class (undersampling)."""
    only = {"over": "over", "minority": "over", "under": "under", "majority": "under"}.get(name)
    if only is not None and sampling_type not in (None, only):
        raise ArgumentError(
            f'`sampling_strategy="{name}"` needs `sampling_type="{only}"`, or None; got "{sampling_type}"'
        )
    over = (only or sampling_type or "over") == "over"
    present = counts > 0
    smallest = int(np.where(present, counts, np.iinfo(np.int64).max).argmin())
    largest = int(counts.argmax())
    if name == "auto":
        name = "not majority" if over else "not minority"
    chosen = present.copy()
    if name in ("minority", "majority"):
        chosen[:] = False
        chosen[smallest if name == "minority" else largest] = True
    elif name in ("not minority", "not majority"):
        chosen[smallest if name == "not minority" else largest] = False
    return np.where(chosen, counts[largest] if over else counts[smallest], counts).astype(np.int64)


def _binary_ratio(counts: NDArray[np.int64], ratio: float, sampling_type: SamplingType) -> NDArray[np.int64]:
    """Two classes at a ratio of minority to majority, reached by adding to the one or removing from the other."""
    present = np.flatnonzero(counts)
    if len(present) != 2:
        raise ArgumentError(
            f"`sampling_strategy` of {ratio:g} with `sampling_type` needs two classes; there are {len(present)}. Give "
            "{class: count}, or leave `sampling_type` out, which raises every class to that share of the largest"
        )
    resampled, c = counts.copy(), present[counts[present].argmax()]
    other = int(present.sum() - c)
    large, small = int(counts[c]), int(counts[other])
    if sampling_type == "over":
        added = int(large * ratio - small)
        if added <= 0:
            raise ArgumentError(
                f"`sampling_strategy` must be above {small / large:.4g}, the ratio of the classes as they are, for "
                f"oversampling to add items; got {ratio:g}"
            )
        resampled[other] += added
    else:
        resampled[c] = int(small / ratio)
        if resampled[c] > large:
            raise ArgumentError(
                f"`sampling_strategy` must be at least {small / large:.4g}, the ratio of the classes as they are, for "
                f"undersampling to remove items; got {ratio:g}"
            )
    return resampled


def _given_counts(
    index: ClassIndex, strategy: Mapping[Any, int], sampling_type: SamplingType | None
) -> NDArray[np.int64]:
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
        wrong = {"over": counts[c] < index.counts[c], "under": counts[c] > index.counts[c]}
        if sampling_type is not None and wrong[sampling_type]:
            bound = "at least" if sampling_type == "over" else "at most"
            raise ArgumentError(
                f"`sampling_strategy[{name!r}]` must be {bound} {index.counts[c]}, the items of the class, with "
                f'`sampling_type="{sampling_type}"`; got {count}. Leave `sampling_type` out to allow it'
            )
    return counts
