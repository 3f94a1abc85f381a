"""Tally: the sums of images that every metric of hard predictions is a function of.

The metrics below take sums with any leading axes (resamples, seeds) and the classes last, so that one
definition serves the plain value and the bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.metrics.inputs import FloatArray, IntArray, check_pair, num_classes_of

__all__ = ["METRICS", "Metric", "Tally", "group_false_positives", "group_recall", "mean_over", "tally"]


@dataclass(frozen=True)
class Tally:
    """Images per class, float64 ``(..., C)``: labelled so, predicted so, and both."""

    support: FloatArray
    true_positives: FloatArray
    predicted: FloatArray

    @property
    def recall(self) -> FloatArray:
        """TP / support; NaN where a class has no image."""
        return self.true_positives / _nan_if_zero(self.support)

    @property
    def precision(self) -> FloatArray:
        """TP / predicted; NaN where a class is never predicted."""
        return self.true_positives / _nan_if_zero(self.predicted)

    @property
    def f1(self) -> FloatArray:
        """2 TP / (support + predicted); NaN where a class has no image, 0 where it has and is never predicted."""
        return 2 * self.true_positives / np.where(self.support > 0, self.support + self.predicted, np.nan)


def tally(labels: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None) -> Tally:
    """Count ``(N,)`` labels and predictions into sums per class.

    Example:
        >>> tally([0, 0, 1], [0, 1, 1]).recall
        array([0.5, 1. ])
    """
    a, b = check_pair(labels, predictions)
    size = num_classes_of(num_classes, a, b)
    counts = (np.bincount(x, minlength=size).astype(np.float64) for x in (a, a[a == b], b))
    return Tally(*counts)


def _nan_if_zero(counts: FloatArray) -> FloatArray:
    return np.where(counts > 0, counts, np.nan)


def mean_over(values: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    """Mean over the last axis where ``mask`` holds; NaN where it holds nowhere."""
    number = mask.sum(axis=-1)
    mean: FloatArray = np.where(mask, values, 0.0).sum(axis=-1) / np.where(number > 0, number, np.nan)
    return mean


def _accuracy(t: Tally) -> FloatArray:
    """Share of all images that are right."""
    correct: FloatArray = t.true_positives.sum(axis=-1)
    return correct / _nan_if_zero(t.support.sum(axis=-1))


def _balanced_accuracy(t: Tally) -> FloatArray:
    """Mean recall of the classes that have images."""
    return mean_over(t.recall, t.support > 0)


def _macro_f1(t: Tally) -> FloatArray:
    """Mean F1 of the classes that have images."""
    return mean_over(t.f1, t.support > 0)


def _geometric_mean(t: Tally) -> FloatArray:
    """Geometric mean of the recalls of the classes that have images; 0 where one of them is 0."""
    with np.errstate(divide="ignore"):  # log 0 = -inf, and exp(-inf) = 0 is the right answer
        return np.exp(mean_over(np.log(t.recall), t.support > 0))


@dataclass(frozen=True)
class Metric:
    """A function of a `Tally`; ``merge`` (C,) maps classes to the merged classes that it is counted on."""

    value: Callable[[Tally], FloatArray]
    merge: IntArray | None = None


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy),
    "balanced_accuracy": Metric(_balanced_accuracy),
    "macro_f1": Metric(_macro_f1),
    "geometric_mean": Metric(_geometric_mean),
}


def group_recall(members: ArrayLike) -> Metric:
    """Mean recall of the classes in the group that have images; ``members`` is boolean ``(C,)``."""
    mask = _members(members)
    return Metric(lambda t: mean_over(t.recall, mask & (t.support > 0)))


def group_false_positives(members: ArrayLike) -> Metric:
    """Images of the other classes that were predicted as a class of the group, as a share of the other classes' images.

    NaN where the group is empty or holds every class. ``members`` is boolean ``(C,)``.
    """
    mask = _members(members)

    def value(t: Tally) -> FloatArray:
        wrong = t.predicted[..., 1] - t.true_positives[..., 1]
        return wrong / np.where(mask.any(), _nan_if_zero(t.support[..., 0]), np.nan)

    return Metric(value, merge=mask.astype(np.int64))


def _members(members: ArrayLike) -> NDArray[np.bool_]:
    mask = np.asarray(members)
    if mask.dtype != np.bool_ or mask.ndim != 1:
        raise ArgumentError(f"`members` must be booleans of shape (C,); got {mask.dtype} of shape {mask.shape}")
    return mask
