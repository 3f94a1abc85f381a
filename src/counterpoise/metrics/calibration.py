"""How far the probabilities are from the frequencies. Probabilities are the softmax of the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from counterpoise.core.errors import ArgumentError
from counterpoise.metrics.inputs import FloatArray, IntArray, check_logits

__all__ = ["Reliability", "classwise_calibration_error", "expected_calibration_error", "reliability", "softmax"]


def softmax(logits: ArrayLike) -> FloatArray:
    """Softmax over the last axis in float64, stable for any finite logits; -inf gives exactly 0.

    Example:
        >>> softmax([[1e4, 1e4, -np.inf]])
        array([[0.5, 0.5, 0. ]])
    """
    z = np.asarray(logits, dtype=np.float64)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    probabilities: FloatArray = e / e.sum(axis=-1, keepdims=True)
    return probabilities


@dataclass(frozen=True)
class Reliability:
    """Bins of the top probability, (edges[b], edges[b+1]]: images, mean confidence and accuracy (NaN where empty)."""

    edges: FloatArray
    count: IntArray
    confidence: FloatArray
    accuracy: FloatArray


def reliability(labels: ArrayLike, logits: ArrayLike, *, bins: int = 15) -> Reliability:
    """The rows of a reliability diagram: ``bins`` bins of equal width over the top-label probability.

    Example:
        >>> reliability([0, 1], [[2.0, 0.0], [1.0, 0.0]], bins=2).accuracy
        array([nan, 0.5])
    """
    y, z = check_logits(labels, logits)
    edges = _edges(bins)
    if not len(y):
        nothing = np.full(bins, np.nan)
        return Reliability(edges, np.zeros(bins, dtype=np.int64), nothing, nothing)
    top = softmax(z).max(axis=1)
    right = (z.argmax(axis=1) == y).astype(np.float64)
    which = _bin_of(top, edges)
    count = np.bincount(which, minlength=bins)
    number = np.where(count > 0, count, np.nan)
    confidence = np.bincount(which, weights=top, minlength=bins) / number
    accuracy = np.bincount(which, weights=right, minlength=bins) / number
    return Reliability(edges, count, confidence, accuracy)


def expected_calibration_error(labels: ArrayLike, logits: ArrayLike, *, bins: int = 15) -> float:
    """Top-label calibration error: ``sum_b n_b / N |accuracy_b - confidence_b|``; NaN without rows.

    ``bins`` bins (low, high] of equal width on [0, 1]; ``labels (N,)``, ``logits (N, C)``, -inf excludes a class.
    For probabilities give their logarithm: its softmax is the probabilities.

    Raises:
        ArgumentError: the shapes do not fit, a row has NaN, +inf or nothing but -inf, or ``bins`` < 1.

    Reference: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv:1706.04599).

    Example:
        >>> round(expected_calibration_error([0, 1], np.log([[0.8, 0.2], [0.8, 0.2]])), 3)
        0.3
    """
    table = reliability(labels, logits, bins=bins)
    filled = table.count > 0
    if not filled.any():
        return float("nan")
    gap = np.abs(table.accuracy - table.confidence)[filled]
    return float(np.sum(table.count[filled] * gap) / table.count.sum())


@overload
def classwise_calibration_error(
    labels: ArrayLike, logits: ArrayLike, *, bins: int = 15, average: Literal["macro"] = "macro"
) -> float: ...
@overload
def classwise_calibration_error(
    labels: ArrayLike, logits: ArrayLike, *, bins: int = 15, average: None
) -> FloatArray: ...


def classwise_calibration_error(
    labels: ArrayLike, logits: ArrayLike, *, bins: int = 15, average: Literal["macro"] | None = "macro"
) -> float | FloatArray:
    """Calibration error of each class's own probability: ``sum_b n_b / N |share of class c_b - mean p_c,b|``.

    ``average="macro"`` is the mean over the classes that occur in ``labels``; ``None`` gives float64 ``(C,)``, NaN for
    the others. A probability of exactly 0 belongs to the first bin.

    Reference: Kull et al., Beyond temperature scaling, NeurIPS 2019 (arXiv:1910.12656).

    Example:
        >>> classwise_calibration_error([0, 1], np.log([[0.8, 0.2], [0.8, 0.2]]), average=None).round(3)
        array([0.3, 0.3])
    """
    if average not in ("macro", None):
        raise ArgumentError(f"`average` must be 'macro' or None; got {average!r}")
    y, z = check_logits(labels, logits)
    edges = _edges(bins)
    errors = np.full(z.shape[1], np.nan)
    probabilities = softmax(z) if len(y) else z
    for c in np.unique(y):
        p, is_c = probabilities[:, c], (y == c).astype(np.float64)
        which = _bin_of(p, edges)
        # |sum of indicators - sum of probabilities| is n_b |share - mean|: no division by an empty bin.
        errors[c] = np.abs(np.bincount(which, is_c - p, bins)).sum() / len(y)
    if average is None:
        return errors
    return float(np.nanmean(errors)) if len(y) else float("nan")


def _edges(bins: int) -> FloatArray:
    if bins < 1:
        raise ArgumentError(f"`bins` must be at least 1; got {bins}")
    return np.linspace(0.0, 1.0, bins + 1)


def _bin_of(probabilities: FloatArray, edges: FloatArray) -> IntArray:
    """The b with edges[b] < p <= edges[b+1]; 0 goes to the first bin."""
    return np.clip(np.searchsorted(edges, probabilities, side="left") - 1, 0, len(edges) - 2)
