"""One endless order of training images, cut into epochs of equal length: the equal budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["BatchStream", "Order", "shuffled"]

Order = Callable[[int], NDArray[np.int64]]
"""Pass number → the indices of that pass, the same on every process."""


def shuffled(n: int, seed: int) -> Order:
    """Every image once a pass, in an order drawn from (seed, pass)."""
    return lambda number: np.random.default_rng((seed, number)).permutation(n)


class BatchStream:
    """Batches of one epoch of the stream: always ``steps`` batches of ``batch_size`` indices.

    A strategy that repeats or leaves out images has passes of another length; its passes follow one another,
    and every epoch takes the next ``steps * batch_size`` indices. All is a function of (order, epoch): nothing
    has to be saved to go on after an interruption.

    Example:
        >>> stream = BatchStream(lambda number: np.arange(3), steps=2, batch_size=2)
        >>> stream.set_epoch(1)
        >>> list(stream)
        [[1, 2], [0, 1]]
    """

    drop_last = False

    def __init__(self, order: Order, *, steps: int, batch_size: int) -> None:
        self.order, self.steps, self.batch_size = order, steps, batch_size
        self.epoch = 0

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
        length = len(self.order(0))
        number, skip = divmod(epoch * wanted, length)
        pieces, have = [], -skip
        while have < wanted:
            pieces.append(self.order(number))
            have, number = have + length, number + 1
        return np.concatenate(pieces)[skip : skip + wanted]
