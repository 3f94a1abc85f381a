"""Calibration errors: how far predicted probabilities, the softmax of the logits, are from observed frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.checks import checked_count, checked_indices
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.metrics.tally import FloatArray, IntArray


def softmax(logits: ArrayLike) -> FloatArray:
    """Softmax over the last axis in float64, equal to SciPy's.

    Args:
        logits: numbers of shape ``(..., C)``, finite or -inf; -inf gives exactly 0.

    Returns:
        float64 ``(..., C)``.

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
    """A reliability diagram: images, mean confidence and accuracy of each bin (edges[b], edges[b+1]].

    The confidence of an image is its largest probability. Confidence and accuracy of an empty bin are NaN.
    """

    edges: FloatArray
    count: IntArray
    confidence: FloatArray
    accuracy: FloatArray


def reliability(labels: ArrayLike, logits: ArrayLike, *, bins: int = 15) -> Reliability:
    """Compute a reliability diagram with bins of equal width; arguments and errors as `expected_calibration_error`.

    Example:
        >>> reliability([0, 1], [[2.0, 0.0], [1.0, 0.0]], bins=2).accuracy
        array([nan, 0.5])
    """
    y, z = _checked_logits(labels, logits)
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


def calibration_gaps(labels: ArrayLike, logits: ArrayLike, *, bins: int = 15) -> tuple[IntArray, FloatArray]:
    """The bin of each image, and 1 or 0 (right or wrong) minus its confidence.

    The absolute sums of the gaps per bin, added up and divided by N, are the expected calibration error.

    Example:
        >>> which, gaps = calibration_gaps([0, 1], np.log([[0.8, 0.2], [0.8, 0.2]]))
        >>> which, gaps.round(3)
        (array([11, 11]), array([ 0.2, -0.8]))
    """
    y, z = _checked_logits(labels, logits)
    if not len(y):
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    top = softmax(z).max(axis=1)
    return _bin_of(top, _edges(bins)), (z.argmax(axis=1) == y) - top


def expected_calibration_error(labels: ArrayLike, logits: ArrayLike, *, bins: int = 15) -> float:
    """The top-label calibration error ``sum_b n_b / N |accuracy_b − confidence_b|``; NaN without images.

    Args:
        labels: ``(N,)`` class indices.
        logits: ``(N, C)``; -inf excludes a class. If you have probabilities, pass their logarithm.
        bins: number of bins of equal width on [0, 1], at least 1.

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
    """The calibration error of the probability of each class: ``sum_b n_b / N |share of class c_b − mean p_c,b|``.

    Args:
        labels: ``(N,)`` class indices.
        logits: ``(N, C)``; -inf excludes a class.
        bins: number of bins of equal width on [0, 1], at least 1; a probability of 0 is in the first.
        average: ``"macro"`` for the mean over the classes that occur in ``labels``; None for every class.

    Returns:
        A number; with ``average=None`` float64 ``(C,)``, NaN for the classes that do not occur.

    Raises:
        ArgumentError: as `expected_calibration_error`, or an unknown ``average``.

    Reference: Kull et al., Beyond temperature scaling, NeurIPS 2019 (arXiv:1910.12656).

    Example:
        >>> classwise_calibration_error([0, 1], np.log([[0.8, 0.2], [0.8, 0.2]]), average=None).round(3)
        array([0.3, 0.3])
    """
    if average not in ("macro", None):
        raise ArgumentError(f"`average` must be 'macro' or None; got {average!r}")
    y, z = _checked_logits(labels, logits)
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
    return np.linspace(0.0, 1.0, checked_count("bins", bins) + 1)


def _bin_of(probabilities: FloatArray, edges: FloatArray) -> IntArray:
    """The b with edges[b] < p <= edges[b+1]; 0 is in the first bin."""
    return np.clip(np.searchsorted(edges, probabilities, side="left") - 1, 0, len(edges) - 2)


def _checked_logits(labels: ArrayLike, logits: ArrayLike) -> tuple[IntArray, FloatArray]:
    """Return labels as int64 ``(N,)`` and logits as float64 ``(N, C)``."""
    y, z = checked_indices("labels", labels), np.asarray(logits)
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise ArgumentError(f"`labels` must have shape (N,) and `logits` (N, C); got {y.shape} and {z.shape}")
    return checked_indices("labels", y, num_classes=z.shape[1]), checked_scores("logits", z)


def checked_scores(name: str, values: NDArray[Any]) -> FloatArray:
    """Return ``values`` as float64 ``(N, C)``: each row finite, or -inf for some of its classes."""
    if values.size and values.dtype.kind not in "fiu":
        raise ArgumentTypeError(f"`{name}` must be numbers; got dtype {values.dtype}")
    if values.ndim != 2 or values.shape[1] == 0:
        raise ArgumentError(f"`{name}` must have shape (N, C); got {values.shape}")
    array = values.astype(np.float64)
    # The largest of a row is finite exactly if there is no NaN, no +inf and at least one class that is not excluded.
    wrong = ~np.isfinite(array.max(axis=1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ArgumentError(
            f"`{name}` must be finite, or -inf for an excluded class; row {row} is {array[row].tolist()!s:.60}"
        )
    return array
