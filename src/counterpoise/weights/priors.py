"""The class prior that training really sees, and how often it has been corrected."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError, ArgumentTypeError

__all__ = ["Correction", "correction", "effective_prior"]

FloatArray = NDArray[np.float64]
Numbers = Sequence[float] | NDArray[Any]
_TOO_MUCH = 1.5  # times the correction that is wanted: beyond rounding, caps and small counts


def effective_prior(prior: Numbers, *, weight: Numbers | None = None) -> FloatArray:
    """The prior of a weighted cross-entropy: ``π ∝ prior · weight``, summing to 1.

    Defined for cross-entropy alone: focal loss and LDAM change the prior by how hard the images are.

    Args:
        prior: ``(C,)``, as sampled: `counterpoise.samplers`' ``.prior``, or ``ClassCounts.prior()`` without a sampler.
        weight: ``(C,)`` class weights; None for none.

    Returns:
        float64 ``(C,)``.

    Example:
        >>> effective_prior([0.9, 0.1], weight=[0.5, 1.5])
        array([0.75, 0.25])
    """
    shares = _shares(prior, "prior")
    if weight is not None:
        shares = shares * _positive(weight, "weight", len(shares))
    if not shares.any():
        raise ArgumentError("`weight` is 0 for every class that `prior` has; no prior is left")
    effective: FloatArray = shares / shares.sum()
    return effective


@dataclass(frozen=True)
class Correction:
    """How far the largest class was favoured over the smallest by the data, and by how much that was corrected.

    All are ratios; ``applied = sampler · weights · adjustment · focusing``, and 1 is no correction. Where it equals
    ``wanted`` both classes count alike; at twice that the smallest counts as if it had twice the images of the largest.
    """

    wanted: float
    sampler: float
    weights: float
    adjustment: float
    focusing: float = 1.0

    @property
    def applied(self) -> float:
        """The product of the four."""
        return self.sampler * self.weights * self.adjustment * self.focusing

    @property
    def summary(self) -> str:
        """One line for a report."""
        return (
            f"the classes differ {self.wanted:.3g} to 1; corrected by {self.applied:.3g}: sampler {self.sampler:.3g}, "
            f"weights {self.weights:.3g}, logit adjustment {self.adjustment:.3g}"
            + (f", focusing {self.focusing:.3g}" if self.focusing != 1 else "")
        )

    @property
    def excessive(self) -> bool:
        """Is more than 1.5 times the wanted correction applied, and not by focusing alone?"""
        stated = self.sampler * self.weights * self.adjustment
        return stated > 1 and self.applied > _TOO_MUCH * self.wanted


def correction(
    prior: Numbers,
    *,
    sampled: Numbers | None = None,
    weight: Numbers | None = None,
    adjusted: Numbers | None = None,
    tau: float = 1.0,
    gamma: float = 0.0,
) -> Correction:
    """How often sampler, weights and logit adjustment correct the same prior, between its largest and smallest class.

    Args:
        prior: ``(C,)`` class prior of the training data.
        sampled: ``(C,)``, the sampler's ``.prior``; None without one.
        weight: ``(C,)`` class weights of the loss; None without.
        adjusted: ``(C,)``, the prior given to logit adjustment, in the loss or after training; None without.
        tau: strength of that adjustment.
        gamma: of focal loss, which throttles a majority that has become easy. Counted is by how much more than the
            gradient of an image at p = 0.5, the smallest class's, it shrinks that of one at p = 0.9, the largest's:
            21 for gamma = 2. That is why alpha falls as gamma rises (Lin et al., ICCV 2017).

    Returns:
        The correction wanted and those applied.

    Warns:
        UserWarning: they add up to more than 1.5 times what is wanted.

    Example:
        >>> correction([0.9, 0.1], weight=[0.2, 1.8]).applied
        9.0
    """
    shares = _shares(prior, "prior")
    seen = np.flatnonzero(shares)
    large, small = int(seen[np.argmax(shares[seen])]), int(seen[np.argmin(shares[seen])])
    wanted = float(shares[large] / shares[small])
    relative = wanted if sampled is not None else 1.0
    found = Correction(
        wanted=wanted,
        sampler=relative * _ratio(sampled, "sampled", len(shares), small, large),
        weights=_ratio(weight, "weight", len(shares), small, large),
        adjustment=_ratio(adjusted, "adjusted", len(shares), large, small) ** tau,
        focusing=_throttle(0.5, gamma) / _throttle(0.9, gamma),
    )
    if found.excessive:
        remedy = (
            "Lower the weights, as focal loss already throttles the easy majority"
            if found.applied / found.focusing <= _TOO_MUCH * found.wanted
            else "Drop one, or give logit adjustment the prior that the others leave (effective_prior)"
        )
        warnings.warn(
            f"the prior is corrected more than once: {found.summary}. {remedy}",
            UserWarning,
            stacklevel=2,
        )
    return found


def _throttle(p: float, gamma: float) -> float:
    """Gradient of focal loss over that of cross-entropy: ``(1−p)^γ (1 + γ p (−log p) / (1−p))``."""
    return float((1 - p) ** gamma * (1 - gamma * p * np.log(p) / (1 - p)))


def _ratio(values: Numbers | None, argument: str, length: int, up: int, down: int) -> float:
    if values is None:
        return 1.0
    array = _positive(values, argument, length)
    return float(array[up] / array[down]) if array[down] > 0 else float("inf")


def _shares(prior: Numbers, argument: str) -> FloatArray:
    shares = _positive(prior, argument, None)
    if not shares.any():
        raise ArgumentError(f"`{argument}` must not be 0 for every class")
    return shares


def _positive(values: Numbers, argument: str, length: int | None) -> FloatArray:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise ArgumentTypeError(f"`{argument}` must hold numbers; got dtype {array.dtype}")
    if array.ndim != 1 or (length is not None and len(array) != length):
        wanted = "(C,)" if length is None else f"({length},)"
        raise ArgumentError(f"`{argument}` must have shape {wanted}; got {array.shape}")
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        c = int(np.argmax(wrong))
        raise ArgumentError(f"`{argument}` must be finite and at least 0; class {c} has {array[c]}")
    return array.astype(np.float64)
