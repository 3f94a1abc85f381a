"""Order: the items of one epoch, block by block, from any position on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.samplers.classes import ClassIndex, runs, stable_order
from counterpoise.samplers.draws import Draws
from counterpoise.samplers.permutation import mix, permute, uniforms

__all__ = ["Order", "Within"]

IntArray = NDArray[np.int64]
Within = Literal["cycle", "uniform"]
_BLOCK = 1 << 15  # samples drawn at a time: few enough for the first index at once, enough for NumPy to be fast


@final
class Order:
    """First the class of a position (``draws``), then an item of that class.

    With ``within="cycle"`` the next one of the class's shuffled cycle: every item once before any twice; each further
    cycle is shuffled anew. How many items each class gave before a position is all that must be known to go on from
    there. With ``"uniform"`` an independent draw from the class, for which nothing must be known.
    """

    def __init__(self, index: ClassIndex, draws: Draws, *, within: Within, key: NDArray[np.uint64]) -> None:
        self.length = draws.length
        self._index, self._draws, self._within, self._key = index, draws, within, key
        self._known: OrderedDict[int, IntArray] = OrderedDict()

    def blocks(self, start: int) -> Iterator[IntArray]:
        """Int64 arrays of items, from position ``start`` to the end."""
        given = self.given(start)
        while start < self.length:
            stop = min(self.length, (start // _BLOCK + 1) * _BLOCK)
            self.remember(start, given)
            yield self._cycle(start, stop, given) if self._within == "cycle" else self._uniform(start, stop)
            start = stop

    def given(self, position: int) -> IntArray:
        """How many items each class gave before ``position``, int64 ``(C,)``; empty where that does not matter.

        From the nearest position that is remembered, drawing only the classes again.
        """
        if self._within == "uniform":
            return np.empty(0, dtype=np.int64)
        start = max((known for known in self._known if known <= position), default=0)
        given = self._known[start].copy() if start in self._known else np.zeros(self._index.num_classes, np.int64)
        while start < position:
            stop = min(position, start + _BLOCK)
            given += np.bincount(self._draws.classes(start, stop), minlength=len(given))
            start = stop
        return given

    def remember(self, position: int, given: IntArray) -> None:
        """Keep what each class gave before ``position`` (the last few such), so that `given` need not draw it again."""
        self._known[position] = given.copy()
        while len(self._known) > min(64, max(2, 4_000_000 // self._index.num_classes)):
            self._known.popitem(last=False)

    def _uniform(self, start: int, stop: int) -> IntArray:
        index, chosen = self._index, self._draws.classes(start, stop).astype(np.intp)
        place = (uniforms(self._key, start, stop) * index.counts.take(chosen)).astype(np.int64)
        items: IntArray = index.items.take(index.starts.take(chosen) + place).astype(np.int64)
        return items

    def _cycle(self, start: int, stop: int, given: IntArray) -> IntArray:
        chosen = self._draws.classes(start, stop)
        order = stable_order(chosen)
        held, first, amount = runs(chosen[order])
        items = np.empty(len(chosen), dtype=np.int64)
        items[order] = self._next(held, first, amount, given[held])
        given[held] += amount
        return items

    def _next(self, held: NDArray[Any], first: IntArray, amount: IntArray, given: IntArray) -> NDArray[Any]:
        """The next ``amount`` items of each class of ``held``, class by class; it gave ``given`` before."""
        index, narrow = self._index, self._index.items.dtype
        size = index.counts[held]
        cycle, turn = np.divmod(given, size)
        class_keys = self._class_keys(held)
        at = np.repeat(turn - first, amount) + np.arange(int(amount.sum()))
        sizes = np.repeat(size, amount)
        keys = np.repeat(mix(class_keys + cycle.astype(np.uint32)), amount)
        over = np.flatnonzero(at >= sizes)  # a cycle ended here, for a small class perhaps more than one
        if over.size:
            further, at[over] = np.divmod(at[over], sizes[over])
            of = np.repeat(np.arange(len(held)), amount)[over]
            keys[over] = mix(class_keys[of] + (cycle[of] + further).astype(np.uint32))
        chosen = permute(at.astype(narrow), sizes.astype(narrow), keys)
        items: NDArray[Any] = index.items[np.repeat(index.starts[held], amount) + chosen.astype(np.int64)]
        return items

    def _class_keys(self, held: NDArray[Any]) -> NDArray[np.uint32]:
        low, high = self._key.view(np.uint32)[:2]
        keys: NDArray[np.uint32] = mix(held.astype(np.uint32) ^ low) ^ high
        return keys
