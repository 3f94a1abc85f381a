"""NumPy and torch through one door: what comes as a tensor goes back as one; torch is never imported for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError, ArgumentTypeError

if TYPE_CHECKING:
    from torch import Tensor

    Array = TypeVar("Array", NDArray[Any], Tensor)
else:
    Array = TypeVar("Array")

__all__ = ["Array", "as_float64", "as_given", "as_labels", "as_prior", "as_scores", "like"]


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    return torch is not None and isinstance(value, torch.Tensor)


def as_given(values: Any, argument: str) -> Any:
    """A floating array or tensor of at least 32 bits, as it came; whole numbers become float64."""
    if _is_tensor(values):
        if not values.is_floating_point():
            raise ArgumentTypeError(f"`{argument}` must be floating point; got {values.dtype}")
        return values.float() if values.itemsize < 4 else values
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise ArgumentTypeError(f"`{argument}` must hold numbers; got dtype {array.dtype}")
    if array.dtype.kind != "f":
        return array.astype(np.float64)
    return array.astype(np.float32) if array.itemsize < 4 else array


def like(values: NDArray[np.float64], given: Any) -> Any:
    """``values`` as what ``given`` is: an array, or a tensor on its device, of its dtype."""
    if _is_tensor(given):
        return given.new_tensor(values)
    return values.astype(given.dtype)


def as_float64(values: Any, argument: str) -> NDArray[np.float64]:
    """``values`` as float64, from NumPy, a list, or a tensor on any device."""
    if _is_tensor(values):
        values = values.detach().cpu().double().numpy()
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iuf":
        raise ArgumentTypeError(f"`{argument}` must hold numbers; got dtype {array.dtype}")
    return array.astype(np.float64)


def as_scores(values: Any, argument: str) -> NDArray[np.float64]:
    """``(N, C)`` float64 without NaN; a row may have -inf, for a class that it excludes, but not only those."""
    array = as_float64(values, argument)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ArgumentError(f"`{argument}` must have shape (N, C); got {array.shape}")
    wrong = np.isnan(array).any(axis=1) | (array == np.inf).any(axis=1) | np.isneginf(array).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ArgumentError(
            f"`{argument}` must be finite, or -inf for an excluded class; row {row} is {array[row, :5]}"
        )
    return array


def as_labels(labels: Any, rows: int, num_classes: int) -> NDArray[np.int64]:
    """``(N,)`` class ids, each in range."""
    array = np.asarray(labels.detach().cpu().numpy() if _is_tensor(labels) else labels)
    if array.shape != (rows,):
        raise ArgumentError(f"`labels` must have shape ({rows},), one for each row of scores; got {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"`labels` must be whole numbers; got dtype {array.dtype}")
    wrong = (array < 0) | (array >= num_classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ArgumentError(f"`labels` must be in 0 .. {num_classes - 1}; row {row} is {array[row]}")
    return array.astype(np.int64)


def as_prior(prior: Any, num_classes: int, argument: str = "prior") -> NDArray[np.float64]:
    """``(C,)`` finite numbers of at least 0, not all 0; scaled to sum to 1."""
    array = as_float64(prior, argument)
    if array.shape != (num_classes,):
        raise ArgumentError(
            f"`{argument}` must have one number for each of the {num_classes} classes; got {array.shape}"
        )
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        c = int(np.argmax(wrong))
        raise ArgumentError(f"`{argument}` must be finite and at least 0; class {c} has {array[c]}")
    if not array.any():
        raise ArgumentError(f"`{argument}` must not be 0 for every class")
    shares: NDArray[np.float64] = array / array.sum()
    return shares
