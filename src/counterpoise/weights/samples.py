"""Weights of the samples, from the weights of their classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.weights.schemes import by_name

__all__ = ["sample_weights"]


def sample_weights(
    labels: Iterable[Any], class_weights: Mapping[Any, float] | Sequence[float] | NDArray[Any]
) -> NDArray[np.float64]:
    """The weight of each sample: that of its class.

    Args:
        labels: ``(N,)`` whole numbers ``0 .. C-1``, or class names where ``class_weights`` is a mapping.
        class_weights: ``(C,)``, or ``{name: weight}``.

    Returns:
        float64 ``(N,)``.

    Raises:
        ArgumentError: a label without a weight (its row is named), or a weight that is negative, NaN or infinite.
        ArgumentTypeError: labels that are neither whole numbers nor strings, or weights that are not numbers.

    Example:
        >>> sample_weights([0, 0, 1], [0.5, 2.0])
        array([0.5, 0.5, 2. ])
        >>> sample_weights(["cat", "lynx"], {"lynx": 1.9, "cat": 0.1})
        array([0.1, 1.9])
    """
    array = np.asarray(labels if hasattr(labels, "__array__") else list(labels))
    if array.ndim != 1:
        raise ArgumentError(f"`labels` must have shape (N,); got {array.shape}")
    if array.size and array.dtype.kind not in "iuUS":
        raise ArgumentTypeError(f"`labels` must be whole numbers or strings; got dtype {array.dtype}")
    if isinstance(class_weights, Mapping):
        names = [str(key) for key in class_weights]
        return _look_up(array, by_name(class_weights, names, argument="class_weights"), names)
    if array.dtype.kind in "US":
        raise ArgumentTypeError("`labels` are strings; give `class_weights` as {name: weight}")
    weights = by_name(class_weights, [str(c) for c in range(len(class_weights))], argument="class_weights")
    bad = (array < 0) | (array >= len(weights))
    if bad.any():
        row = int(np.argmax(bad))
        raise ArgumentError(
            f"`labels` must be in 0 .. {len(weights) - 1}, the classes weighted; row {row} is {array[row]}"
        )
    return weights[array.astype(np.int64)]


def _look_up(labels: NDArray[Any], weights: NDArray[np.float64], names: list[str]) -> NDArray[np.float64]:
    index = {name: i for i, name in enumerate(names)}
    distinct, inverse = np.unique(labels, return_inverse=True)
    places = np.array([index.get(str(label), -1) for label in distinct.tolist()], dtype=np.int64)
    if (places < 0).any():
        row = int(np.argmax(places[inverse] < 0))
        raise ArgumentError(
            f"`labels` row {row} is {labels[row]!s}, which has no weight; the weights name {names[:10]}"
        )
    return weights[places[inverse]]
