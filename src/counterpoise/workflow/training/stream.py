"""One endless order of training images, cut into epochs of equal length: the equal budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from counterpoise.samplers import OrderedSampler

__all__ = ["BatchStream", "Order", "PairedStream", "of_sampler", "shuffled"]


@dataclass(frozen=True)
class Order:
    """Passes over the training images: ``draw(number)`` has the ``length`` indices of that pass, on every process.

    ``prior`` is the class prior that the passes produce, the last one's where it changes; None for that of the data.
    """

    length: int
    draw: Callable[[int], NDArray[np.int64]]
    prior: NDArray[np.float64] | None = None


def shuffled(n: int, seed: int) -> Order:
    """Every image once a pass, in an order drawn from (seed, pass)."""
    return Order(n, lambda number: np.random.default_rng((seed, number)).permutation(n))


def of_sampler(sampler: OrderedSampler) -> Order:
    """The epochs of a sampler, one a pass."""

    def draw(number: int) -> NDArray[np.int64]:
        sampler.set_epoch(number)
        return np.concatenate(list(sampler.batches(1 << 16)))

    return Order(len(sampler), draw, sampler.prior)


class BatchStream:
    """Batches of one epoch of the stream: always ``steps`` batches of ``batch_size`` indices.

    A strategy that repeats or leaves out images has passes of another length; its passes follow one another,
    and every epoch takes the next ``steps * batch_size`` indices. All is a function of (order, epoch): nothing
    has to be saved to go on after an interruption.

    Example:
        >>> stream = BatchStream(Order(3, lambda number: np.arange(3)), steps=2, batch_size=2)
        >>> stream.set_epoch(1)
        >>> list(stream)
        [[1, 2], [0, 1]]
    """

    drop_last = False

    def __init__(self, order: Order, *, steps: int, batch_size: int) -> None:
        self.order, self.steps, self.batch_size = order, steps, batch_size
        self.epoch = 0
        self._last: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        indices = self._indices(self.epoch)
        for start in range(0, len(indices), self.batch_size):
            yield indices[start : start + self.batch_size].tolist()

    def _indices(self, epoch: int) -> NDArray[np.int64]:
        wanted = self.steps * self.batch_size
        number, skip = divmod(epoch * wanted, self.order.length)
        pieces, have = [], -skip
        while have < wanted:
            pieces.append(self._pass(number))
            have, number = have + self.order.length, number + 1
        return np.concatenate(pieces)[skip : skip + wanted]

    def _pass(self, number: int) -> NDArray[np.int64]:
        # An epoch may end inside a pass, and the next one goes on in it.
        if self._last[0] != number:
            self._last = (number, self.order.draw(number))
        return self._last[1]


class PairedStream:
    """Two streams in turn: ``a0 b0 a1 b1 …``, so that every part of a batch that begins at a pair holds whole pairs.

    Example:
        >>> ones, twos = (BatchStream(Order(1, lambda n, v=v: np.array([v])), steps=1, batch_size=2) for v in (1, 2))
        >>> list(PairedStream(ones, twos))
        [[1, 2, 1, 2]]
    """

    drop_last = False

    def __init__(self, first: BatchStream, second: BatchStream) -> None:
        self.first, self.second = first, second
        self.batch_size = first.batch_size + second.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.first.set_epoch(epoch)
        self.second.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[list[int]]:
        for a, b in zip(self.first, self.second, strict=True):
            yield [row for pair in zip(a, b, strict=True) for row in pair]
