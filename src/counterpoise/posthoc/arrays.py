"""NumPy arrays and torch tensors through one interface: a tensor in gives a tensor out, and torch is never imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_indices, checked_vector
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.metrics.calibration import checked_scores

if TYPE_CHECKING:
    from torch import Tensor

    Array = TypeVar("Array", NDArray[Any], Tensor)
else:
    Array = TypeVar("Array")


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # a caller with a tensor has imported torch
    return torch is not None and isinstance(value, torch.Tensor)


def as_floating(values: Any, argument: str) -> Any:
    """Return a floating-point array or tensor of at least 32 bits; whole numbers become float64."""
    if _is_tensor(values):
        if not values.is_floating_point():
            raise ArgumentTypeError(f"`{argument}` must be floating point; got {values.dtype}")
        return values.float() if values.itemsize < 4 else values
    array = np.asarray(values)
    if array.dtype.kind != "f":
        return as_float64(array, argument)
    return array.astype(np.float32) if array.itemsize < 4 else array


def convert_like(values: NDArray[np.float64], given: Any) -> Any:
    """Return ``values`` as an array of the dtype of ``given``, or as a tensor of its dtype on its device."""
    if _is_tensor(given):
        return given.new_tensor(values)
    return values.astype(given.dtype)


def as_float64(values: Any, argument: str) -> NDArray[np.float64]:
    """Return ``values`` as a float64 array, from NumPy, a list, or a tensor on any device."""
    if _is_tensor(values):
        values = values.detach().cpu().double().numpy()
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iuf":
        raise ArgumentTypeError(f"`{argument}` must hold numbers; got dtype {array.dtype}")
    return array.astype(np.float64)


def as_scores(values: Any, argument: str) -> NDArray[np.float64]:
    """Return ``values`` as float64 ``(N, C)``: each row finite, or -inf for some of its classes."""
    return checked_scores(argument, as_float64(values, argument))


def as_labels(labels: Any, rows: int, num_classes: int) -> NDArray[np.int64]:
    """Return class indices int64 ``(N,)`` for ``rows`` rows of scores."""
    array = labels.detach().cpu().numpy() if _is_tensor(labels) else labels
    return checked_indices("labels", array, shape=(rows,), num_classes=num_classes)


def as_prior(prior: Any, num_classes: int, argument: str = "prior") -> NDArray[np.float64]:
    """Return finite numbers of at least 0, not all 0, scaled to sum to 1; float64 ``(C,)``."""
    array = checked_vector(argument, as_float64(prior, argument), length=num_classes)
    if not array.any():
        raise ArgumentError(f"`{argument}` must not be 0 for every class")
    shares: NDArray[np.float64] = array / array.sum()
    return shares
