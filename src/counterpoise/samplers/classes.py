"""ClassIndex: the items of each class side by side, in four bytes an item."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.samplers.membership import Membership

__all__ = ["ClassIndex", "runs", "stable_order"]

_BLOCK = 1 << 20  # items sorted at a time: the set-up needs little beside what it builds


@final
class ClassIndex:
    """The items of each class: class c owns ``items[starts[c] : starts[c + 1]]``, ascending.

    Attributes:
        items: uint32, 4 bytes an item (uint64 from 2^32 items on).
        starts: int64 ``(C + 1,)``.
        counts: int64 ``(C,)``.
        names: C class names.
        num_items: N, with the items that have no class.
        single: whether every item has exactly one class.
        fingerprint: of the labels; see `Membership.fingerprint`.
    """

    def __init__(self, membership: Membership, *, fingerprint: str | None = None) -> None:
        classes, owners = membership.classes, membership.owners
        self.names, self.num_items, self.single = membership.names, membership.num_items, owners is None
        size = len(self.names)
        narrow = np.dtype(np.uint16 if size <= 2**16 else np.uint32)
        self.fingerprint = membership.fingerprint() if fingerprint is None else fingerprint
        self.counts = membership.counts()
        self.starts = np.concatenate([[0], np.cumsum(self.counts)])
        self.items: NDArray[Any] = np.empty(len(classes), dtype=np.uint32 if self.num_items < 2**32 else np.uint64)
        filled = self.starts[:-1].copy()
        for low in range(0, len(classes), _BLOCK):  # a counting sort, block by block
            block = classes[low : low + _BLOCK].astype(narrow)
            order = stable_order(block)
            held, first, amount = runs(block[order])
            places = np.repeat(filled[held] - first, amount) + np.arange(len(block))
            self.items[places] = order + low if owners is None else owners[low : low + _BLOCK][order]
            filled[held] += amount

    @property
    def num_classes(self) -> int:
        """The number of classes, C."""
        return len(self.counts)

    def prior_of(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the draws that have class c, ``(C,)``, where ``shares[c]`` of them are made from class c.

        The shares themselves if every item has one class; else an item drawn for one class brings its others along.
        """
        if self.single:
            return shares
        present = np.flatnonzero(self.counts)
        item_rates = np.zeros(self.num_items)
        rate = np.divide(shares, self.counts, out=np.zeros(self.num_classes), where=self.counts > 0)
        np.add.at(item_rates, self.items, np.repeat(rate, self.counts))
        prior = np.zeros(self.num_classes)
        prior[present] = np.add.reduceat(item_rates[self.items], self.starts[present])
        return prior


def stable_order(keys: NDArray[Any]) -> NDArray[np.int64]:
    """Stable argsort of uint16 or uint32 keys, by radix: NumPy's own does that for 16 bits only."""
    if keys.dtype == np.uint16:
        return np.argsort(keys, kind="stable")
    low = np.argsort(keys.astype(np.uint16), kind="stable")
    return low[np.argsort((keys[low] >> np.uint32(16)).astype(np.uint16), kind="stable")]


def runs(ordered: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values of an ordered, non-empty array, where each begins, and how often it occurs."""
    first = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    return ordered[first], first, np.diff(first, append=len(ordered))
