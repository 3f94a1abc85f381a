"""Wilson's interval of a proportion."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from counterpoise.core.errors import ArgumentError
from counterpoise.metrics.inputs import FloatArray

__all__ = ["Rates", "check_confidence", "wilson_interval"]


class Rates(NamedTuple):
    """A rate per class with its interval; three float64 ``(C,)`` arrays in [0, 1], NaN where nothing was counted."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray


def check_confidence(confidence: float) -> float:
    """A confidence strictly between 0 and 1."""
    if not 0.0 < confidence < 1.0:
        raise ArgumentError(f"`confidence` must lie between 0 and 1, such as 0.95; got {confidence}")
    return float(confidence)


def wilson_interval(successes: ArrayLike, trials: ArrayLike, *, confidence: float = 0.95) -> Rates:
    """Proportion and Wilson score interval, element by element; NaN where ``trials`` is 0.

    Reference: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 1927.

    Raises:
        ArgumentError: ``confidence`` is not in (0, 1), or ``successes`` is not in 0 .. ``trials``.

    Example:
        >>> rate = wilson_interval([0, 8, 5], [10, 10, 0])
        >>> rate.low.round(3), rate.high.round(3)
        (array([0.  , 0.49,  nan]), array([0.278, 0.943,   nan]))
    """
    z = NormalDist().inv_cdf(0.5 + check_confidence(confidence) / 2)
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    impossible = (n > 0) & ((k < 0) | (k > n))
    if impossible.any():
        i = int(np.argmax(impossible))
        raise ArgumentError(f"`successes` must lie in 0 .. `trials`; element {i} is {k.flat[i]:g} of {n.flat[i]:g}")
    n = np.where(n > 0, n, np.nan)
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At k = 0 and k = n the bound is 0 or 1 exactly; the subtraction would leave a rounding error.
    low = np.where(k == 0, np.where(np.isnan(n), math.nan, 0.0), centre - half)
    high = np.where(k == n, 1.0, centre + half)
    return Rates(p, low, high)
