"""ClassCounts: the number of training images per class, on which weights, losses and samplers are based."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_count
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.text import listed

MANY, FEW = 100, 20
"""Bounds of the groups of classes by training images (Liu et al., Large-Scale Long-Tailed Recognition, CVPR 2019)."""
GROUPS = {
    "many": f"more than {MANY} training images",
    "medium": f"{FEW} to {MANY} training images",
    "few": f"fewer than {FEW} training images",
}
"""What the groups hold, in words."""

_LARGEST = 2**53
_MOST_CLASSES = 2**24
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
            names, counts = list(counts), list(counts.values())
        raw = _array("counts", counts)
        labels = _checked_names(names, raw)
        array = _whole_numbers(raw, labels)
        for name, value in zip(labels, counts, strict=True):
            if isinstance(value, bool | np.bool_):  # among numbers, NumPy would make it one
                raise ArgumentTypeError(f"`counts` must be whole numbers; class {name!r} has {value}")
        array.setflags(write=False)
        object.__setattr__(self, "counts", array)
        object.__setattr__(self, "names", labels)
        object.__setattr__(self, "total", int(array.sum()) if total is None else _checked_total(total))

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

        Raises:
            ArgumentError: a label is negative, not among the names, or so large that it is no class index.
            ArgumentTypeError: the labels are neither whole numbers nor strings, or both.

        Example:
            >>> ClassCounts.from_labels(["cat", "dog", "cat"]).counts
            array([2, 1])
        """
        size = None if num_classes is None else _checked_size(num_classes)
        array, kind = _flat_labels(labels)
        if kind == "strings":
            array, names = _indices_of([label for label in array.tolist() if label != ignore_index], names)
        elif ignore_index is not None:
            array = array[array != checked_count("ignore_index", ignore_index, minimum=-(2**63))]
        size = len(names) if size is None and names is not None else size
        _check_range(array, size)
        return cls(np.bincount(array.astype(np.int64), minlength=size or 0), names)

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


def _array(name: str, values: Any) -> NDArray[Any]:
    """The values as an array; ragged lists and values that no array can hold are refused."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentTypeError(f"`{name}` must be a flat list of numbers; got {values!r:.80}") from error


def _checked_total(total: Any) -> int:
    number = checked_count("total", total, minimum=0)
    if number > _LARGEST:
        raise ArgumentError("`total` must be at most 2^53, up to which whole numbers are exact; got a larger number")
    return number


def _checked_size(num_classes: Any) -> int:
    number = checked_count("num_classes", num_classes, minimum=0)
    if number > _MOST_CLASSES:
        raise ArgumentError(f"`num_classes` must be at most {_MOST_CLASSES:,}; got a larger number")
    return number


def _checked_names(names: Sequence[Any] | None, raw: NDArray[Any]) -> tuple[str, ...]:
    if raw.ndim != 1:
        raise ArgumentError(f"`counts` must have shape (C,); got {raw.shape}")
    if names is None:
        return tuple(str(i) for i in range(len(raw)))
    for name in names:
        if type(name) is bool or not isinstance(name, str | Integral):
            raise ArgumentTypeError(f"`names` must be strings; got {name!r:.80}; convert it")
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
    if raw.dtype.kind != "b" and not raw.size:
        return np.zeros(0, dtype=np.int64)
    if raw.dtype.kind == "O" and all(isinstance(n, int) and not isinstance(n, bool) for n in raw):
        # Python integers beyond 64 bits are refused below, by name; a float holds no more than 1e308.
        raw = np.array([max(-(10**300), min(n, 10**300)) for n in raw], dtype=np.float64)
    if raw.dtype.kind == "b" or (raw.size and raw.dtype.kind not in "iuf"):
        raise ArgumentTypeError(f"`counts` must be whole numbers; got dtype {raw.dtype}")
    bad = ~(np.isfinite(raw) & (raw == np.floor(raw)) & (raw >= 0))
    if bad.any():
        i = int(np.argmax(bad))
        raise ArgumentError(f"`counts` must be whole numbers of at least 0; class {names[i]!r} has {raw[i]}")
    # A float of 2^53 may be a larger whole number that was rounded.
    if sum(map(int, raw.tolist())) > _LARGEST - (raw.dtype.kind == "f"):
        i = int(np.argmax(raw))
        raise ArgumentError(
            f"`counts` must sum to at most 2^53, up to which whole numbers are exact; class {names[i]!r} has {raw[i]:g}"
        )
    return raw.astype(np.int64)


def _flat_labels(labels: Any) -> tuple[NDArray[Any], Literal["numbers", "strings"]]:
    """Labels as a flat array of whole numbers, or of Python strings: those of NumPy lose NUL characters at the end."""
    if isinstance(labels, np.ndarray):
        array = labels.reshape(-1)
        return (array.astype(object), "strings") if array.dtype.kind == "U" else (_numbers(array), "numbers")
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise ArgumentTypeError(f"`labels` must be a list or an array with one label per image; got {labels!r:.80}")
    given = list(labels)
    kinds = set(map(type, given))
    strings = [kind for kind in kinds if issubclass(kind, str)]
    if len(strings) == len(kinds) and kinds:
        array = np.empty(len(given), dtype=object)
        array[:] = given
        return array, "strings"
    if strings or kinds & {bool, np.bool_}:
        named = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ArgumentTypeError(f"`labels` must be whole numbers or strings, not both; got {named}")
    return _numbers(_array("labels", given).reshape(-1)), "numbers"


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    if array.size and array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"`labels` must be whole numbers or strings; got dtype {array.dtype}")
    return array if array.size else array.astype(np.int64)


def _indices_of(labels: Sequence[str], names: Sequence[str] | None) -> tuple[IntArray, list[str]]:
    order = sorted(set(labels)) if names is None else list(names)
    index = {name: i for i, name in enumerate(order)}
    unknown = next(((row, label) for row, label in enumerate(labels) if label not in index), None)
    if unknown:
        row, label = unknown
        raise ArgumentError(f"`labels` row {row} is {label!r:.80}, which is not among `names`: {listed(order)}")
    return np.array([index[label] for label in labels], dtype=np.int64), order


def _check_range(labels: NDArray[Any], size: int | None) -> None:
    # Without a number of classes, a label that is no class index would ask for any amount of memory.
    bound = max(_MOST_CLASSES, 16 * len(labels)) if size is None else size
    bad = (labels < 0) | (labels >= bound)
    if bad.any():
        row = int(np.argmax(bad))
        wanted = f"class indices, at least 0 and below {bound:,}" if size is None else f"in 0 .. {size - 1}"
        raise ArgumentError(f"`labels` must be {wanted}; row {row} is {labels[row]}")
