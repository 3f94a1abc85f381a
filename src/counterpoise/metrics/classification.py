"""Metrics of hard predictions: class indices against class indices."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from counterpoise.core.counts import FEW, MANY, ClassCounts, CountsLike
from counterpoise.metrics.inputs import FloatArray, IntArray, check_pair, num_classes_of
from counterpoise.metrics.intervals import Rates, wilson_interval
from counterpoise.metrics.tally import METRICS, group_recall, tally

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "confusion_matrix",
    "geometric_mean",
    "macro_f1",
    "per_class_f1",
    "per_class_precision",
    "per_class_recall",
    "shot_accuracy",
]


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None) -> IntArray:
    """int64 ``(C, C)``: row i, column j counts images of class i predicted as class j.

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1])
        array([[1, 1],
               [0, 1]])
    """
    a, b = check_pair(labels, predictions)
    size = num_classes_of(num_classes, a, b)
    return np.bincount(a * size + b, minlength=size * size).reshape(size, size)


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of the ``(N,)`` rows that are right; NaN without rows.

    Example:
        >>> accuracy([0, 0, 0, 1], [0, 0, 0, 0])
        0.75
    """
    return _value("accuracy", labels, predictions)


def balanced_accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Mean recall of the classes that occur in ``labels``; NaN without rows.

    A class that is only ever predicted does not count as recall 0 (it has no recall).

    Raises:
        ArgumentError: the shapes differ, or an index is negative.
        ArgumentTypeError: an argument does not hold whole numbers.

    Example:
        >>> round(balanced_accuracy([0, 0, 0, 1], [0, 0, 2, 1]), 4)
        0.8333
    """
    return _value("balanced_accuracy", labels, predictions)


def macro_f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Mean F1 of the classes that occur in ``labels``; a class that is never predicted has F1 0.

    Example:
        >>> macro_f1([0, 0, 1, 1], [0, 0, 1, 0])
        0.7333333333333334
    """
    return _value("macro_f1", labels, predictions)


def geometric_mean(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Geometric mean of the recalls of the classes that occur in ``labels``: 0 as soon as one class is never found.

    Reference: Kubat and Matwin, Addressing the Curse of Imbalanced Training Sets, ICML 1997.

    Example:
        >>> round(geometric_mean([0, 0, 1, 1], [0, 0, 1, 0]), 4)
        0.7071
    """
    return _value("geometric_mean", labels, predictions)


def _value(name: str, labels: ArrayLike, predictions: ArrayLike) -> float:
    return float(METRICS[name].value(tally(labels, predictions)))


def per_class_recall(
    labels: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None, confidence: float = 0.95
) -> Rates:
    """Recall of every class with Wilson's interval: ``estimate, low, high``, each float64 ``(C,)``.

    NaN for a class that does not occur in ``labels``. ``num_classes`` defaults to the largest index plus one.

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
    """Precision of every class with Wilson's interval; NaN for a class that is never predicted.

    Example:
        >>> per_class_precision([0, 0, 1], [0, 1, 1], num_classes=3).estimate
        array([1. , 0.5, nan])
    """
    t = tally(labels, predictions, num_classes=num_classes)
    return wilson_interval(t.true_positives, t.predicted, confidence=confidence)


def per_class_f1(labels: ArrayLike, predictions: ArrayLike, *, num_classes: int | None = None) -> FloatArray:
    """F1 of every class, float64 ``(C,)``; NaN for a class that does not occur in ``labels``.

    Example:
        >>> per_class_f1([0, 0, 1, 1], [0, 0, 1, 0]).round(3)
        array([0.8  , 0.667])
    """
    return tally(labels, predictions, num_classes=num_classes).f1


def shot_accuracy(
    labels: ArrayLike, predictions: ArrayLike, counts: CountsLike, *, many: int = MANY, few: int = FEW
) -> dict[str, float]:
    """Mean recall of the classes with many (> ``many``), medium and few (< ``few``) *training* images.

    NaN for a group without a class that occurs in ``labels``. ``counts`` are the training counts ``(C,)``.

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
