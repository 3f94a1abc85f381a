"""Checks of numbers, choices and vectors, with error messages that name the argument."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError, ArgumentTypeError


def checked_number(
    name: str,
    value: Any,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """Return ``value`` as a finite float in ``[minimum, maximum]``, greater than ``above`` and less than ``below``.

    Raises:
        ArgumentTypeError: the value is not a number; booleans are not numbers.
        ArgumentError: the number is NaN, infinite or out of bounds.

    Example:
        >>> checked_number("gamma", 2, minimum=0.0)
        2.0
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise ArgumentTypeError(f"`{name}` must be a number; got {type(value).__name__}")
    number = float(value)
    # torch.compile follows comparisons of a symbolic number, but not `math.isfinite`.
    finite = -math.inf < number < math.inf
    if not (finite and minimum <= number <= maximum and above < number < below):
        wanted = bounds_text(minimum=minimum, maximum=maximum, above=above, below=below) or "finite"
        raise ArgumentError(f"`{name}` must be {wanted}; got {number:g}")
    return number


def bounds_text(
    *, minimum: float = -math.inf, maximum: float = math.inf, above: float = -math.inf, below: float = math.inf
) -> str:
    """Bounds in words, such as "at least 0 and below 1"; empty where there are none."""
    words = {"at least": minimum, "above": above, "at most": maximum, "below": below}
    return " and ".join(f"{word} {bound:g}" for word, bound in words.items() if math.isfinite(bound))


def checked_count(name: str, value: Any, *, minimum: int = 1) -> int:
    """Return ``value`` as an int of at least ``minimum``; whole floats such as 3.0 are refused.

    Raises:
        ArgumentTypeError: the value is not a whole number.
        ArgumentError: the number is too small.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(f"`{name}` must be a whole number; got {value!r}")
    if value < minimum:
        raise ArgumentError(f"`{name}` must be at least {minimum}; got {value}")
    return int(value)


def checked_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises:
        ArgumentError: it is not; the message lists the choices.
    """
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"`{name}` must be one of {', '.join(map(repr, choices))}; got {value!r}")
    return value


def checked_vector(
    name: str, values: Any, *, length: int | None = None, class_names: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Return ``values`` as float64 ``(C,)``, finite and at least 0.

    Args:
        name: the argument, for the message.
        values: ``(C,)`` numbers.
        length: the C expected; None for any.
        class_names: names of the classes, so that the message names the class instead of its index.

    Raises:
        ArgumentTypeError: the values are not numbers.
        ArgumentError: the shape is wrong, or a value is negative, NaN or infinite.
    """
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iuf":
        raise ArgumentTypeError(f"`{name}` must hold numbers; got dtype {array.dtype}")
    if array.ndim != 1 or (length is not None and len(array) != length):
        wanted = "(C,)" if length is None else f"({length},), one number per class"
        raise ArgumentError(f"`{name}` must have shape {wanted}; got {array.shape}")
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        c = int(np.argmax(wrong))
        raise ArgumentError(
            f"`{name}` must be finite and at least 0; class {class_label(c, class_names)} has {array[c]}"
        )
    return array.astype(np.float64)


def checked_indices(
    name: str, values: Any, *, shape: tuple[int, ...] | None = None, num_classes: int | None = None
) -> NDArray[np.int64]:
    """Return ``values`` as int64 class indices, at least 0 and less than ``num_classes``.

    Args:
        name: the argument, for the message.
        values: whole numbers of any shape.
        shape: the shape expected; None for any.
        num_classes: C; None for any index of at least 0.

    Raises:
        ArgumentTypeError: the values are not whole numbers.
        ArgumentError: the shape is wrong, or an index is out of range (its row is named).
    """
    array = np.asarray(values)
    if shape is not None and array.shape != shape:
        raise ArgumentError(f"`{name}` must have shape {shape}; got {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"`{name}` must be class indices (whole numbers); got dtype {array.dtype}")
    wrong = array < 0 if num_classes is None else (array < 0) | (array >= num_classes)
    if wrong.any():
        first = np.argwhere(wrong)[0].tolist()
        wanted = "at least 0" if num_classes is None else f"in 0 .. {num_classes - 1}"
        row = first[0] if len(first) == 1 else first
        raise ArgumentError(f"`{name}` must be {wanted}; row {row} is {array[tuple(first)]}")
    return array.astype(np.int64)


def class_label(index: int, class_names: Sequence[str] | None) -> str:
    """A class as error messages name it: its quoted name, or its index."""
    return str(index) if class_names is None else repr(class_names[index])
