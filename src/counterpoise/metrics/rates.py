"""Recall, precision and F1 of every class, with intervals and scikit-learn's ``zero_division``."""

from __future__ import annotations

import math
import warnings
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.checks import checked_number
from counterpoise.core.errors import ArgumentError
from counterpoise.metrics.tally import FloatArray, Tally, labels_come_first, nan_if_zero, tally

ZeroDivision = float | Literal["warn"]


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


@labels_come_first
def per_class_recall(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    num_classes: int | None = None,
    confidence: float = 0.95,
    zero_division: ZeroDivision = math.nan,
) -> Rates:
    """The recall of every class with Wilson's interval.

    Arguments are those of `tally` and `wilson_interval`, and ``zero_division``, the recall of a class that does not
    occur in ``labels``: NaN, 0, 1, or "warn" for 0 with a warning. The interval of such a class is NaN.

    Example:
        >>> recall, low, high = per_class_recall([0, 0, 0, 1], [0, 0, 2, 1])
        >>> recall.round(3), low.round(3)
        (array([0.667, 1.   ,   nan]), array([0.208, 0.207,   nan]))
    """
    t = tally(labels, predictions, num_classes=num_classes)
    rates = wilson_interval(t.true_positives, t.support, confidence=confidence)
    message = "recall is undefined for {}, which do not occur in `labels`"
    return rates._replace(estimate=_filled(rates.estimate, t.support == 0, zero_division, message))


@labels_come_first
def per_class_precision(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    num_classes: int | None = None,
    confidence: float = 0.95,
    zero_division: ZeroDivision = math.nan,
) -> Rates:
    """The precision of every class with Wilson's interval.

    Arguments are those of `tally` and `wilson_interval`, and ``zero_division``, the precision of a class that is never
    predicted: NaN, 0, 1, or "warn" for 0 with a warning, as ``sklearn.metrics.precision_score`` takes it. The interval
    of such a class is NaN.

    Example:
        >>> per_class_precision([0, 0, 1], [0, 1, 1], num_classes=3).estimate
        array([1. , 0.5, nan])
        >>> per_class_precision([0, 0, 1], [0, 1, 1], num_classes=3, zero_division=0).estimate
        array([1. , 0.5, 0. ])
    """
    t = tally(labels, predictions, num_classes=num_classes)
    rates = wilson_interval(t.true_positives, t.predicted, confidence=confidence)
    message = "precision is undefined for {}, which are never predicted"
    return rates._replace(estimate=_filled(rates.estimate, t.predicted == 0, zero_division, message))


@labels_come_first
def per_class_f1(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    num_classes: int | None = None,
    zero_division: ZeroDivision | None = None,
) -> FloatArray:
    """The F1 of every class, float64 ``(C,)``; NaN for a class that does not occur in ``labels``.

    Arguments and errors are those of `tally`, and ``zero_division``. If it is given, the values are those of
    ``sklearn.metrics.f1_score(labels, predictions, average=None)``: a class that is only predicted has F1 0, and one
    that occurs nowhere has ``zero_division``: 0, 1, NaN, or "warn" for 0 with a warning.

    Example:
        >>> per_class_f1([0, 0, 1, 1], [0, 0, 1, 0]).round(3)
        array([0.8  , 0.667])
    """
    t = tally(labels, predictions, num_classes=num_classes)
    return (
        t.f1 if zero_division is None else f1_with_zero_division(t, np.ones(t.support.shape, dtype=bool), zero_division)
    )


def f1_with_zero_division(t: Tally, among: NDArray[np.bool_], value: ZeroDivision) -> FloatArray:
    """2 TP / (support + predicted), and ``value`` for the classes of ``among`` that never occur."""
    total = t.support + t.predicted
    values = 2 * t.true_positives / nan_if_zero(total)
    message = "F1 is undefined for {}, which occur nowhere"
    return _filled(values, among & (total == 0), value, message, stacklevel=5)


def _filled(
    values: FloatArray, undefined: NDArray[np.bool_], zero_division: Any, message: str, *, stacklevel: int = 4
) -> FloatArray:
    """The values with ``zero_division`` where they are undefined: scikit-learn's meaning of it."""
    if isinstance(zero_division, str) and zero_division == "warn":
        classes = np.flatnonzero(undefined)
        if len(classes):
            shown = ", ".join(map(str, classes[:5])) + (", …" if len(classes) > 5 else "")
            action = "pass `zero_division=0`, 1 or NaN to choose the value without this warning"
            # The caller's line: `labels_come_first` stands between it and the metric.
            warnings.warn(f"{message.format(f'classes {shown}')}, and is set to 0; {action}", stacklevel=stacklevel)
        return np.where(undefined, 0.0, values)
    if isinstance(zero_division, (int, float, np.number)) and (zero_division in (0, 1) or math.isnan(zero_division)):
        return np.where(undefined, float(zero_division), values)
    raise ArgumentError(f"`zero_division` must be 0, 1, NaN or 'warn'; got {zero_division!r}")
