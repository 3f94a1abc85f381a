"""Samplers that draw the class first: by a power of its count, or going from one power to another."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.samplers.classes import ClassIndex
from counterpoise.samplers.draws import Draws, IndependentDraws
from counterpoise.samplers.membership import Membership
from counterpoise.samplers.order import Within
from counterpoise.samplers.sampler import CLASSES, OrderedSampler, whole_number

__all__ = ["ClassBalancedSampler", "ProgressiveSampler"]

FloatArray = NDArray[np.float64]


@final
class ClassBalancedSampler(OrderedSampler):
    """Draws a class with ``p(class) ∝ n_c^power``, then an item of that class.

    ``power=0`` draws every class equally often, ``0.5`` by the square root of its count, ``1`` as the data are,
    ``-1`` the rare classes most.
    Decoupling, Kang et al., ICLR 2020 (arXiv:1910.09217).

    Args:
        labels: ``(N,)`` class ids or names (`labels_of` reads them from a dataset). Where items have several classes:
            an ``(N, C)`` array of 0/1 targets or a list with the ids of each item; an item without any is never drawn.
        power: q; negative draws rare classes more often than frequent ones.
        num_samples: length of an epoch; default N.
        within: ``"cycle"``: every item of a class once before any twice; ``"uniform"``: independent draws.
        seed: with the epoch it fixes the order.
        num_classes: C, where the labels do not show all classes.

    Raises:
        ArgumentError: no items, a label that is not a class id (its row is named), or a value out of range.
        ArgumentTypeError: labels that are neither whole numbers nor strings.

    Example:
        >>> sampler = ClassBalancedSampler([0] * 90 + [1] * 10, seed=0)
        >>> len(sampler), sampler.prior
        (100, array([0.5, 0.5]))
        >>> drawn = [index for batch in sampler.batches(32) for index in batch]
        >>> 35 < sum(int(index >= 90) for index in drawn) < 65
        True
    """

    def __init__(
        self,
        labels: Any,
        *,
        power: float = 0.0,
        num_samples: int | None = None,
        within: Within = "cycle",
        seed: int = 0,
        num_classes: int | None = None,
    ) -> None:
        if within not in ("cycle", "uniform"):
            raise ArgumentError(f'`within` must be "cycle" or "uniform"; got {within!r}')
        if not np.isfinite(power):
            raise ArgumentError(f"`power` must be finite; got {power}")
        super().__init__(ClassIndex(Membership.read(labels, num_classes=num_classes)), seed=seed, within=within)
        self.power = float(power)
        self.num_samples = self._index.num_items if num_samples is None else whole_number("num_samples", num_samples)
        if self.num_samples == 0:
            raise ArgumentError("`num_samples` must be at least 1; got 0")

    @property
    def prior(self) -> FloatArray:
        return self._index.prior_of(power_shares(self._index.counts, self.power))

    def _draws(self) -> Draws:
        shares = power_shares(self._index.counts, self.power)
        return IndependentDraws(shares, self.num_samples, self._key(CLASSES))

    def _settings(self) -> dict[str, Any]:
        return {"power": self.power, "num_samples": self.num_samples, "within": self._within}


@final
class ProgressiveSampler(OrderedSampler):
    """From the data as they are to balanced classes: ``p(e) = (1 - e/E) p_instance + (e/E) p_balanced``.

    Decoupling, Kang et al., ICLR 2020 (arXiv:1910.09217). Call ``set_epoch`` before every epoch; from epoch E on the
    classes are balanced.

    Args:
        labels: as for `ClassBalancedSampler`.
        epochs: E, at least 1.
        seed: with the epoch it fixes the order.
        num_samples: length of an epoch; default N.
        num_classes: C, where the labels do not show all classes.

    Example:
        >>> sampler = ProgressiveSampler([0] * 90 + [1] * 10, epochs=10)
        >>> sampler.prior
        array([0.9, 0.1])
        >>> sampler.set_epoch(5)
        >>> sampler.prior
        array([0.7, 0.3])
    """

    def __init__(
        self,
        labels: Any,
        *,
        epochs: int,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(ClassIndex(Membership.read(labels, num_classes=num_classes)), seed=seed)
        self.epochs = whole_number("epochs", epochs)
        self.num_samples = self._index.num_items if num_samples is None else whole_number("num_samples", num_samples)
        if not (self.epochs and self.num_samples):
            raise ArgumentError(f"`epochs` and `num_samples` must be at least 1; got {epochs} and {num_samples}")

    @property
    def prior(self) -> FloatArray:
        return self._index.prior_of(self._shares())

    def _shares(self) -> FloatArray:
        done = min(self.epoch / self.epochs, 1.0)
        counts = self._index.counts
        return (1.0 - done) * power_shares(counts, 1.0) + done * power_shares(counts, 0.0)

    def _draws(self) -> Draws:
        return IndependentDraws(self._shares(), self.num_samples, self._key(CLASSES))

    def _settings(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "num_samples": self.num_samples}


def power_shares(counts: NDArray[np.int64], power: float) -> FloatArray:
    """``n_c^power`` normalised to 1, and 0 for an empty class whatever the power."""
    relative = np.where(counts > 0, counts / counts.max(), 1.0) ** power
    shares: FloatArray = np.where(counts > 0, relative, 0.0)
    shares /= shares.sum()
    return shares
