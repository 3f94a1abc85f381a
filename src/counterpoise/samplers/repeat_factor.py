"""Repeat-factor sampling: images with a rare class come several times per epoch, the others once."""

from __future__ import annotations

import warnings
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.hyperparameters import check_options
from counterpoise.samplers.base import CLASSES, ROUNDING, OrderedSampler
from counterpoise.samplers.index import ClassIndex, Membership
from counterpoise.samplers.permutation import ClassSequence, FixedCounts, uniforms

FloatArray = NDArray[np.float64]


@final
class RepeatFactorSampler(OrderedSampler):
    """Repeats images that contain a rare class; the images may have several classes.

    The repeat factor of a class is ``r_c = max(1, (t / f_c)^power)``, where f_c is the share of images with class c.
    The repeat factor r_I of an image is the largest r_c of its classes, and 1 for an image without a class. In each
    epoch an image comes floor(r_I) or ceil(r_I) times, the latter with probability r_I − floor(r_I), newly drawn per
    epoch. The images are rounded together, so the length of an epoch varies by at most one image. (Some
    implementations always round up, which doubles every image with r_I between 1 and 2.)

    Args:
        classes_per_image: a list with the class indices of each image, an ``(N, C)`` array of 0/1 targets, or ``(N,)``
            class indices.
        repeat_thresh: t, in (0, 1]: classes in a smaller share of the images than this are repeated.
        power: at least 0. The paper has ½; 1 raises every rare class to the share t.
        seed: at least 0; seed and epoch determine the order.
        num_classes: C, if the images do not contain all classes.

    Raises:
        ArgumentError: no images, no class at all, a class index out of range (its row is named), or a value out of
            range.

    Warns:
        UserWarning: no class is as rare as ``repeat_thresh``, so nothing is repeated.

    Reference: Gupta et al., LVIS, CVPR 2019 (arXiv:1908.03195).

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
        check_options("sampler", "repeat_factor", {"repeat_thresh": repeat_thresh, "power": power})
        membership = Membership.read(classes_per_image, argument="classes_per_image", num_classes=num_classes)
        self.repeat_thresh, self.power = float(repeat_thresh), float(power)
        frequency = membership.counts() / membership.num_items
        rare = (frequency > 0) & (frequency < repeat_thresh)
        self.class_repeat_factors = np.ones(len(frequency))
        self.class_repeat_factors[rare] = (repeat_thresh / frequency[rare]) ** power
        self._warn_if_nothing_repeats(float(frequency[frequency > 0].min()))
        self._factors, rank = np.unique(np.append(self.class_repeat_factors, 1.0), return_inverse=True)
        groups = _highest_rank(rank, membership)
        names = tuple(f"{factor:.6g}" for factor in self._factors)
        index = ClassIndex(Membership(groups, None, membership.num_items, names), fingerprint=membership.fingerprint())
        super().__init__(index, seed=seed)
        self._names = membership.names
        self._prior = _sampled_prior(membership, groups, self._factors)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._names

    @property
    def prior(self) -> FloatArray:
        prior: FloatArray = self._prior.copy()
        return prior

    @property
    def repeat_factors(self) -> FloatArray:
        """The repeat factor r_I of every image, float64 ``(N,)``: its expected number of repetitions per epoch."""
        factors = np.empty(self._index.num_items)
        factors[self._index.items] = np.repeat(self._factors, self._index.counts)
        return factors

    def _sequence(self) -> ClassSequence:
        wanted = self._index.counts * self._factors
        # Systematic rounding: one random start on the line of all fractions. Each group is rounded up with the
        # probability of its own fraction, and their sum is the floor or the ceil of the sum.
        start = uniforms(self._key(ROUNDING), 0, 1)
        steps = np.floor(np.cumsum(wanted - np.floor(wanted)) + start)
        counts = np.floor(wanted) + np.diff(steps, prepend=0.0)
        return FixedCounts(counts.astype(np.int64), self._key(CLASSES))

    def _settings(self) -> dict[str, Any]:
        return {"repeat_thresh": self.repeat_thresh, "power": self.power}

    def _warn_if_nothing_repeats(self, rarest: float) -> None:
        if (self.class_repeat_factors == 1.0).all():
            warnings.warn(
                f"no image is repeated: the rarest class is in {rarest:.3g} of the images, which is not below "
                f"repeat_thresh={self.repeat_thresh:g} (power={self.power:g}); give `repeat_thresh` the share of "
                "images that the rare classes should have",
                UserWarning,
                stacklevel=3,
            )


def _highest_rank(rank: NDArray[np.int64], membership: Membership) -> NDArray[Any]:
    """The highest rank among the classes of each item ``(N,)``; 0, a factor of 1, for an item without a class."""
    narrow = rank.astype(np.uint16 if len(rank) <= 2**16 else np.uint32)
    if membership.owners is None:
        one: NDArray[Any] = narrow[membership.classes]
        return one
    highest = np.zeros(membership.num_items, dtype=narrow.dtype)
    np.maximum.at(highest, membership.owners, narrow[membership.classes])
    return highest


def _sampled_prior(membership: Membership, groups: NDArray[Any], factors: FloatArray) -> FloatArray:
    """Share of the samples that have each class: the factors of its items over those of all items."""
    owned = factors[groups if membership.owners is None else groups[membership.owners]]
    in_class = np.bincount(membership.classes, weights=owned, minlength=len(membership.names))
    prior: FloatArray = in_class / (np.bincount(groups, minlength=len(factors)) @ factors)
    return prior
