"""What the metrics accept, checked once: class indices and logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.errors import ArgumentError, ArgumentTypeError

__all__ = ["FloatArray", "IntArray", "check_logits", "check_pair", "class_indices", "num_classes_of"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def class_indices(values: ArrayLike, name: str) -> IntArray:
    """``values`` as int64, any shape; class indices of at least 0, or an error that names ``name`` and the row."""
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"`{name}` must be class indices (whole numbers); got dtype {array.dtype}")
    if array.min() < 0:
        row = np.argwhere(array < 0)[0].tolist()
        raise ArgumentError(f"`{name}` must be at least 0; row {row} is {array.min()}: leave ignored rows out")
    return array.astype(np.int64)


def check_pair(labels: ArrayLike, predictions: ArrayLike) -> tuple[IntArray, IntArray]:
    """Labels and predictions, both ``(N,)``."""
    a, b = class_indices(labels, "labels"), class_indices(predictions, "predictions")
    if a.ndim != 1 or a.shape != b.shape:
        raise ArgumentError(f"`labels` and `predictions` must both have shape (N,); got {a.shape} and {b.shape}")
    return a, b


def num_classes_of(num_classes: int | None, *arrays: IntArray) -> int:
    """``num_classes``, or one more than the largest index; an index beyond ``num_classes`` is an error."""
    largest = max((int(array.max()) for array in arrays if array.size), default=-1)
    if num_classes is None:
        return largest + 1
    if largest >= num_classes:
        raise ArgumentError(f"`num_classes` is {num_classes}, but class {largest} occurs")
    return num_classes


def check_logits(labels: ArrayLike, logits: ArrayLike) -> tuple[IntArray, FloatArray]:
    """Labels ``(N,)`` and logits ``(N, C)`` as float64; -inf excludes a class, NaN and +inf are errors."""
    indices = class_indices(labels, "labels")
    scores: NDArray[Any] = np.asarray(logits)
    if scores.ndim != 2 or indices.shape != scores.shape[:1]:
        raise ArgumentError(
            f"`labels` must have shape (N,) and `logits` (N, C); got {indices.shape} and {scores.shape}"
        )
    num_classes_of(scores.shape[1], indices)
    if scores.dtype.kind not in "fiu":
        raise ArgumentTypeError(f"`logits` must be numbers; got dtype {scores.dtype}")
    values = scores.astype(np.float64)
    # The largest of a row is finite exactly if there is no NaN, no +inf and at least one class that is not excluded.
    bad = ~np.isfinite(values.max(axis=1)) if values.size else np.zeros(len(values), dtype=bool)
    if bad.any():
        row = int(np.argmax(bad))
        raise ArgumentError(
            f"`logits` row {row} has no prediction (NaN, +inf, or nothing but -inf): {values[row].tolist()!s:.60}"
        )
    return indices, values
