"""Draws: the class that each position of an epoch takes, as a pure function of the position."""

from __future__ import annotations

from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.samplers.permutation import permute, uniforms

__all__ = ["Draws", "ExactDraws", "IndependentDraws"]


class Draws(Protocol):
    """Classes by position: ``length`` of them, any stretch on request."""

    length: int

    def classes(self, start: int, stop: int) -> NDArray[Any]:
        """The class of each position in ``start .. stop - 1``: uint16, or uint32 for more than 65,536 classes."""
        ...


@final
class IndependentDraws:
    """Each position takes class c with probability ``shares[c]``, whatever the others take."""

    def __init__(self, shares: NDArray[np.float64], length: int, key: NDArray[np.uint64]) -> None:
        self.length = length
        self._steps, self._key = _Steps(shares / shares.sum()), key

    def classes(self, start: int, stop: int) -> NDArray[Any]:
        return self._steps.find(uniforms(self._key, start, stop))


@final
class ExactDraws:
    """Class c takes exactly ``quotas[c]`` positions, shuffled."""

    def __init__(self, quotas: NDArray[np.int64], key: NDArray[np.uint64]) -> None:
        self.length = int(quotas.sum())
        self._steps, self._key = _Steps(quotas), key.view(np.uint32)[:1]

    def classes(self, start: int, stop: int) -> NDArray[Any]:
        wide = np.uint32 if self.length < 2**32 else np.uint64
        shuffled = permute(np.arange(start, stop, dtype=wide), np.array([self.length], dtype=wide), self._key)
        return self._steps.find(shuffled.astype(np.float64))


@final
class _Steps:
    """A staircase of cumulative shares: finds the step that a value is on.

    A table answers for most values at once; the others are searched. A class without a share is never found.
    """

    def __init__(self, shares: NDArray[Any]) -> None:
        self._top = np.cumsum(shares, dtype=np.float64)
        buckets = 1 << min(max(12, (16 * len(shares)).bit_length()), 17)  # at most 1 MB, made in milliseconds
        self._scale = buckets / float(self._top[-1])
        self._top[np.flatnonzero(shares)[-1] :] = np.inf  # so that no rounding leads beyond the last class with a share
        # An edge may be rounded either way: begin a hair below it, with a step that can only be too low.
        edges = np.arange(buckets) * ((1.0 - 1e-12) / self._scale)
        narrow = np.uint16 if len(shares) <= 2**16 else np.uint32
        self._first = np.searchsorted(self._top, edges, side="right").astype(narrow)

    def find(self, values: NDArray[np.float64]) -> NDArray[Any]:
        step: NDArray[Any] = self._first.take((values * self._scale).astype(np.intp), mode="clip")
        low = np.flatnonzero(self._top.take(step) <= values)
        step[low] = np.searchsorted(self._top, values[low], side="right")
        return step
