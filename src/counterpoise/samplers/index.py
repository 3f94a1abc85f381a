"""Which classes each item has and which items each class has, from labels in any of the supported forms."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError, ArgumentTypeError

_BLOCK = 1 << 20  # items processed at a time, which bounds the temporary memory


@dataclass(frozen=True, eq=False)
class Membership:
    """Pairs of an item and a class that it has.

    Attributes:
        classes: ``(P,)`` class indices.
        owners: ``(P,)`` items, ascending; None if item j has class ``classes[j]`` and no other.
        num_items: N.
        names: C class names.
    """

    classes: NDArray[Any]
    owners: NDArray[np.int64] | None
    num_items: int
    names: tuple[str, ...]

    @classmethod
    def read(cls, labels: Any, *, argument: str = "labels", num_classes: int | None = None) -> Membership:
        """Read ``(N,)`` indices or names, an ``(N, C)`` array of 0/1 targets, or a list with the indices of each item.

        Raises:
            ArgumentError: no items, an index outside ``0 .. num_classes - 1``, targets other than 0 and 1 (the row is
                named).
            ArgumentTypeError: labels that are neither whole numbers nor strings (the first row is named).
        """
        if not hasattr(labels, "__array__"):
            labels = list(labels)
            if any(isinstance(row, list | tuple | set | frozenset) or hasattr(row, "__array__") for row in labels):
                return cls._of_lists(labels, argument, num_classes)
        array = np.asarray(labels)
        if array.size == 0:
            raise ArgumentError(f"`{argument}` must have at least one item; got none")
        if array.ndim == 2:
            return cls._of_targets(array, argument, num_classes)
        if array.ndim != 1:
            raise ArgumentError(
                f"`{argument}` must have shape (N,), or (N, C) for several classes per item; got {array.shape}"
            )
        if array.dtype.kind in "US":
            distinct, array = np.unique(array, return_inverse=True)
            return cls(array, None, len(array), tuple(str(name) for name in distinct))
        return cls(array, None, len(array), _index_names(_checked_size(array, argument, num_classes)))

    def counts(self) -> NDArray[np.int64]:
        """Items per class, int64 ``(C,)``."""
        counts = np.zeros(len(self.names), dtype=np.int64)
        for low in range(0, len(self.classes), _BLOCK):  # `bincount` converts its argument to int64
            counts += np.bincount(self.classes[low : low + _BLOCK], minlength=len(counts))
        return counts

    def fingerprint(self) -> str:
        """16 hexadecimal digits that depend on N, C and every label."""
        digest = hashlib.blake2b(f"{self.num_items} items, {len(self.names)} classes".encode(), digest_size=8)
        for low in range(0, len(self.classes), _BLOCK):
            digest.update(self.classes[low : low + _BLOCK].astype("<u4").tobytes())
            if self.owners is not None:
                digest.update(self.owners[low : low + _BLOCK].astype("<u8").tobytes())
        return digest.hexdigest()

    @classmethod
    def _of_targets(cls, targets: NDArray[Any], argument: str, num_classes: int | None) -> Membership:
        wrong = ~((targets == 0) | (targets == 1)).all(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ArgumentError(f"`{argument}` of shape (N, C) must hold only 0 and 1; row {row} has other values")
        if num_classes not in (None, targets.shape[1]):
            raise ArgumentError(f"`num_classes` is {num_classes} but `{argument}` has {targets.shape[1]} columns")
        owners, classes = np.nonzero(targets)
        return cls._of_pairs(classes, owners, targets.shape[0], targets.shape[1], argument)

    @classmethod
    def _of_lists(cls, rows: Sequence[Any], argument: str, num_classes: int | None) -> Membership:
        indices = [np.asarray(list(row) if isinstance(row, set | frozenset) else row).reshape(-1) for row in rows]
        owners = np.repeat(np.arange(len(rows)), [len(row) for row in indices])
        classes = np.concatenate([row for row in indices if len(row)] or [np.empty(0, np.int64)])
        size = _checked_size(classes, argument, num_classes, owners)
        if size == 2 and len({len(row) for row in indices}) == 1 and len(indices[0]) > 1:
            raise ArgumentError(
                f"`{argument}` could be 0/1 targets or lists of class indices; give an (N, C) array for targets"
            )
        pairs = np.unique(owners * max(size, 1) + classes)  # a class counts once per item
        return cls._of_pairs(pairs % max(size, 1), pairs // max(size, 1), len(rows), size, argument)

    @classmethod
    def _of_pairs(
        cls, classes: NDArray[Any], owners: NDArray[np.int64], num_items: int, size: int, argument: str
    ) -> Membership:
        if not len(classes):
            raise ArgumentError(f"`{argument}` give no item a class; there is nothing to sample from")
        if len(owners) == num_items and bool((owners == np.arange(num_items)).all()):
            return cls(classes, None, num_items, _index_names(size))
        return cls(classes, owners, num_items, _index_names(size))


def _index_names(size: int) -> tuple[str, ...]:
    return tuple(str(c) for c in range(size))


def _checked_size(
    indices: NDArray[Any], argument: str, num_classes: int | None, owners: NDArray[np.int64] | None = None
) -> int:
    """Check that all class indices are whole numbers in range, and return the number of classes."""

    def row_of(wrong: NDArray[Any]) -> int:
        first = int(np.argmax(wrong))
        return first if owners is None else int(owners[first])

    if indices.size and indices.dtype.kind not in "iu":
        wrong = indices != np.floor(indices) if indices.dtype.kind == "f" else np.zeros(len(indices), dtype=bool)
        found = f"; row {row_of(wrong)} is {indices[np.argmax(wrong)]}" if wrong.any() else ""
        raise ArgumentTypeError(f"`{argument}` must be whole numbers or strings; got dtype {indices.dtype}{found}")
    size = num_classes if num_classes is not None else int(indices.max()) + 1 if indices.size else 0
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= size):
        wrong = (indices < 0) | (indices >= size)
        wanted = "at least 0" if num_classes is None else f"in 0 .. {size - 1}"
        raise ArgumentError(
            f"`{argument}` must be {wanted}; row {row_of(wrong)} has {indices[np.argmax(wrong)]} "
            "(leave items without a label out, with torch.utils.data.Subset)"
        )
    return size


@final
class ClassIndex:
    """The items of each class in one array: class c owns ``items[starts[c] : starts[c + 1]]``, ascending.

    Attributes:
        items: uint32, four bytes per item (uint64 from 2^32 items on).
        starts: int64 ``(C + 1,)``.
        counts: int64 ``(C,)``.
        names: C class names.
        num_items: N, including items without a class.
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
            present, first, amount = runs(block[order])
            places = np.repeat(filled[present] - first, amount) + np.arange(len(block))
            self.items[places] = order + low if owners is None else owners[low : low + _BLOCK][order]
            filled[present] += amount

    @property
    def num_classes(self) -> int:
        """The number of classes, C."""
        return len(self.counts)

    def prior_of(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the samples that have each class, ``(C,)``, if a share ``shares[c]`` is sampled from class c.

        With one class per item these are the shares themselves; otherwise an item sampled for one class also adds to
        its other classes.
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
    """Stable argsort of uint16 or uint32 keys by radix sort, which NumPy has for 16 bits only."""
    if keys.dtype == np.uint16:
        return np.argsort(keys, kind="stable")
    low = np.argsort(keys.astype(np.uint16), kind="stable")
    return low[np.argsort((keys[low] >> np.uint32(16)).astype(np.uint16), kind="stable")]


def runs(ordered: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values of a sorted, non-empty array, where each begins, and how often it occurs."""
    first = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    return ordered[first], first, np.diff(first, append=len(ordered))
