"""Metrics of predicted classes, all computed from three sums per class.

The functions of a `Tally` accept any leading axes (resamples, seeds), so one definition serves plain values and the
bootstrap.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.checks import checked_indices
from counterpoise.core.confusion import ConfusionMatrix, cells_of
from counterpoise.core.errors import ArgumentError, ArgumentTypeError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Tally:
    """Images per class, each float64 ``(..., C)``: with this label, predicted as this class, and both."""

    support: FloatArray
    true_positives: FloatArray
    predicted: FloatArray

    @property
    def recall(self) -> FloatArray:
        """TP / support; NaN for a class without images."""
        return self.true_positives / nan_if_zero(self.support)

    @property
    def precision(self) -> FloatArray:
        """TP / predicted; NaN for a class that is never predicted."""
        return self.true_positives / nan_if_zero(self.predicted)

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


def labels_come_first(function: Callable[P, R]) -> Callable[P, R]:
    """Explain ``labels=`` beside two positional arguments, which is scikit-learn's name for the classes to average."""
    parameters = list(inspect.signature(function).parameters)
    ours = next((name for name in ("classes", "num_classes") if name in parameters), "")

    @functools.wraps(function)
    def explained(*arguments: P.args, **keywords: P.kwargs) -> R:
        if "labels" in keywords and len(arguments) > parameters.index("labels"):
            instead = f"; for scikit-learn's `labels=` pass `{ours}=`" if ours else "; omit it, all classes count"
            raise ArgumentTypeError(f"`labels` of {function.__name__} are the true classes, given first{instead}")
        return function(*arguments, **keywords)

    return explained


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


def nan_if_zero(counts: FloatArray) -> FloatArray:
    """The counts with NaN for 0, to divide by."""
    return np.where(counts > 0, counts, np.nan)


def mean_over(values: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    """Mean over the last axis of the values with a true ``mask``; NaN without any."""
    number = mask.sum(axis=-1)
    mean: FloatArray = np.where(mask, values, 0.0).sum(axis=-1) / np.where(number > 0, number, np.nan)
    return mean


def _accuracy(t: Tally) -> FloatArray:
    correct: FloatArray = t.true_positives.sum(axis=-1)
    return correct / nan_if_zero(t.support.sum(axis=-1))


def _balanced_accuracy(t: Tally) -> FloatArray:
    return mean_over(t.recall, t.support > 0)


def _macro_f1(t: Tally) -> FloatArray:
    return mean_over(t.f1, t.support > 0)


def _geometric_mean(t: Tally) -> FloatArray:
    with np.errstate(divide="ignore"):  # log 0 = -inf, and exp(-inf) = 0 is the right result
        return np.exp(mean_over(np.log(t.recall), t.support > 0))


def _worst_recall(t: Tally) -> FloatArray:
    least: FloatArray = np.where(t.support > 0, t.recall, np.inf).min(axis=-1, initial=np.inf)
    return np.where(np.isinf(least), np.nan, least)


@dataclass(frozen=True)
class Metric:
    """A function of a `Tally`; with ``merge`` ``(C,)``, of the tally of the classes merged as it says."""

    value: Callable[[Tally], FloatArray]
    merge: IntArray | None = None

    def of_confusion(self, matrix: ArrayLike | ConfusionMatrix) -> float:
        """The metric from a confusion matrix ``(C, C)``, rows by label and columns by prediction.

        Example:
            >>> group_false_positives(np.array([False, False, True])).of_confusion([[3, 0, 1], [0, 4, 0], [0, 1, 1]])
            0.125
        """
        labels, predictions, counts, size = cells_of(matrix)
        if self.merge is not None:
            labels, predictions = self.merge[labels], self.merge[predictions]
            size = max(2, int(self.merge.max(initial=0)) + 1)
        correct = labels == predictions
        cells = ((labels, counts), (labels[correct], counts[correct]), (predictions, counts))
        return float(self.value(Tally(*(np.bincount(c, n, size).astype(np.float64) for c, n in cells))))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy),
    "balanced_accuracy": Metric(_balanced_accuracy),
    "macro_f1": Metric(_macro_f1),
    "geometric_mean": Metric(_geometric_mean),
    "worst_recall": Metric(_worst_recall),
}
"""The metrics of predicted classes by name; worst_recall is the smallest recall of a class that has images."""


def group_recall(members: ArrayLike) -> Metric:
    """The mean recall of a group of classes, over those that have images.

    Args:
        members: boolean ``(C,)``: which classes are in the group.

    Example:
        >>> float(group_recall(np.array([False, True])).value(tally([0, 1, 1], [0, 1, 0])))
        0.5
    """
    mask = _checked_members(members)
    return Metric(lambda t: mean_over(t.recall, mask & (t.support > 0)))


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
        return wrong / np.where(mask.any(), nan_if_zero(t.support[..., 0]), np.nan)

    return Metric(value, merge=mask.astype(np.int64))


def _checked_members(members: ArrayLike) -> NDArray[np.bool_]:
    mask = np.asarray(members)
    if mask.dtype != np.bool_ or mask.ndim != 1:
        raise ArgumentError(f"`members` must be booleans of shape (C,); got {mask.dtype} of shape {mask.shape}")
    return mask


@labels_come_first
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
