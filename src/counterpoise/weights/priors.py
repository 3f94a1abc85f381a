"""The class prior that training sees, and how often its imbalance is compensated (double correction)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_vector
from counterpoise.core.errors import ArgumentError

FloatArray = NDArray[np.float64]
Numbers = Sequence[float] | NDArray[Any]
_TOO_MUCH = 1.5  # times the wanted compensation: more than rounding, capped weights and small counts explain


def effective_prior(prior: Numbers, *, weight: Numbers | None = None) -> FloatArray:
    """The class prior that a weighted cross-entropy is trained on: ``π ∝ prior · weight``, summing to 1.

    It is defined for cross-entropy only: focal loss and LDAM weight images by their difficulty as well.

    Args:
        prior: ``(C,)``, as sampled: the sampler's ``.prior``, or ``ClassCounts.prior()`` without a sampler.
        weight: ``(C,)`` class weights, at least 0; None for none.

    Returns:
        float64 ``(C,)``.

    Raises:
        ArgumentError: an array of another shape, not finite or negative, or a product that is 0 for every class.

    Example:
        >>> effective_prior([0.9, 0.1], weight=[0.5, 1.5])
        array([0.75, 0.25])
    """
    shares = _shares(prior, "prior")
    if weight is not None:
        shares = shares * checked_vector("weight", weight, length=len(shares))
    if not shares.any():
        raise ArgumentError("`weight` must be above 0 for a class with `prior` above 0; no prior is left")
    effective: FloatArray = shares / shares.sum()
    return effective


@dataclass(frozen=True)
class Correction:
    """How often the training data favour the largest class over the smallest, and how far that is compensated.

    All are ratios between the smallest and the largest class with images; 1 means no compensation. Where ``applied``
    equals ``wanted``, both classes count alike.

    Attributes:
        wanted: images of the largest class over images of the smallest.
        sampler: how much more often the sampler draws an image of the smallest class than one of the largest.
        weights: class weight of the smallest class over that of the largest.
        adjustment: the factor by which logit adjustment favours the smallest class.
        focusing: the factor by which focal loss reduces the gradients of the largest class more than those of the
            smallest.
    """

    wanted: float
    sampler: float
    weights: float
    adjustment: float
    focusing: float = 1.0

    @classmethod
    def measure(
        cls,
        prior: Numbers,
        *,
        sampled: Numbers | None = None,
        weight: Numbers | None = None,
        adjusted: Numbers | None = None,
        tau: float = 1.0,
        gamma: float = 0.0,
    ) -> Correction:
        """`correction` without its warning; same arguments."""
        shares = _shares(prior, "prior")
        seen = np.flatnonzero(shares)
        large, small = int(seen[np.argmax(shares[seen])]), int(seen[np.argmin(shares[seen])])
        wanted = float(shares[large] / shares[small])
        relative = wanted if sampled is not None else 1.0
        return cls(
            wanted=wanted,
            sampler=relative * _ratio(sampled, "sampled", len(shares), small, large),
            weights=_ratio(weight, "weight", len(shares), small, large),
            adjustment=_ratio(adjusted, "adjusted", len(shares), large, small) ** tau,
            focusing=_focal_gradient(0.5, gamma) / _focal_gradient(0.9, gamma),
        )

    @property
    def applied(self) -> float:
        """The product of the four factors: the compensation as a whole."""
        return self.sampler * self.weights * self.adjustment * self.focusing

    @property
    def summary(self) -> str:
        """One line for a report."""
        return (
            f"class ratio {self.wanted:.3g}:1, compensated {self.applied:.3g}:1 (sampler {self.sampler:.3g}, class "
            f"weights {self.weights:.3g}, logit adjustment {self.adjustment:.3g}, focal term {self.focusing:.3g})"
        )

    @property
    def excessive(self) -> bool:
        """Whether more than 1.5 times the wanted compensation is applied, and not by the focal term alone."""
        stated = self.sampler * self.weights * self.adjustment
        return stated > 1 and self.applied > _TOO_MUCH * self.wanted

    @property
    def advice(self) -> str | None:
        """`advice_for` a combination without a name; None unless `excessive`."""
        return self.advice_for("this combination")

    def advice_for(self, name: str, *, milder_weights: str = '`class_weights(counts, "inverse_sqrt")`') -> str | None:
        """What ``name`` compensates more than once, by how much, and what to change; None unless `excessive`.

        Example:
            >>> found = Correction(30, 1, 30, 1, focusing=4.35)
            >>> print(found.advice_for("class-balanced-focal", milder_weights="`beta=0.99`"))
            class-balanced-focal compensates the imbalance twice: class weights already give the rarest class 30 times \
the weight of the largest, and the focal term raises that to about 130. Use milder weights, for example `beta=0.99`.
        """
        if not self.excessive:
            return None
        factors = {
            "the sampler": (
                self.sampler,
                "already draws an image of the rarest class {} times as often as one of the largest",
            ),
            "class weights": (self.weights, "already give the rarest class {} times the weight of the largest"),
            "logit adjustment": (
                self.adjustment,
                "already favours the rarest class over the largest by a factor of {}",
            ),
            "the focal term": (self.focusing, ""),
        }
        sentences: list[str] = []
        product = 1.0
        for method, (factor, first) in factors.items():
            if factor == 1:
                continue
            product *= factor
            verb = "raise" if method == "class weights" else "raises"
            sentences.append(
                f"{method} {verb if factor > 1 else verb.replace('raise', 'lower')} that to about {_rounded(product)}"
                if sentences
                else f"{method} {first.format(_rounded(factor))}"
            )
        how = ("too strongly", "twice", "three times", "four times")[len(sentences) - 1]
        steps = ", and ".join([", ".join(sentences[:-1]), sentences[-1]] if sentences[1:] else sentences)
        return f"{name} compensates the imbalance {how}: {steps}. {self._remedy(milder_weights)}"

    def _remedy(self, milder_weights: str) -> str:
        """What to change, as a sentence."""
        if self.adjustment > 1 and self.sampler * self.weights > 1:
            return (
                "Keep one of them, or give logit adjustment the prior that the others leave: "
                "`prior=effective_prior(sampled, weight=weight)`."
            )
        if self.sampler > 1 and self.weights > 1:
            return "Remove the sampler or the class weights."
        if self.weights > 1:
            return f"Use milder weights, for example {milder_weights}."
        return "Use a smaller `tau`." if self.adjustment > 1 else "Use a milder sampler, for example `power=0.5`."


def correction(
    prior: Numbers,
    *,
    sampled: Numbers | None = None,
    weight: Numbers | None = None,
    adjusted: Numbers | None = None,
    tau: float = 1.0,
    gamma: float = 0.0,
) -> Correction:
    """Measure how often sampler, weights and loss compensate the same imbalance, and warn if that is too often.

    Args:
        prior: ``(C,)`` class prior of the training data.
        sampled: ``(C,)``, the sampler's ``.prior``; None without one.
        weight: ``(C,)`` class weights of the loss; None without.
        adjusted: ``(C,)``, the prior given to logit adjustment, in the loss or after training; None without.
        tau: strength of that adjustment.
        gamma: focusing parameter of focal loss, which reduces the gradients of frequent classes once the model
            classifies them well. Assumed are images at p = 0.9 in the largest class and at p = 0.5 in the smallest,
            whose gradients it then changes by factors that differ 21 times for gamma = 2. This is why alpha falls as
            gamma rises (Lin et al., ICCV 2017).

    Returns:
        The compensation wanted and the factors applied.

    Raises:
        ArgumentError: an array is not ``(C,)``, or not finite and at least 0, or ``prior`` is 0 for every class.

    Warns:
        UserWarning: the factors multiply to more than 1.5 times what is wanted; names them and says what to change.

    Example:
        >>> correction([0.9, 0.1], weight=[0.2, 1.8]).applied
        9.0
    """
    found = Correction.measure(prior, sampled=sampled, weight=weight, adjusted=adjusted, tau=tau, gamma=gamma)
    if found.advice is not None:
        warnings.warn(found.advice, UserWarning, stacklevel=2)
    return found


def _rounded(ratio: float) -> str:
    """Two significant digits with thousands separators: 129.9 → 130, 125000 → 120,000."""
    value = float(f"{ratio:.2g}")
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def _focal_gradient(p: float, gamma: float) -> float:
    """Gradient of focal loss over that of cross-entropy: ``(1−p)^γ (1 + γ p (−log p) / (1−p))``."""
    return float((1 - p) ** gamma * (1 - gamma * p * np.log(p) / (1 - p)))


def _ratio(values: Numbers | None, argument: str, length: int, up: int, down: int) -> float:
    if values is None:
        return 1.0
    array = checked_vector(argument, values, length=length)
    return float(array[up] / array[down]) if array[down] > 0 else float("inf")


def _shares(prior: Numbers, argument: str) -> FloatArray:
    shares = checked_vector(argument, prior)
    if not shares.any():
        raise ArgumentError(f"`{argument}` must not be 0 for every class")
    return shares
