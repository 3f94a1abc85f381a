"""ClassCounts: the number of training images per class, on which weights, losses and samplers are based."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError, ArgumentTypeError

MANY, FEW = 100, 20
"""Bounds of the groups of classes by training images (Liu et al., Large-Scale Long-Tailed Recognition, CVPR 2019)."""
GROUPS = {
    "many": f"more than {MANY} training images",
    "medium": f"{FEW} to {MANY} training images",
    "few": f"fewer than {FEW} training images",
}
"""What the groups hold, in words."""

_LARGEST = 2**53
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Images per class in the training split, with the names of the classes.

    Args:
        counts: ``(C,)`` non-negative whole numbers, or a ``{name: count}`` mapping.
        names: ``C`` class names, distinct also after Unicode normalisation; default ``"0" .. "C-1"``.
        total: number of images, where it is not the sum of the counts (multi-label).

    Raises:
        ArgumentError: a count is negative, fractional, NaN or too large (the class is named), or names collide.
        ArgumentTypeError: the counts are booleans or not numbers.

    Example:
        >>> counts = ClassCounts([5000, 500, 50], names=["car", "truck", "motorcycle"])
        >>> counts.imbalance_ratio
        100.0
        >>> counts.prior().round(3)
        array([0.901, 0.09 , 0.009])
    """

    counts: IntArray
    names: tuple[str, ...]
    total: int

    def __init__(
        self,
        counts: CountsLike,
        names: Sequence[str] | None = None,
        *,
        total: int | None = None,
    ) -> None:
        if isinstance(counts, ClassCounts):
            names = counts.names if names is None else names
            total = counts.total if total is None else total
            counts = counts.counts
        elif isinstance(counts, Mapping):
            if names is not None:
                raise ArgumentError("`names` cannot be given with a {name: count} mapping; the keys are the names")
            names, counts = [str(k) for k in counts], list(counts.values())
        raw = np.asarray(counts)
        labels = _checked_names(names, raw)
        array = _whole_numbers(raw, labels)
        for name, value in zip(labels, counts, strict=True):
            if isinstance(value, bool | np.bool_):  # among numbers, NumPy would make it one
                raise ArgumentTypeError(f"`counts` must be whole numbers; class {name!r} has {value}")
        array.setflags(write=False)
        object.__setattr__(self, "counts", array)
        object.__setattr__(self, "names", labels)
        object.__setattr__(self, "total", int(array.sum()) if total is None else int(total))

    @classmethod
    def from_labels(
        cls,
        labels: Iterable[Any],
        *,
        num_classes: int | None = None,
        names: Sequence[str] | None = None,
        ignore_index: int | None = None,
    ) -> ClassCounts:
        """Count ``(N,)`` labels: whole numbers ``0 .. C-1``, or strings.

        Strings are matched to ``names`` (default: the sorted distinct strings). Rows equal to
        ``ignore_index`` do not count.

        Example:
            >>> ClassCounts.from_labels(["cat", "dog", "cat"]).counts
            array([2, 1])
        """
        array = np.asarray(labels if isinstance(labels, np.ndarray) else list(labels)).reshape(-1)
        if array.dtype.kind in "US":
            array, names = _indices_of(array, names)
        if array.size and array.dtype.kind not in "iu":
            raise ArgumentTypeError(f"`labels` must be whole numbers or strings; got dtype {array.dtype}")
        array = array.astype(np.int64)
        if ignore_index is not None:
            array = array[array != ignore_index]
        size = num_classes if num_classes is not None else (len(names) if names is not None else None)
        _check_range(array, size)
        return cls(np.bincount(array, minlength=size or 0), names)

    @classmethod
    def from_multilabel(cls, targets: Any, *, names: Sequence[str] | None = None) -> ClassCounts:
        """Positives per class of ``(N, C)`` 0/1 targets; ``total`` is N, so the prior need not sum to 1.

        Example:
            >>> ClassCounts.from_multilabel([[1, 1], [1, 0]]).prior()
            array([1. , 0.5])
        """
        array = np.asarray(targets)
        if array.ndim != 2:
            raise ArgumentError(f"`targets` must have shape (N, C); got {array.shape}")
        if not np.isin(array, (0, 1)).all():
            row = int(np.argwhere(~np.isin(array, (0, 1)))[0][0])
            raise ArgumentError(f"`targets` must hold only 0 and 1; row {row} has another value")
        return cls(array.sum(axis=0).astype(np.int64), names, total=array.shape[0])

    @property
    def num_classes(self) -> int:
        """The number of classes, C."""
        return len(self.counts)

    @property
    def imbalance_ratio(self) -> float:
        """Largest over smallest count among the classes that have images; NaN if none has."""
        present = self.counts[self.counts > 0]
        return float(present.max() / present.min()) if present.size else float("nan")

    @property
    def empty(self) -> tuple[str, ...]:
        """Names of the classes without an image."""
        return tuple(name for name, n in zip(self.names, self.counts, strict=True) if n == 0)

    def prior(self, smoothing: float = 0.0) -> FloatArray:
        """``(n_c + s) / (n + C s)`` as float64 ``(C,)``; ``s`` is added to every class."""
        if smoothing < 0:
            raise ArgumentError(f"`smoothing` must be at least 0; got {smoothing}")
        denominator = self.total + smoothing * self.num_classes
        if denominator == 0:
            raise ArgumentError("there is no prior without images; give `smoothing` > 0 for the uniform one")
        return (self.counts.astype(np.float64) + smoothing) / denominator

    def effective_number(self, beta: float) -> FloatArray:
        """Effective number of samples ``(1 - beta^n) / (1 - beta)``, float64 ``(C,)``; ``beta=1`` gives n.

        Reference: Cui et al., Class-Balanced Loss, CVPR 2019 (arXiv:1901.05555).
        """
        if not 0.0 <= beta <= 1.0:
            raise ArgumentError(f"`beta` must be in [0, 1]; got {beta}")
        n = self.counts.astype(np.float64)
        if beta == 1.0:
            return n
        if beta == 0.0:
            return (n > 0).astype(np.float64)
        # 1 - beta^n by expm1: exact to the last digits where beta^n rounds to 1; log1p likewise for beta near 1.
        effective: FloatArray = np.expm1(n * np.log1p(beta - 1.0)) / (beta - 1.0)
        return effective

    def groups(self, many: int = MANY, few: int = FEW) -> dict[str, IntArray]:
        """Class ids with more than ``many`` images, with ``few`` to ``many``, and with fewer than ``few``."""
        if few > many:
            raise ArgumentError(f"`few` must not exceed `many`; got few={few}, many={many}")
        n = self.counts
        masks = {"many": n > many, "medium": (n >= few) & (n <= many), "few": n < few}
        return {group: np.flatnonzero(mask) for group, mask in masks.items()}

    def __len__(self) -> int:
        return self.num_classes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClassCounts):
            return NotImplemented
        same = self.names == other.names and self.total == other.total
        return same and bool(np.array_equal(self.counts, other.counts))

    def __hash__(self) -> int:
        return hash((self.names, self.total, self.counts.tobytes()))


CountsLike = ClassCounts | Mapping[str, int] | Sequence[int] | NDArray[Any]


def _checked_names(names: Sequence[str] | None, raw: NDArray[Any]) -> tuple[str, ...]:
    if raw.ndim != 1:
        raise ArgumentError(f"`counts` must have shape (C,); got {raw.shape}")
    if names is None:
        return tuple(str(i) for i in range(len(raw)))
    labels = tuple(str(name) for name in names)
    if len(labels) != len(raw):
        raise ArgumentError(f"`names` must name each of the {len(raw)} counts; got {len(labels)} names")
    seen: dict[str, str] = {}
    for name in labels:
        key = unicodedata.normalize("NFC", name)
        if key in seen:
            raise ArgumentError(f"`names` has the same name twice, as {seen[key]!r} and {name!r}; merge or rename them")
        seen[key] = name
    return labels


def _whole_numbers(raw: NDArray[Any], names: tuple[str, ...]) -> IntArray:
    if raw.dtype.kind == "O" and all(isinstance(n, int) and not isinstance(n, bool) for n in raw):
        # Python integers beyond 64 bits are refused below, by name; a float holds no more than 1e308.
        raw = np.array([max(-(10**300), min(n, 10**300)) for n in raw], dtype=np.float64)
    if raw.dtype.kind == "b" or (raw.size and raw.dtype.kind not in "iuf"):
        raise ArgumentTypeError(f"`counts` must be whole numbers; got dtype {raw.dtype}")
    bad = ~(np.isfinite(raw) & (raw == np.floor(raw)) & (raw >= 0))
    if bad.any():
        i = int(np.argmax(bad))
        raise ArgumentError(f"`counts` must be whole numbers of at least 0; class {names[i]!r} has {raw[i]}")
    if sum(map(int, raw.tolist())) > _LARGEST:
        i = int(np.argmax(raw))
        raise ArgumentError(
            f"`counts` must sum to at most 2^53, up to which whole numbers are exact; class {names[i]!r} has {raw[i]:g}"
        )
    return raw.astype(np.int64)


def _indices_of(labels: NDArray[Any], names: Sequence[str] | None) -> tuple[IntArray, list[str]]:
    order = sorted(set(labels.tolist())) if names is None else list(names)
    index = {name: i for i, name in enumerate(order)}
    unknown = [(row, label) for row, label in enumerate(labels.tolist()) if label not in index]
    if unknown:
        row, label = unknown[0]
        raise ArgumentError(f"`labels` row {row} is {label!r}, which is not among `names` {order[:10]}")
    return np.array([index[label] for label in labels.tolist()], dtype=np.int64), order


def _check_range(labels: IntArray, size: int | None) -> None:
    bad = labels < 0 if size is None else (labels < 0) | (labels >= size)
    if bad.any():
        row = int(np.argmax(bad))
        wanted = "at least 0" if size is None else f"in 0 .. {size - 1}"
        raise ArgumentError(f"`labels` must be {wanted}; row {row} is {labels[row]}")
