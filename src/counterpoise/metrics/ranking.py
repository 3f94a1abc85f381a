"""Metrics of rankings: average precision."""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.checks import checked_indices
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.metrics.tally import FloatArray


@overload
def average_precision(labels: ArrayLike, scores: ArrayLike, *, average: Literal["macro"] = "macro") -> float: ...
@overload
def average_precision(labels: ArrayLike, scores: ArrayLike, *, average: None) -> FloatArray: ...


def average_precision(
    labels: ArrayLike, scores: ArrayLike, *, average: Literal["macro"] | None = "macro"
) -> float | FloatArray:
    """Average precision ``sum_k (R_k − R_{k−1}) P_k`` over the distinct scores, computed by scikit-learn.

    Args:
        labels: 0/1 targets with the shape of ``scores``, or class indices ``(N,)`` with scores ``(N, C)`` (each class
            against the others).
        scores: ``(N,)`` or ``(N, C)``, larger for positives; logits, log-probabilities and probabilities all work.
        average: ``"macro"`` for the mean over the classes that have a positive, None for every class.

    Returns:
        A number, NaN without positives; with ``average=None`` float64 ``(C,)``, NaN for a class without positives.

    Raises:
        ArgumentError: the shapes do not match, a label is not 0 or 1, or a score is NaN.
        ArgumentTypeError: scores that are not numbers.

    Example:
        >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 3)
        0.833
        >>> average_precision([[1, 0], [0, 0]], [[0.9, 0.2], [0.3, 0.1]], average=None)
        array([ 1., nan])
    """
    from sklearn.metrics import average_precision_score

    if average not in ("macro", None):
        raise ArgumentError(f"`average` must be 'macro' or None; got {average!r}")
    positive, values = _one_against_rest(labels, scores)
    values = np.nan_to_num(values)  # scikit-learn refuses the scores -inf of excluded classes
    result = np.full(positive.shape[1], np.nan)
    for c in np.flatnonzero(positive.any(axis=0)):
        result[c] = average_precision_score(positive[:, c], values[:, c])
    if average is None:
        return result
    return float(np.nanmean(result)) if positive.any() else float("nan")


def _one_against_rest(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], FloatArray]:
    """Positives and scores, both ``(N, C)``."""
    y, s = np.asarray(labels), np.asarray(scores)
    if s.dtype.kind not in "fiu" or s.ndim not in (1, 2):
        raise ArgumentTypeError(f"`scores` must be numbers of shape (N,) or (N, C); got {s.dtype} of shape {s.shape}")
    if np.isnan(s).any():
        raise ArgumentError(f"`scores` must not be NaN; row {int(np.argwhere(np.isnan(s))[0][0])} has NaN")
    if s.ndim == 2 and y.shape == s.shape[:1]:
        indices = checked_indices("labels", y, num_classes=s.shape[1])
        return indices[:, None] == np.arange(s.shape[1]), s.astype(np.float64)
    if y.shape != s.shape:
        raise ArgumentError(f"`labels` must have the shape of `scores`, {s.shape}, or (N,); got {y.shape}")
    bad = ~np.isin(y, (0, 1))
    if bad.any():
        raise ArgumentError(f"`labels` must be 0 or 1 if they have the shape of `scores`; got {y[bad][0]!r}")
    columns = s.shape[1] if s.ndim == 2 else 1
    return y.astype(bool).reshape(-1, columns), s.astype(np.float64).reshape(-1, columns)
