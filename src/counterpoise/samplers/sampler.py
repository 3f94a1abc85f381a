"""The base of every sampler here: one global order from (seed, epoch), resumable anywhere."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain
from operator import length_hint
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.samplers.classes import ClassIndex
from counterpoise.samplers.draws import Draws
from counterpoise.samplers.order import Order, Within
from counterpoise.samplers.permutation import keys_of

__all__ = ["OrderedSampler", "whole_number"]

_VERSION = 1  # of the way an order follows from (seed, epoch); a state of another one cannot be continued
CLASSES, ITEMS, ROUNDING = 0, 1, 2  # what a random stream is for


class OrderedSampler(Sampler[int], ABC):
    """An index order that is a pure function of (labels, seed, epoch): the same in every process.

    It is never sharded here; accelerate, Lightning and the Trainer of Hugging Face do that. No global random generator
    is read or changed. Subclasses say which class each position takes, and which prior comes of it.
    """

    def __init__(self, index: ClassIndex, *, seed: int, within: Within = "cycle") -> None:
        self.seed = whole_number("seed", seed)
        self.epoch = 0
        self._index, self._within = index, within
        self._order: Order | None = None
        self._start = 0  # of the next pass
        self._loaded = False  # whether that pass is to continue a loaded state
        self._progress = _Progress(0)
        self._finished: dict[str, int] = {}  # the last epoch that was passed to its end, by kind of pass
        self._warned = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of `prior`."""
        return self._index.names

    @property
    @abstractmethod
    def prior(self) -> NDArray[np.float64]:
        """The share of this epoch's samples that has each class, float64 ``(C,)``.

        It sums to 1 where every item has one class. A model is trained on this prior, not on that of the dataset: it is
        what logit adjustment takes.
        """

    @abstractmethod
    def _draws(self) -> Draws:
        """The class of each position in the present epoch."""

    def _settings(self) -> dict[str, Any]:
        """What a state must agree on with the sampler that continues it."""
        return {}

    def __len__(self) -> int:
        """Samples that the next pass yields: a whole epoch, or what is left of it after `load_state_dict`."""
        return self._ordered().length - self._start

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, which has an order of its own. For the epoch that a loaded state is in, nothing changes."""
        epoch = whole_number("epoch", epoch)
        if epoch != self.epoch:
            self._tell_if_dropped(epoch)
            self.epoch, self._order, self._start, self._progress = epoch, None, 0, _Progress(0)
            self._loaded = False

    def __iter__(self) -> Iterator[int]:
        """Python ints, one by one. `batches` gives the same order as arrays, several times as fast."""
        self._tell_if_repeated("ints")
        order, progress = self._begin()

        def blocks() -> Iterator[Iterator[int]]:
            for block in order.blocks(progress.done):
                progress.hold(len(block), iter(block.tolist()))
                yield progress.rest
            self._end("ints", order)

        return chain.from_iterable(blocks())

    def batches(self, n: int) -> Iterator[NDArray[np.int64]]:
        """The order as int64 arrays of ``n`` indices; the last is shorter if ``n`` does not divide the length."""
        if whole_number("n", n) == 0:
            raise ArgumentError("`n` must be at least 1; got 0")
        self._tell_if_repeated("batches")
        return self._batches(n, *self._begin())

    def _batches(self, n: int, order: Order, progress: _Progress) -> Iterator[NDArray[np.int64]]:
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
        """All that is needed to continue exactly here, in plain Python values; of the size of the number of classes.

        Args:
            consumed: samples of this epoch that training has used, over all ranks. Workers fetch ahead of training, so
                the default, what was taken from this sampler, is right only without workers.
        """
        order = self._ordered()
        done = self._progress.position() if consumed is None else whole_number("consumed", consumed)
        if done > order.length:
            raise ArgumentError(f"`consumed` must be at most the {order.length} samples of the epoch; got {done}")
        state = {"seed": self.seed, "epoch": self.epoch, "consumed": done, "given": order.given(done).tolist()}
        return self._identity() | state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken: the next pass yields what was left of that epoch.

        Exact for any number of workers, and for another number of ranks, because the order is global. A host that skips
        the batches already used by itself (the Trainer of Hugging Face, ``accelerate.skip_first_batches``) must not be
        given a loaded sampler as well.

        Raises:
            ArgumentError: the state is of another sampler, other settings or other labels; both are shown.
        """
        mine = self._identity()
        missing = [key for key in (*mine, "seed", "epoch", "consumed", "given") if key not in state]
        if missing:
            raise ArgumentError(f"`state` is not one of a sampler of ours; it lacks {missing}")
        for key, value in mine.items():
            if state[key] != value:
                why = "the dataset has other labels now; " if key == "fingerprint" else ""
                raise ArgumentError(f"`state` cannot be continued here: {why}{key} was {state[key]!r}, is {value!r}")
        done = whole_number("consumed", state["consumed"])
        self.seed, self.epoch = whole_number("seed", state["seed"]), whole_number("epoch", state["epoch"])
        self._order = None
        order = self._ordered()
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

    def _ordered(self) -> Order:
        if self._order is None:
            self._order = Order(self._index, self._draws(), within=self._within, key=self._key(ITEMS))
        return self._order

    def _key(self, purpose: int) -> NDArray[np.uint64]:
        return keys_of(self.seed, self.epoch, purpose)

    def _begin(self) -> tuple[Order, _Progress]:
        self._progress, self._loaded = _Progress(self._start), False
        return self._ordered(), self._progress

    def _end(self, kind: str, order: Order) -> None:
        if order is self._order:  # the sampler may have gone on to another epoch meanwhile
            self._finished[kind] = self.epoch
            self._start = 0

    def _tell_if_repeated(self, kind: str) -> None:
        if self._finished.get(kind) != self.epoch or self._start or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"epoch {self.epoch} starts again, in the same order as before; call set_epoch(epoch) before every epoch",
            UserWarning,
            stacklevel=3,
        )

    def _tell_if_dropped(self, epoch: int) -> None:
        if self._loaded and 0 < len(self) < self._ordered().length:
            warnings.warn(
                f"the loaded state, {self._start} samples into epoch {self.epoch}, is dropped by set_epoch({epoch}); "
                f"call set_epoch({self.epoch}) first to continue it (under accelerate: of the prepared loader)",
                UserWarning,
                stacklevel=3,
            )


class _Progress:
    """How far a pass has come; where ints are given one by one, from what is left of their block."""

    def __init__(self, done: int) -> None:
        self.done = done
        self.rest: Iterator[int] = iter(())

    def hold(self, amount: int, rest: Iterator[int]) -> None:
        self.done += amount
        self.rest = rest

    def position(self) -> int:
        return self.done - length_hint(self.rest)


def whole_number(argument: str, value: Any) -> int:
    """``value`` as an int of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ArgumentTypeError(f"`{argument}` must be a whole number; got {value!r}")
    if value < 0:
        raise ArgumentError(f"`{argument}` must be at least 0; got {value}")
    return int(value)
