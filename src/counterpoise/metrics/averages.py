"""Averages over the classes: accuracy, balanced accuracy, macro F1, geometric mean, recall by number of images."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.checks import checked_choice, checked_indices, checked_number
from counterpoise.core.counts import FEW, MANY, ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.metrics.rates import ZeroDivision, f1_with_zero_division
from counterpoise.metrics.tally import (
    METRICS,
    Tally,
    checked_pair,
    group_recall,
    labels_come_first,
    mean_over,
    num_classes_of,
    tally,
)

Classes = ArrayLike | Literal["present", "union"]


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


@labels_come_first
def macro_f1(
    labels: ArrayLike, predictions: ArrayLike, *, classes: Classes = "present", zero_division: ZeroDivision = "warn"
) -> float:
    """The mean F1 of the classes that occur in ``labels``, or of other classes; one that is never predicted has F1 0.

    With ``classes="union"`` it is ``sklearn.metrics.f1_score(labels, predictions, average="macro")``, and with indices
    the same with ``labels=classes``.

    Args:
        labels: ``(N,)`` class indices.
        predictions: ``(N,)`` predicted class indices.
        classes: the classes that enter the mean. "present": those that occur in ``labels``; "union": those that occur
            in ``labels`` or in ``predictions``, where a class without images has F1 0; or distinct class indices.
        zero_division: the F1 of a class that occurs neither in ``labels`` nor in ``predictions``: 0, 1, NaN (the class
            is left out of the mean), or "warn" for 0 with a warning. Only ``classes`` given as indices can have one.

    Raises:
        ArgumentError: the shapes differ, an index is negative, or ``classes`` or ``zero_division`` cannot be used.
        ArgumentTypeError: an argument does not hold whole numbers.

    Example:
        >>> macro_f1([0, 0, 1, 1], [0, 0, 1, 0])
        0.7333333333333334
        >>> [round(macro_f1([0, 0, 1, 1], [0, 0, 2, 1], classes=which), 4) for which in ("present", "union")]
        [0.8333, 0.5556]
    """
    t, chosen = _tally_of(labels, predictions, classes)
    values = f1_with_zero_division(t, chosen, zero_division)
    return float(mean_over(values, chosen & ~np.isnan(values)))


@labels_come_first
def geometric_mean(
    labels: ArrayLike, predictions: ArrayLike, *, correction: float = 0.0, classes: Classes = "present"
) -> float:
    """The geometric mean of the recalls of the classes that occur in ``labels``; 0 if any of them is 0.

    With ``classes="union"`` it is ``geometric_mean_score(labels, predictions, correction=correction)`` of
    imbalanced-learn, and with indices the same with ``labels=classes``.

    Args:
        labels: ``(N,)`` class indices.
        predictions: ``(N,)`` predicted class indices.
        correction: replaces a recall of 0, in [0, 1], so that one class without a correct prediction does not make the
            mean 0.
        classes: the classes that enter the mean. "present": those that occur in ``labels``; "union": those that occur
            in ``labels`` or in ``predictions``, where a class without images has recall 0; or distinct class indices.

    Raises:
        ArgumentError: the shapes differ, an index is negative, or ``classes`` or ``correction`` cannot be used.
        ArgumentTypeError: an argument does not hold whole numbers.

    Reference: Kubat and Matwin, Addressing the Curse of Imbalanced Training Sets, ICML 1997.

    Example:
        >>> round(geometric_mean([0, 0, 1, 1], [0, 0, 1, 0]), 4)
        0.7071
        >>> round(geometric_mean([0, 0, 1, 1], [0, 0, 0, 0], correction=0.01), 4)
        0.1
    """
    least = checked_number("correction", correction, minimum=0.0, maximum=1.0)
    t, chosen = _tally_of(labels, predictions, classes)
    recall = np.where(t.true_positives > 0, t.recall, least)
    with np.errstate(divide="ignore"):  # log 0 = -inf, and exp(-inf) = 0 is the right result
        return float(np.exp(mean_over(np.log(recall), chosen)))


def _tally_of(labels: ArrayLike, predictions: ArrayLike, classes: Classes) -> tuple[Tally, NDArray[np.bool_]]:
    """The tally, and which of its classes ``classes`` means, boolean ``(C,)``."""
    if isinstance(classes, str):
        checked_choice("classes", classes, ("present", "union"))
        t = tally(labels, predictions)
        return t, (t.support > 0) | ((classes == "union") & (t.predicted > 0))
    chosen = checked_indices("classes", classes)
    if chosen.ndim != 1 or not chosen.size or len(np.unique(chosen)) < chosen.size:
        raise ArgumentError(f"`classes` must be distinct class indices, at least one; got {np.asarray(classes)}")
    size = num_classes_of(None, *checked_pair(labels, predictions), chosen)
    return tally(labels, predictions, num_classes=size), np.isin(np.arange(size), chosen)


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


def _value(name: str, labels: ArrayLike, predictions: ArrayLike) -> float:
    return float(METRICS[name].value(tally(labels, predictions)))
