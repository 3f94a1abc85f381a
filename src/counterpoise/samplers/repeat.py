"""Repeat factors: images that hold a rare class come more than once an epoch, the others once."""

from __future__ import annotations

import warnings
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.samplers.classes import ClassIndex
from counterpoise.samplers.draws import Draws, ExactDraws
from counterpoise.samplers.membership import Membership
from counterpoise.samplers.permutation import uniforms
from counterpoise.samplers.sampler import CLASSES, ROUNDING, OrderedSampler

__all__ = ["RepeatFactorSampler"]

FloatArray = NDArray[np.float64]


@final
class RepeatFactorSampler(OrderedSampler):
    """Every image r_I times an epoch on average: ``r_c = max(1, (t / f_c)^power)``, r_I the largest r_c of its classes.

    f_c is the share of images that hold class c; an image without a class comes once. In each epoch an image comes
    floor(r_I) or ceil(r_I) times, the latter with probability r_I - floor(r_I), drawn anew. Images are rounded
    together, not each by itself, so the length of an epoch varies by one image at most.

    LVIS, Gupta et al., CVPR 2019 (arXiv:1908.03195). To round up always, as some do, doubles every image whose r_I is
    between 1 and 2.

    Args:
        classes_per_image: a list with the class ids of each image, an ``(N, C)`` array of 0/1 targets, or ``(N,)`` ids.
        repeat_thresh: t, in (0, 1]: classes in a smaller share of the images than this are repeated.
        power: ½ in the paper; 1 brings every rare class up to the share t.
        seed: with the epoch it fixes the order.
        num_classes: C, where the images do not show all classes.

    Raises:
        ArgumentError: no images, no class at all, a class id out of range (the row is named), or a value out of range.

    Warns:
        UserWarning: no class is as rare as ``repeat_thresh``, so that nothing is repeated.

    Example:
        >>> images = [[0]] * 96 + [[0, 1]] * 4
        >>> sampler = RepeatFactorSampler(images, repeat_thresh=0.36)
        >>> sampler.class_repeat_factors
        array([1., 3.])
        >>> len(sampler)
        108
    """

    def __init__(
        self,
        classes_per_image: Any,
        *,
        repeat_thresh: float = 1e-3,
        power: float = 0.5,
        seed: int = 0,
        num_classes: int | None = None,
    ) -> None:
        if not 0.0 < repeat_thresh <= 1.0:
            raise ArgumentError(f"`repeat_thresh` must be in (0, 1]; got {repeat_thresh}")
        if not (np.isfinite(power) and power >= 0):
            raise ArgumentError(f"`power` must be finite and at least 0; got {power}")
        held = Membership.read(classes_per_image, argument="classes_per_image", num_classes=num_classes)
        self.repeat_thresh, self.power = float(repeat_thresh), float(power)
        frequency = held.counts() / held.num_items
        rare = (frequency > 0) & (frequency < repeat_thresh)
        self.class_repeat_factors = np.ones(len(frequency))
        self.class_repeat_factors[rare] = (repeat_thresh / frequency[rare]) ** power
        self._tell_if_nothing_repeats(float(frequency[frequency > 0].min()))
        self._factors, rank = np.unique(np.append(self.class_repeat_factors, 1.0), return_inverse=True)
        groups = _highest(rank, held)
        names = tuple(f"{factor:.6g}" for factor in self._factors)
        index = ClassIndex(Membership(groups, None, held.num_items, names), fingerprint=held.fingerprint())
        super().__init__(index, seed=seed)
        self._names = held.names
        self._prior = _prior(held, groups, self._factors)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._names

    @property
    def prior(self) -> FloatArray:
        prior: FloatArray = self._prior.copy()
        return prior

    @property
    def repeat_factors(self) -> FloatArray:
        """r_I of every image, float64 ``(N,)``: how often it comes in an epoch, on average."""
        factors = np.empty(self._index.num_items)
        factors[self._index.items] = np.repeat(self._factors, self._index.counts)
        return factors

    def _draws(self) -> Draws:
        counts = self._index.counts
        wanted = counts * self._factors
        # Systematic rounding: one random start on the line of all fractions. Each group is rounded up with the
        # probability of its own fraction, and their sum is the floor or the ceil of the sum.
        start = uniforms(self._key(ROUNDING), 0, 1)
        steps = np.floor(np.cumsum(wanted - np.floor(wanted)) + start)
        quotas = np.floor(wanted) + np.diff(steps, prepend=0.0)
        return ExactDraws(quotas.astype(np.int64), self._key(CLASSES))

    def _settings(self) -> dict[str, Any]:
        return {"repeat_thresh": self.repeat_thresh, "power": self.power}

    def _tell_if_nothing_repeats(self, rarest: float) -> None:
        if (self.class_repeat_factors == 1.0).all():
            warnings.warn(
                f"nothing is repeated: the rarest class is in {rarest:.3g} of the images, which is not below "
                f"repeat_thresh={self.repeat_thresh:g} with power={self.power:g}; every image comes once an epoch",
                UserWarning,
                stacklevel=3,
            )


def _highest(rank: NDArray[np.int64], held: Membership) -> NDArray[Any]:
    """The highest rank among the classes of each item, 0 (a factor of 1) for an item without any; ``(N,)``."""
    narrow = rank.astype(np.uint16 if len(rank) <= 2**16 else np.uint32)
    if held.owners is None:
        one: NDArray[Any] = narrow[held.classes]
        return one
    highest = np.zeros(held.num_items, dtype=narrow.dtype)
    np.maximum.at(highest, held.owners, narrow[held.classes])
    return highest


def _prior(held: Membership, groups: NDArray[Any], factors: FloatArray) -> FloatArray:
    """Share of the draws that have each class: the factors of its items over those of all items."""
    owned = factors[groups if held.owners is None else groups[held.owners]]
    in_class = np.bincount(held.classes, weights=owned, minlength=len(held.names))
    prior: FloatArray = in_class / (np.bincount(groups, minlength=len(factors)) @ factors)
    return prior
