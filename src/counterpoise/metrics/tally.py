"""Metrics of predicted classes, all computed from three sums per class.

The functions of a `Tally` accept any leading axes (resamples, seeds), so one definition serves plain values and the
bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.checks import checked_indices, checked_number
from counterpoise.core.counts import FEW, MANY, ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """Images per class, each float64 ``(..., C)``: with this label, predicted as this class, and both."""

    support: FloatArray
    true_positives: FloatArray
    predicted: FloatArray

    @property
    def recall(self) -> FloatArray:
        """TP / support; NaN for a class without images."""
        return self.true_positives / _nan_if_zero(self.support)

    @property
    def precision(self) -> FloatArray:
        """TP / predicted; NaN for a class that is never predicted."""
        return self.true_positives / _nan_if_zero(self.predicted)

    @property
    def f1(self) -> FloatArray:
        """2 TP / (support + predicted); NaN for a class without images, 0 for one that is never predicted."""
        return 2 * self.true_positives / np.where(self.support > 0, self.support + self.predicted, np.nan)


def tally(labels: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None) -> Tally:
    """Count ``(N,)`` labels and predictions per class.

    Args:
        labels: ``(N,)`` class indices.
        predictions: ``(N,)`` predicted class indices.
        num_classes: C; None for the largest index plus one.

    Raises:
        ArgumentError: the shapes differ, an index is negative, or not less than ``num_classes``.
        ArgumentTypeError: an argument does not hold whole numbers.

    Example:
        >>> tally([0, 0, 1], [0, 1, 1]).recall
        array([0.5, 1. ])
    """
    a, b = checked_pair(labels, predictions)
    size = num_classes_of(num_classes, a, b)
    counts = (np.bincount(x, minlength=size).astype(np.float64) for x in (a, a[a == b], b))
    return Tally(*counts)


def checked_pair(labels: ArrayLike, predictions: ArrayLike) -> tuple[IntArray, IntArray]:
    """Return labels and predictions as int64 ``(N,)``."""
    a, b = checked_indices("labels", labels), checked_indices("predictions", predictions)
    if a.ndim != 1 or a.shape != b.shape:
        raise ArgumentError(f"`labels` and `predictions` must both have shape (N,); got {a.shape} and {b.shape}")
    return a, b


def num_classes_of(num_classes: int | None, *indices: IntArray) -> int:
    """Return ``num_classes``, or one more than the largest index; an index beyond ``num_classes`` is an error."""
    largest = max((int(array.max()) for array in indices if array.size), default=-1)
    if num_classes is None:
        return largest + 1
    if largest >= num_classes:
        raise ArgumentError(
            f"`num_classes` must be at least {largest + 1}, as class {largest} occurs; got {num_classes}"
        )
    return num_classes


def _nan_if_zero(counts: FloatArray) -> FloatArray:
    return np.where(counts > 0, counts, np.nan)


def _mean_over(values: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    """Mean over the last axis of the values with a true ``mask``; NaN without any."""
    number = mask.sum(axis=-1)
    mean: FloatArray = np.where(mask, values, 0.0).sum(axis=-1) / np.where(number > 0, number, np.nan)
    return mean


def _accuracy(t: Tally) -> FloatArray:
    correct: FloatArray = t.true_positives.sum(axis=-1)
    return correct / _nan_if_zero(t.support.sum(axis=-1))


def _balanced_accuracy(t: Tally) -> FloatArray:
    return _mean_over(t.recall, t.support > 0)


def _macro_f1(t: Tally) -> FloatArray:
    return _mean_over(t.f1, t.support > 0)


def _geometric_mean(t: Tally) -> FloatArray:
    with np.errstate(divide="ignore"):  # log 0 = -inf, and exp(-inf) = 0 is the right result
        return np.exp(_mean_over(np.log(t.recall), t.support > 0))


@dataclass(frozen=True)
class Metric:
    """A function of a `Tally`; with ``merge`` ``(C,)``, of the tally of the classes merged as it says."""

    value: Callable[[Tally], FloatArray]
    merge: IntArray | None = None

    def of_confusion(self, matrix: ArrayLike) -> float:
        """The metric from a confusion matrix ``(C, C)``, rows by label and columns by prediction.

        Example:
            >>> group_false_positives(np.array([False, False, True])).of_confusion([[3, 0, 1], [0, 4, 0], [0, 1, 1]])
            0.125
        """
        counts = np.asarray(matrix, dtype=np.float64)
        if self.merge is not None:
            groups = np.eye(max(2, int(self.merge.max(initial=0)) + 1))[self.merge]
            counts = groups.T @ counts @ groups
        return float(self.value(Tally(counts.sum(axis=1), counts.diagonal(), counts.sum(axis=0))))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy),
    "balanced_accuracy": Metric(_balanced_accuracy),
    "macro_f1": Metric(_macro_f1),
    "geometric_mean": Metric(_geometric_mean),
}
"""The metrics of predicted classes by name."""


def group_recall(members: ArrayLike) -> Metric:
    """The mean recall of a group of classes, over those that have images.

    Args:
        members: boolean ``(C,)``: which classes are in the group.

    Example:
        >>> float(group_recall(np.array([False, True])).value(tally([0, 1, 1], [0, 1, 0])))
        0.5
    """
    mask = _checked_members(members)
    return Metric(lambda t: _mean_over(t.recall, mask & (t.support > 0)))


def group_false_positives(members: ArrayLike) -> Metric:
    """The images of other classes that are predicted as a class of the group, as a share of the other classes' images.

    NaN if the group is empty or contains every class.

    Args:
        members: boolean ``(C,)``: which classes are in the group.

    Example:
        >>> rare = group_false_positives(np.array([False, False, True]))
        >>> from counterpoise.metrics import paired_bootstrap
        >>> round(paired_bootstrap([0, 1, 2, 2], [0, 1, 1, 2], [0, 0, 1, 2], metric=rare).estimate, 3)
        0.333
    """
    mask = _checked_members(members)

    def value(t: Tally) -> FloatArray:
        wrong = t.predicted[..., 1] - t.true_positives[..., 1]
        return wrong / np.where(mask.any(), _nan_if_zero(t.support[..., 0]), np.nan)

    return Metric(value, merge=mask.astype(np.int64))


def _checked_members(members: ArrayLike) -> NDArray[np.bool_]:
    mask = np.asarray(members)
    if mask.dtype != np.bool_ or mask.ndim != 1:
        raise ArgumentError(f"`members` must be booleans of shape (C,); got {mask.dtype} of shape {mask.shape}")
    return mask


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None) -> IntArray:
    """The confusion matrix, int64 ``(C, C)``: row i, column j counts the images of class i predicted as class j.

    Arguments and errors are those of `tally`.

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1])
        array([[1, 1],
               [0, 1]])
    """
    a, b = checked_pair(labels, predictions)
    size = num_classes_of(num_classes, a, b)
    return np.bincount(a * size + b, minlength=size * size).reshape(size, size)


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The share of correct predictions; NaN without images. Arguments and errors are those of `tally`.

    Example:
        >>> accuracy([0, 0, 0, 1], [0, 0, 0, 0])
        0.75
    """
    return _value("accuracy", labels, predictions)


def balanced_accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The mean recall of the classes that occur in ``labels``; NaN without images.

    A class that is only predicted has no recall and does not count. Arguments and errors are those of `tally`.

    Reference: Brodersen et al., The Balanced Accuracy and Its Posterior Distribution, ICPR 2010.

    Example:
        >>> round(balanced_accuracy([0, 0, 0, 1], [0, 0, 2, 1]), 4)
        0.8333
    """
    return _value("balanced_accuracy", labels, predictions)


def macro_f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The mean F1 of the classes that occur in ``labels``; a class that is never predicted has F1 0.

    Arguments and errors are those of `tally`.

    Example:
        >>> macro_f1([0, 0, 1, 1], [0, 0, 1, 0])
        0.7333333333333334
    """
    return _value("macro_f1", labels, predictions)


def geometric_mean(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The geometric mean of the recalls of the classes that occur in ``labels``; 0 if any of them is 0.

    Arguments and errors are those of `tally`.

    Reference: Kubat and Matwin, Addressing the Curse of Imbalanced Training Sets, ICML 1997.

    Example:
        >>> round(geometric_mean([0, 0, 1, 1], [0, 0, 1, 0]), 4)
        0.7071
    """
    return _value("geometric_mean", labels, predictions)


def _value(name: str, labels: ArrayLike, predictions: ArrayLike) -> float:
    return float(METRICS[name].value(tally(labels, predictions)))


class Rates(NamedTuple):
    """A rate per class with its confidence interval, each float64 ``(C,)`` in [0, 1]; NaN where nothing was counted."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray


def wilson_interval(successes: ArrayLike, trials: ArrayLike, *, confidence: float = 0.95) -> Rates:
    """Proportions with Wilson score intervals, element by element; NaN where ``trials`` is 0.

    Args:
        successes: numbers in ``0 .. trials``, of any shape.
        trials: numbers of at least 0; broadcast against ``successes``.
        confidence: coverage of the interval, between 0 and 1.

    Raises:
        ArgumentError: ``confidence`` is not in (0, 1), or ``successes`` is not in ``0 .. trials``.

    Reference: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 1927.

    Example:
        >>> rate = wilson_interval([0, 8, 5], [10, 10, 0])
        >>> rate.low.round(3), rate.high.round(3)
        (array([0.  , 0.49,  nan]), array([0.278, 0.943,   nan]))
    """
    z = NormalDist().inv_cdf(0.5 + checked_number("confidence", confidence, above=0.0, below=1.0) / 2)
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    impossible = (n > 0) & ((k < 0) | (k > n))
    if impossible.any():
        i = int(np.argmax(impossible))
        raise ArgumentError(f"`successes` must lie in 0 .. `trials`; element {i} is {k.flat[i]:g} of {n.flat[i]:g}")
    n = np.where(n > 0, n, np.nan)
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At k = 0 and k = n the bound is exactly 0 or 1; the subtraction would leave a rounding error.
    low = np.where(k == 0, np.where(np.isnan(n), math.nan, 0.0), centre - half)
    high = np.where(k == n, 1.0, centre + half)
    return Rates(p, low, high)


def per_class_recall(
    labels: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None, confidence: float = 0.95
) -> Rates:
    """The recall of every class with Wilson's interval; NaN for a class that does not occur in ``labels``.

    Arguments are those of `tally` and `wilson_interval`.

    Example:
        >>> recall, low, high = per_class_recall([0, 0, 0, 1], [0, 0, 2, 1])
        >>> recall.round(3), low.round(3)
        (array([0.667, 1.   ,   nan]), array([0.208, 0.207,   nan]))
    """
    t = tally(labels, predictions, num_classes=num_classes)
    return wilson_interval(t.true_positives, t.support, confidence=confidence)


def per_class_precision(
    labels: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None, confidence: float = 0.95
) -> Rates:
    """The precision of every class with Wilson's interval; NaN for a class that is never predicted.

    Arguments are those of `tally` and `wilson_interval`.

    Example:
        >>> per_class_precision([0, 0, 1], [0, 1, 1], num_classes=3).estimate
        array([1. , 0.5, nan])
    """
    t = tally(labels, predictions, num_classes=num_classes)
    return wilson_interval(t.true_positives, t.predicted, confidence=confidence)


def per_class_f1(labels: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None) -> FloatArray:
    """The F1 of every class, float64 ``(C,)``; NaN for a class that does not occur in ``labels``.

    Arguments and errors are those of `tally`.

    Example:
        >>> per_class_f1([0, 0, 1, 1], [0, 0, 1, 0]).round(3)
        array([0.8  , 0.667])
    """
    return tally(labels, predictions, num_classes=num_classes).f1


def shot_accuracy(
    labels: ArrayLike, predictions: ArrayLike, counts: CountsLike, *, many: int = MANY, few: int = FEW
) -> dict[str, float]:
    """The mean recall of the classes with many, medium and few *training* images.

    Args:
        labels: ``(N,)`` class indices.
        predictions: ``(N,)`` predicted class indices.
        counts: training images per class, ``(C,)``.
        many: classes with more training images than this form the group "many".
        few: classes with fewer training images than this form the group "few".

    Returns:
        ``{"many": …, "medium": …, "few": …}``; NaN for a group without a class that occurs in ``labels``.

    Reference: Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019 (arXiv:1904.05160).

    Example:
        >>> shot_accuracy([0, 0, 1, 1, 2], [0, 0, 1, 0, 0], [500, 50, 5])
        {'many': 1.0, 'medium': 0.5, 'few': 0.0}
    """
    train = ClassCounts(counts)
    t = tally(labels, predictions, num_classes=train.num_classes)
    return {
        group: float(group_recall(np.isin(np.arange(train.num_classes), members)).value(t))
        for group, members in train.groups(many, few).items()
    }
