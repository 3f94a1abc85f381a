"""Samplers that choose the class first, with a probability that depends on its count and possibly on the epoch."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_count
from counterpoise.core.hyperparameters import check_options
from counterpoise.samplers.base import CLASSES, OrderedSampler, Within
from counterpoise.samplers.index import ClassIndex, Membership
from counterpoise.samplers.permutation import ClassSequence, IndependentClasses

FloatArray = NDArray[np.float64]


@final
class ClassBalancedSampler(OrderedSampler):
    """Samples a class with ``p(class) ∝ n_c^power``, then an item of that class.

    ``power=0`` is class-balanced sampling, ``0.5`` square-root sampling, ``1`` instance-balanced sampling, and ``-1``
    samples rare classes more often than frequent ones.

    Args:
        labels: ``(N,)`` class indices or names (`labels_of` reads them from a dataset). If items have several classes:
            an ``(N, C)`` array of 0/1 targets, or a list with the class indices of each item; an item without a class
            is never sampled.
        power: the exponent q.
        num_samples: length of an epoch; None for N.
        within: ``"cycle"``: every item of a class once before any twice; ``"uniform"``: independently, with
            replacement.
        seed: at least 0; seed and epoch determine the order.
        num_classes: C, if the labels do not contain all classes.

    Raises:
        ArgumentError: no items, a label that is not a class index (its row is named), or a value out of range.
        ArgumentTypeError: labels that are neither whole numbers nor strings.

    Reference: Kang et al., Decoupling Representation and Classifier, ICLR 2020 (arXiv:1910.09217).

    Example:
        >>> sampler = ClassBalancedSampler([0] * 90 + [1] * 10, seed=0)
        >>> len(sampler), sampler.prior
        (100, array([0.5, 0.5]))
        >>> indices = [index for batch in sampler.batches(32) for index in batch]
        >>> 35 < sum(int(index >= 90) for index in indices) < 65
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
        check_options("sampler", "class_balanced", {"power": power, "within": within})
        super().__init__(ClassIndex(Membership.read(labels, num_classes=num_classes)), seed=seed, within=within)
        self.power = float(power)
        self.num_samples = self._index.num_items if num_samples is None else checked_count("num_samples", num_samples)

    @property
    def prior(self) -> FloatArray:
        return self._index.prior_of(_power_shares(self._index.counts, self.power))

    def _sequence(self) -> ClassSequence:
        shares = _power_shares(self._index.counts, self.power)
        return IndependentClasses(shares, self.num_samples, self._key(CLASSES))

    def _settings(self) -> dict[str, Any]:
        return {"power": self.power, "num_samples": self.num_samples, "within": self._within}


@final
class ProgressiveSampler(OrderedSampler):
    """Moves from instance-balanced to class-balanced sampling: ``p(e) = (1 − e/E) p_instance + (e/E) p_balanced``.

    Call ``set_epoch`` before every epoch. From epoch E on, sampling is class-balanced.

    Args:
        labels: as for `ClassBalancedSampler`.
        epochs: E, at least 1.
        seed: at least 0; seed and epoch determine the order.
        num_samples: length of an epoch; None for N.
        num_classes: C, if the labels do not contain all classes.

    Raises:
        ArgumentError: as for `ClassBalancedSampler`.

    Reference: Kang et al., Decoupling Representation and Classifier, ICLR 2020 (arXiv:1910.09217).

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
        self.epochs = checked_count("epochs", epochs)
        self.num_samples = self._index.num_items if num_samples is None else checked_count("num_samples", num_samples)

    @property
    def prior(self) -> FloatArray:
        return self._index.prior_of(self._shares())

    def _shares(self) -> FloatArray:
        done = min(self.epoch / self.epochs, 1.0)
        counts = self._index.counts
        return (1.0 - done) * _power_shares(counts, 1.0) + done * _power_shares(counts, 0.0)

    def _sequence(self) -> ClassSequence:
        return IndependentClasses(self._shares(), self.num_samples, self._key(CLASSES))

    def _settings(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "num_samples": self.num_samples}


def _power_shares(counts: NDArray[np.int64], power: float) -> FloatArray:
    """``n_c^power`` normalised to sum to 1; 0 for an empty class whatever the power."""
    relative = np.where(counts > 0, counts / counts.max(), 1.0) ** power
    shares: FloatArray = np.where(counts > 0, relative, 0.0)
    shares /= shares.sum()
    return shares
