"""Base class of the samplers: one global index order from (seed, epoch), resumable at any position."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain
from operator import length_hint
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from counterpoise.core.checks import checked_count
from counterpoise.core.errors import ArgumentError
from counterpoise.samplers.index import ClassIndex, runs, stable_order
from counterpoise.samplers.permutation import ClassSequence, mix, permute, random_key, uniforms

IntArray = NDArray[np.int64]
Within = Literal["cycle", "uniform"]
CLASSES, ITEMS, ROUNDING = 0, 1, 2
"""Purposes of the random streams of an epoch."""
_VERSION = 1  # of how an order follows from (seed, epoch); a state of another version cannot be continued
_BLOCK = 1 << 15  # samples computed at a time: few enough for a fast first index, enough for NumPy to be fast


@final
class EpochOrder:
    """The items of one epoch, block by block, from any position on.

    The class of a position comes from ``sequence``. With ``within="cycle"`` the position then gets the next item of
    the class's shuffled cycle, so every item of a class comes once before any comes twice, and each cycle is shuffled
    anew; to continue from a position, only the number of items taken from each class before it must be known. With
    ``within="uniform"`` the item is drawn independently.
    """

    def __init__(self, index: ClassIndex, sequence: ClassSequence, *, within: Within, key: NDArray[np.uint64]) -> None:
        self.length = sequence.length
        self._index, self._sequence, self._within, self._key = index, sequence, within, key
        self._cached: OrderedDict[int, IntArray] = OrderedDict()

    def blocks(self, start: int) -> Iterator[IntArray]:
        """Yield int64 arrays of items, from position ``start`` to the end."""
        taken = self.taken_before(start)
        while start < self.length:
            stop = min(self.length, (start // _BLOCK + 1) * _BLOCK)
            self.remember(start, taken)
            yield self._cycle(start, stop, taken) if self._within == "cycle" else self._uniform(start, stop)
            start = stop

    def taken_before(self, position: int) -> IntArray:
        """Items taken from each class before ``position``, int64 ``(C,)``; empty for ``within="uniform"``.

        Counted from the nearest cached position.
        """
        if self._within == "uniform":
            return np.empty(0, dtype=np.int64)
        start = max((cached for cached in self._cached if cached <= position), default=0)
        taken = self._cached[start].copy() if start in self._cached else np.zeros(self._index.num_classes, np.int64)
        while start < position:
            stop = min(position, start + _BLOCK)
            taken += np.bincount(self._sequence.classes(start, stop), minlength=len(taken))
            start = stop
        return taken

    def remember(self, position: int, taken: IntArray) -> None:
        """Cache the items taken before ``position``; only the last few positions are kept."""
        self._cached[position] = taken.copy()
        while len(self._cached) > min(64, max(2, 4_000_000 // self._index.num_classes)):
            self._cached.popitem(last=False)

    def _uniform(self, start: int, stop: int) -> IntArray:
        index, classes = self._index, self._sequence.classes(start, stop).astype(np.intp)
        place = (uniforms(self._key, start, stop) * index.counts.take(classes)).astype(np.int64)
        items: IntArray = index.items.take(index.starts.take(classes) + place).astype(np.int64)
        return items

    def _cycle(self, start: int, stop: int, taken: IntArray) -> IntArray:
        classes = self._sequence.classes(start, stop)
        order = stable_order(classes)
        present, first, amount = runs(classes[order])
        items = np.empty(len(classes), dtype=np.int64)
        items[order] = self._next(present, first, amount, taken[present])
        taken[present] += amount
        return items

    def _next(self, present: NDArray[Any], first: IntArray, amount: IntArray, taken: IntArray) -> NDArray[Any]:
        """The next ``amount`` items of each class in ``present``, of which ``taken`` came before, class by class."""
        index, narrow = self._index, self._index.items.dtype
        size = index.counts[present]
        cycle, turn = np.divmod(taken, size)
        class_keys = self._class_keys(present)
        at = np.repeat(turn - first, amount) + np.arange(int(amount.sum()))
        sizes = np.repeat(size, amount)
        keys = np.repeat(mix(class_keys + cycle.astype(np.uint32)), amount)
        over = np.flatnonzero(at >= sizes)  # positions in a later cycle; a small class may pass several
        if over.size:
            further, at[over] = np.divmod(at[over], sizes[over])
            of = np.repeat(np.arange(len(present)), amount)[over]
            keys[over] = mix(class_keys[of] + (cycle[of] + further).astype(np.uint32))
        chosen = permute(at.astype(narrow), sizes.astype(narrow), keys)
        items: NDArray[Any] = index.items[np.repeat(index.starts[present], amount) + chosen.astype(np.int64)]
        return items

    def _class_keys(self, present: NDArray[Any]) -> NDArray[np.uint32]:
        low, high = self._key.view(np.uint32)[:2]
        keys: NDArray[np.uint32] = mix(present.astype(np.uint32) ^ low) ^ high
        return keys


class OrderedSampler(Sampler[int], ABC):
    """Base class of the samplers: an index order that is a pure function of (labels, seed, epoch).

    The order is the same in every process and is never sharded here; accelerate, Lightning and the Hugging Face
    Trainer shard it. No global random generator is read or changed. Subclasses define the class of each position and
    the class prior.

    Args:
        index: the items of each class.
        seed: at least 0; seed and epoch determine the order.
        within: how the items of a class are chosen, as for `ClassBalancedSampler`.
    """

    def __init__(self, index: ClassIndex, *, seed: int, within: Within = "cycle") -> None:
        self.seed = checked_count("seed", seed, minimum=0)
        self.epoch = 0
        self._index, self._within = index, within
        self._order: EpochOrder | None = None
        self._start = 0  # position at which the next pass starts
        self._loaded = False  # whether that pass continues a loaded state
        self._progress = _Progress(0)
        self._finished: dict[str, int] = {}  # last epoch that was passed to its end, by kind of pass
        self._warned = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of `prior`."""
        return self._index.names

    @property
    @abstractmethod
    def prior(self) -> NDArray[np.float64]:
        """The share of this epoch's samples that has each class, float64 ``(C,)``.

        It sums to 1 if every item has one class. The model is trained on this prior and not on that of the dataset, so
        this is the prior to give to logit adjustment.
        """

    @abstractmethod
    def _sequence(self) -> ClassSequence:
        """The class of each position in the current epoch."""

    def _settings(self) -> dict[str, Any]:
        """Settings that a state must share with the sampler that continues it."""
        return {}

    def __len__(self) -> int:
        """Samples of the next pass: a whole epoch, or what remains of it after `load_state_dict`."""
        return self._epoch_order().length - self._start

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch, which determines the order; call it before every epoch.

        If a loaded state belongs to this epoch, the sampler keeps the loaded position.

        Args:
            epoch: at least 0.
        """
        epoch = checked_count("epoch", epoch, minimum=0)
        if epoch != self.epoch:
            self._warn_if_dropped(epoch)
            self.epoch, self._order, self._start, self._progress = epoch, None, 0, _Progress(0)
            self._loaded = False

    def __iter__(self) -> Iterator[int]:
        """Yield the indices as Python ints; `batches` yields the same order as arrays, several times as fast."""
        self._warn_if_repeated("ints")
        order, progress = self._begin()

        def blocks() -> Iterator[Iterator[int]]:
            for block in order.blocks(progress.done):
                progress.hold(len(block), iter(block.tolist()))
                yield progress.rest
            self._end("ints", order)

        return chain.from_iterable(blocks())

    def batches(self, n: int) -> Iterator[NDArray[np.int64]]:
        """Yield the order as int64 arrays of ``n`` indices; the last one may be shorter.

        Args:
            n: batch size, at least 1.
        """
        checked_count("n", n)
        self._warn_if_repeated("batches")
        return self._batches(n, *self._begin())

    def _batches(self, n: int, order: EpochOrder, progress: _Progress) -> Iterator[NDArray[np.int64]]:
        held: list[NDArray[np.int64]] = []
        for block in order.blocks(progress.done):
            held.append(block)
            if sum(map(len, held)) < n:
                continue
            joined = np.concatenate(held)
            full = len(joined) - len(joined) % n
            for low in range(0, full, n):
                progress.done += n
                yield joined[low : low + n].copy()
            held = [joined[full:]]
        rest = np.concatenate([*held, np.empty(0, dtype=np.int64)])
        progress.done += len(rest)
        if len(rest):
            yield rest
        self._end("batches", order)

    def state_dict(self, consumed: int | None = None) -> dict[str, Any]:
        """Everything needed to continue at this position, in plain Python values; its size is that of the classes.

        Args:
            consumed: samples of this epoch that training has used, over all ranks. Data loader workers prefetch, so
                the default, the samples taken from this sampler, is right only without workers.

        Raises:
            ArgumentError: ``consumed`` exceeds the length of the epoch.
        """
        order = self._epoch_order()
        done = self._progress.position() if consumed is None else checked_count("consumed", consumed, minimum=0)
        if done > order.length:
            raise ArgumentError(f"`consumed` must be at most the {order.length} samples of the epoch; got {done}")
        state = {"seed": self.seed, "epoch": self.epoch, "consumed": done, "given": order.taken_before(done).tolist()}
        return self._identity() | state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`: the next pass yields the samples that remained of its epoch.

        This is exact for any number of workers and for another number of ranks, because the order is global. Do not
        give a loaded sampler to code that skips used batches itself (the Hugging Face Trainer,
        ``accelerate.skip_first_batches``).

        Args:
            state: the result of `state_dict`, also after JSON.

        Raises:
            ArgumentError: the state belongs to another sampler, other settings or other labels; both are named.
        """
        mine = self._identity()
        missing = [key for key in (*mine, "seed", "epoch", "consumed", "given") if key not in state]
        if missing:
            raise ArgumentError(f"`state` must be the state_dict() of a sampler of Counterpoise; it lacks {missing}")
        for key, value in mine.items():
            if state[key] != value:
                why = "the dataset has other labels now; " if key == "fingerprint" else ""
                raise ArgumentError(f"`state` cannot be continued here: {why}{key} was {state[key]!r}, is {value!r}")
        done = checked_count("consumed", state["consumed"], minimum=0)
        self.seed = checked_count("seed", state["seed"], minimum=0)
        self.epoch = checked_count("epoch", state["epoch"], minimum=0)
        self._order = None
        order = self._epoch_order()
        if done > order.length:
            raise ArgumentError(f"`state` has consumed {done} of an epoch of {order.length} samples")
        order.remember(done, np.array(state["given"], dtype=np.int64))
        self._start, self._progress, self._loaded = done, _Progress(done), True

    def _identity(self) -> dict[str, Any]:
        return {
            "sampler": type(self).__name__,
            "version": _VERSION,
            "items": self._index.num_items,
            "fingerprint": self._index.fingerprint,
            "settings": self._settings(),
        }

    def _epoch_order(self) -> EpochOrder:
        if self._order is None:
            self._order = EpochOrder(self._index, self._sequence(), within=self._within, key=self._key(ITEMS))
        return self._order

    def _key(self, purpose: int) -> NDArray[np.uint64]:
        return random_key(self.seed, self.epoch, purpose)

    def _begin(self) -> tuple[EpochOrder, _Progress]:
        self._progress, self._loaded = _Progress(self._start), False
        return self._epoch_order(), self._progress

    def _end(self, kind: str, order: EpochOrder) -> None:
        if order is self._order:  # otherwise set_epoch was called during the pass
            self._finished[kind] = self.epoch
            self._start = 0

    def _warn_if_repeated(self, kind: str) -> None:
        if self._finished.get(kind) != self.epoch or self._start or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"epoch {self.epoch} of the sampler is iterated again, in the same order as before; call "
            "set_epoch(epoch) before every epoch",
            UserWarning,
            stacklevel=3,
        )

    def _warn_if_dropped(self, epoch: int) -> None:
        if self._loaded and 0 < len(self) < self._epoch_order().length:
            warnings.warn(
                f"set_epoch({epoch}) drops the loaded state, which is {self._start} samples into epoch {self.epoch}; "
                f"to continue it, call set_epoch({self.epoch}) first (under accelerate: of the prepared data loader)",
                UserWarning,
                stacklevel=3,
            )


class _Progress:
    """Samples that a pass has yielded; if they are yielded one by one, counted from what is left of the block."""

    def __init__(self, done: int) -> None:
        self.done = done
        self.rest: Iterator[int] = iter(())

    def hold(self, amount: int, rest: Iterator[int]) -> None:
        """Start a block of ``amount`` samples that ``rest`` yields."""
        self.done += amount
        self.rest = rest

    def position(self) -> int:
        """The number of samples yielded so far."""
        return self.done - length_hint(self.rest)
