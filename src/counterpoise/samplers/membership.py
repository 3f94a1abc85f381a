"""Membership: which classes each item has, read from whatever form the labels come in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError, ArgumentTypeError

__all__ = ["Membership"]

_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class Membership:
    """Pairs of an item and a class that it has.

    Attributes:
        classes: ``(P,)`` class ids.
        owners: ``(P,)`` items, ascending; None where item j has class ``classes[j]`` and no other.
        num_items: N.
        names: C class names.
    """

    classes: NDArray[Any]
    owners: NDArray[np.int64] | None
    num_items: int
    names: tuple[str, ...]

    @classmethod
    def read(cls, labels: Any, *, argument: str = "labels", num_classes: int | None = None) -> Membership:
        """From ``(N,)`` ids or names, an ``(N, C)`` array of 0/1 targets, or a list with the ids of each item.

        Raises:
            ArgumentError: no items, an id outside ``0 .. num_classes - 1``, targets not 0/1 (the row is named).
            ArgumentTypeError: labels that are neither whole numbers nor strings (the first is named).
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
                f"`{argument}` must have shape (N,), or (N, C) for several classes an item; got {array.shape}"
            )
        if array.dtype.kind in "US":
            distinct, array = np.unique(array, return_inverse=True)
            return cls(array, None, len(array), tuple(str(name) for name in distinct))
        return cls(array, None, len(array), _names(_checked_ids(array, argument, num_classes)))

    def counts(self) -> NDArray[np.int64]:
        """Items of each class, int64 ``(C,)``."""
        counts = np.zeros(len(self.names), dtype=np.int64)
        for low in range(0, len(self.classes), _BLOCK):  # `bincount` makes int64 of what it is given
            counts += np.bincount(self.classes[low : low + _BLOCK], minlength=len(counts))
        return counts

    def fingerprint(self) -> str:
        """16 hex digits of N, C and every label: they differ if the labels of two datasets do."""
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
            raise ArgumentError(f"`{argument}` of shape (N, C) must hold only 0 and 1; row {row} holds something else")
        if num_classes not in (None, targets.shape[1]):
            raise ArgumentError(f"`num_classes` is {num_classes} but `{argument}` has {targets.shape[1]} columns")
        owners, classes = np.nonzero(targets)
        return cls._of_pairs(classes, owners, targets.shape[0], targets.shape[1], argument)

    @classmethod
    def _of_lists(cls, rows: Sequence[Any], argument: str, num_classes: int | None) -> Membership:
        ids = [np.asarray(list(row) if isinstance(row, set | frozenset) else row).reshape(-1) for row in rows]
        owners = np.repeat(np.arange(len(rows)), [len(row) for row in ids])
        classes = np.concatenate([row for row in ids if len(row)] or [np.empty(0, np.int64)])
        size = _checked_ids(classes, argument, num_classes, owners)
        if size == 2 and len({len(row) for row in ids}) == 1 and len(ids[0]) > 1:
            raise ArgumentError(
                f"`{argument}` could be 0/1 targets or lists of class ids; give an (N, C) array for targets"
            )
        pairs = np.unique(owners * max(size, 1) + classes)  # a class counts once an item
        return cls._of_pairs(pairs % max(size, 1), pairs // max(size, 1), len(rows), size, argument)

    @classmethod
    def _of_pairs(
        cls, classes: NDArray[Any], owners: NDArray[np.int64], num_items: int, size: int, argument: str
    ) -> Membership:
        if not len(classes):
            raise ArgumentError(f"`{argument}` give no item a class; there is nothing to draw from")
        if len(owners) == num_items and bool((owners == np.arange(num_items)).all()):
            return cls(classes, None, num_items, _names(size))  # one class each after all
        return cls(classes, owners, num_items, _names(size))


def _names(size: int) -> tuple[str, ...]:
    return tuple(str(c) for c in range(size))


def _checked_ids(
    ids: NDArray[Any], argument: str, num_classes: int | None, owners: NDArray[np.int64] | None = None
) -> int:
    """The number of classes, after every id was found to be a whole number in its range."""

    def row_of(wrong: NDArray[Any]) -> int:
        first = int(np.argmax(wrong))
        return first if owners is None else int(owners[first])

    if ids.size and ids.dtype.kind not in "iu":
        wrong = ids != np.floor(ids) if ids.dtype.kind == "f" else np.zeros(len(ids), dtype=bool)
        found = f"; row {row_of(wrong)} is {ids[np.argmax(wrong)]}" if wrong.any() else ""
        raise ArgumentTypeError(f"`{argument}` must be whole numbers or strings; got dtype {ids.dtype}{found}")
    size = num_classes if num_classes is not None else int(ids.max()) + 1 if ids.size else 0
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= size):
        wrong = (ids < 0) | (ids >= size)
        wanted = "at least 0" if num_classes is None else f"in 0 .. {size - 1}"
        raise ArgumentError(
            f"`{argument}` must be {wanted}; row {row_of(wrong)} has {ids[np.argmax(wrong)]} "
            "(leave items without a label out, with torch.utils.data.Subset)"
        )
    return size
