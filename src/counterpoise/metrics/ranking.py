"""Metrics of rankings: average precision."""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.metrics.inputs import FloatArray, class_indices, num_classes_of

__all__ = ["average_precision"]


@overload
def average_precision(labels: ArrayLike, scores: ArrayLike, *, average: Literal["macro"] = "macro") -> float: ...
@overload
def average_precision(labels: ArrayLike, scores: ArrayLike, *, average: None) -> FloatArray: ...


def average_precision(
    labels: ArrayLike, scores: ArrayLike, *, average: Literal["macro"] | None = "macro"
) -> float | FloatArray:
    """Average precision ``sum_k (R_k - R_{k-1}) P_k`` over the distinct scores, as scikit-learn's.

    ``labels`` are 0/1 with the shape of ``scores``, ``(N,)`` or ``(N, C)`` (multi-label), or class indices ``(N,)``
    with scores ``(N, C)`` (each class against the rest). ``average="macro"`` is the mean over the classes that have
    a positive; ``None`` gives float64 ``(C,)`` with NaN for a class without one.

    Raises:
        ArgumentError: the shapes do not fit, a label is not 0 or 1, or a score is NaN.

    Example:
        >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 3)
        0.833
        >>> average_precision([[1, 0], [0, 0]], [[0.9, 0.2], [0.3, 0.1]], average=None)
        array([ 1., nan])
    """
    if average not in ("macro", None):
        raise ArgumentError(f"`average` must be 'macro' or None; got {average!r}")
    positive, values = _one_against_rest(labels, scores)
    result = np.array([_average_precision(positive[:, c], values[:, c]) for c in range(values.shape[1])])
    if average is None:
        return result
    defined = ~np.isnan(result)
    return float(result[defined].mean()) if defined.any() else float("nan")


def _one_against_rest(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], FloatArray]:
    y, s = np.asarray(labels), np.asarray(scores)
    if s.dtype.kind not in "fiu" or s.ndim not in (1, 2):
        raise ArgumentTypeError(f"`scores` must be numbers of shape (N,) or (N, C); got {s.dtype} of shape {s.shape}")
    if np.isnan(s).any():
        raise ArgumentError(f"`scores` row {int(np.argwhere(np.isnan(s))[0][0])} has NaN, which has no rank")
    if s.ndim == 2 and y.shape == s.shape[:1]:
        indices = class_indices(y, "labels")
        num_classes_of(s.shape[1], indices)
        return indices[:, None] == np.arange(s.shape[1]), s.astype(np.float64)
    if y.shape != s.shape:
        raise ArgumentError(f"`labels` {y.shape} do not fit `scores` {s.shape}")
    bad = ~np.isin(y, (0, 1))
    if bad.any():
        raise ArgumentError(f"`labels` must be 0 or 1 where they have the shape of `scores`; got {y[bad][0]!r}")
    columns = s.shape[1] if s.ndim == 2 else 1
    return y.astype(bool).reshape(-1, columns), s.astype(np.float64).reshape(-1, columns)


def _average_precision(positive: NDArray[np.bool_], scores: FloatArray) -> float:
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(positive[order]), scores[order]
    # Equal scores enter together: a threshold lies only where the score changes.
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    precision, recall = hits[ends] / (ends + 1.0), hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))
