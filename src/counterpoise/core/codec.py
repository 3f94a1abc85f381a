"""Artifact: base class of frozen dataclasses that are saved as JSON with their kind and format version."""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.arrays import ArrayFile, load_array_file, remove_array_files, save_array_file
from counterpoise.core.confusion import ConfusionMatrix
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError, CounterpoiseError
from counterpoise.core.files import read_json, write_json

if TYPE_CHECKING:
    from typing_extensions import Self

MANY_CLASSES = 100
"""With more classes than this, files have the compact layout; at 100 classes, a dense confusion matrix is 30 KB."""
COLUMNS: dict[str, Any] = {"compact": "columns"}
"""Metadata of a field with one object per class: in the compact layout it has one list per attribute."""
ARRAYS: dict[str, Any] = {"compact": "arrays"}
"""Metadata of a field with numbers ``[seed][epoch][class]``: in the compact layout one array per seed."""
_BESIDE = "arrays"
_CELLS = ("labels", "predictions", "counts")


class Artifact:
    """Base class: conversion to and from JSON that states the kind and the version of the format.

    ``versions`` are the formats that are read. The first is written, or the last if a part has the compact layout.
    """

    versions: ClassVar[tuple[int, ...]] = (1,)

    def to_dict(self) -> dict[str, Any]:
        """Convert to dicts, lists, strings and numbers, with the keys ``artifact`` and ``version``."""
        return _Writer().artifact(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; raises `ArtifactError` for another kind, version or structure."""
        return typing.cast("Self", _Reader({}).artifact(cls, data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, atomically.

        With more than 100 classes, confusion matrices and the history of class weights are in an .npz file of arrays
        beside it. Its name, such as ``comparison-arrays-0f3a6c21b94e.npz``, and its SHA-256 are in the JSON under
        "arrays". It is written before the JSON file, and that of the JSON file replaced is removed after it, so that a
        reader never combines old and new numbers.
        """
        target, writer = Path(path), _Writer({})
        data = writer.artifact(self)
        beside = save_array_file(target, writer.arrays) if writer.arrays else None
        head = {"artifact": data.pop("artifact"), "version": data.pop("version")}
        write_json(target, {**head, **({_BESIDE: dataclasses.asdict(beside)} if beside else {}), **data})
        if len(self.versions) > 1:
            remove_array_files(target, keep=beside)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read from JSON and from the file of arrays that it names; every error names the file."""
        return cls.of_json(read_json(path), Path(path))

    @classmethod
    def of_json(cls, data: Any, path: Path) -> Self:
        """The artifact from the content of a JSON file, and the arrays beside it."""
        try:
            arrays = {}
            if isinstance(data, dict) and _BESIDE in data and len(cls.versions) > 1:
                beside = _Reader({}).typed(ArrayFile, data.pop(_BESIDE), f"{cls.__name__}.{_BESIDE}")
                arrays = load_array_file(path, beside)
            return typing.cast("Self", _Reader(arrays).artifact(cls, data))
        except ArtifactError as error:
            text = str(error)
            raise error if str(path) in text else ArtifactError(f"{path}: {text}") from error


@dataclass
class _Writer:
    """Conversion to JSON; with ``arrays``, large numbers are put there and the JSON has their names."""

    arrays: dict[str, NDArray[Any]] | None = None
    compact: bool = False

    def artifact(self, value: Artifact, path: tuple[str, ...] = ()) -> dict[str, Any]:
        before, self.compact = self.compact, False
        inside = self._fields(value, path)
        version = value.versions[-1 if self.compact else 0]
        self.compact |= before
        return {"artifact": type(value).__name__, "version": version, **inside}

    def plain(self, value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, Artifact):
            return self.artifact(value, path)
        if isinstance(value, ConfusionMatrix):
            return self._matrix(value, path)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._fields(value, path)
        if isinstance(value, Mapping):
            return {str(key): self.plain(item, (*path, str(key))) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [self.plain(item, (*path, str(i))) for i, item in enumerate(value)]
        if isinstance(value, np.ndarray | np.generic):
            return value.tolist()
        return value

    def _fields(self, value: Any, path: tuple[str, ...]) -> dict[str, Any]:
        inside: dict[str, Any] = {}
        for f in dataclasses.fields(value):
            item, layout = getattr(value, f.name), f.metadata.get("compact")
            if layout == "columns" and len(item) > MANY_CLASSES:
                inside[f.name] = self._columns(item)
            elif layout == "arrays" and self.arrays is not None and _width(item) > MANY_CLASSES:
                inside[f.name] = [
                    self._array(np.array(one, float), (*path, f.name, str(i))) for i, one in enumerate(item)
                ]
            else:
                inside[f.name] = self.plain(item, (*path, f.name))
        return inside

    def _columns(self, items: Sequence[Any]) -> dict[str, list[Any]]:
        self.compact = True
        return {f.name: [getattr(item, f.name) for item in items] for f in dataclasses.fields(items[0])}

    def _array(self, array: NDArray[Any], path: tuple[str, ...]) -> dict[str, str]:
        self.compact = True
        name = "-".join(path)
        typing.cast("dict[str, NDArray[Any]]", self.arrays)[name] = array
        return {"array": name}

    def _matrix(self, matrix: ConfusionMatrix, path: tuple[str, ...]) -> Any:
        if matrix.num_classes <= MANY_CLASSES:
            return np.asarray(matrix).tolist()
        self.compact = True
        if self.arrays is None:
            return {"num_classes": matrix.num_classes, **{name: getattr(matrix, name).tolist() for name in _CELLS}}
        table = np.stack([getattr(matrix, name) for name in _CELLS], axis=1)
        smallest = table.astype(np.min_scalar_type(table.max(initial=0)))
        return {"num_classes": matrix.num_classes, **self._array(smallest, path)}


def _width(seeds: Sequence[Sequence[Sequence[float]]]) -> int:
    return max((len(row) for epochs in seeds for row in epochs), default=0)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@dataclass(frozen=True)
class _Reader:
    """Conversion from JSON and the arrays that it names; errors name the field that does not fit."""

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def artifact(self, kind: type[Any], data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise ArtifactError(f"expected a {kind.__name__} as a JSON object, got {type(data).__name__}")
        found, version = data.get("artifact"), data.get("version")
        if found != kind.__name__:
            raise ArtifactError(f"expected a {kind.__name__}, got {found!r:.80}")
        if type(version) is not int or version not in kind.versions:
            known = "version " + " or ".join(map(str, kind.versions))
            raise ArtifactError(f"this {found} has format version {version!r}; this release reads {known}")
        return self._dataclass(kind, {k: v for k, v in data.items() if k not in ("artifact", "version")}, found)

    def typed(self, kind: Any, value: Any, where: str) -> Any:
        """Build a value of type ``kind``."""
        if kind is Any or kind is type(None):
            return value
        if kind is ConfusionMatrix:
            return self._matrix(value, where)
        if dataclasses.is_dataclass(kind):
            return self._nested(typing.cast(type, kind), value, where)
        if typing.get_origin(kind) is not None:
            return self._generic(kind, value, where)
        if kind is float:
            return exact_float(value, where)
        return _expect(
            isinstance(value, kind) and not (kind is int and isinstance(value, bool)), value, kind.__name__, where
        )

    def _generic(self, kind: Any, value: Any, where: str) -> Any:
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if origin in (types.UnionType, typing.Union):
            return self._union(args, value, where)
        if origin is Literal:
            return _expect(value in args, value, f"one of {args}", where)
        if origin is tuple:
            return self._tuple(args[0], value, where)
        _expect(isinstance(value, Mapping), value, "an object", where)
        return {key: self.typed(args[1], item, f"{where}.{key}") for key, item in value.items()}

    def _union(self, args: tuple[Any, ...], value: Any, where: str) -> Any:
        if value is None and type(None) in args:
            return None
        errors: list[ArtifactError] = []
        for arm in args:
            if arm is type(None):
                continue
            try:
                return self.typed(arm, value, where)
            except ArtifactError as error:
                errors.append(error)
        raise errors[0] if errors else ArtifactError(f"{where}: nothing fits {value!r}")

    def _tuple(self, kind: Any, value: Any, where: str) -> tuple[Any, ...]:
        if isinstance(value, Mapping) and value.keys() == {"array"}:
            value = self._array(value, where).tolist()
        if isinstance(value, Mapping) and dataclasses.is_dataclass(kind):
            return self._columns(typing.cast(type, kind), value, where)
        return self._items(kind, _expect(isinstance(value, list), value, "a list", where), where)

    def _items(self, kind: Any, items: list[Any], where: str) -> tuple[Any, ...]:
        # Most lists are long and fit throughout.
        types_ = set(map(type, items))
        is_finite = float not in types_ or all(type(x) is not float or math.isfinite(x) for x in items)
        if is_finite and types_ <= _scalars(kind):
            return tuple(items)
        return tuple(self.typed(kind, item, f"{where}[{i}]") for i, item in enumerate(items))

    def _columns(self, kind: type, columns: Mapping[str, Any], where: str) -> tuple[Any, ...]:
        """The objects whose attributes are lists of equal length."""
        hints = _checked_names(kind, columns, where)
        missing = [f.name for f in dataclasses.fields(kind) if _is_required(f) and f.name not in columns]
        if missing:
            raise ArtifactError(f"{where}: the field {missing[0]!r} is missing")
        for name, column in columns.items():
            _expect(isinstance(column, list), column, "a list", f"{where}.{name}")
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ArtifactError(f"{where}: expected lists of equal length, got {lengths}")
        typed = {name: self._items(hints[name], column, f"{where}.{name}") for name, column in columns.items()}
        rows = zip(*typed.values(), strict=True)
        return tuple(_made(kind, dict(zip(typed, row, strict=True)), where) for row in rows)

    def _nested(self, kind: type, value: Any, where: str) -> Any:
        _expect(isinstance(value, Mapping), value, "an object", where)
        if issubclass(kind, Artifact) and "artifact" in value:
            return self.artifact(kind, value)
        return self._dataclass(kind, value, where)

    def _dataclass(self, kind: type, value: Mapping[str, Any], where: str) -> Any:
        if issubclass(kind, Artifact) and _BESIDE in value:
            raise ArtifactError(f"{where}: its arrays are in a file beside the JSON file; read both with `load`")
        hints = _checked_names(kind, value, where)
        return _made(kind, {key: self.typed(hints[key], item, f"{where}.{key}") for key, item in value.items()}, where)

    def _matrix(self, value: Any, where: str) -> ConfusionMatrix:
        """From rows of counts, from the cells with images, or from the name of their array ``(K, 3)``."""
        try:
            if isinstance(value, Mapping):
                return ConfusionMatrix(**self._cells(value, where))
            rows = _expect(isinstance(value, list), value, "a list of rows", where)
            for i, row in enumerate(rows):
                fits = isinstance(row, list) and len(row) == len(rows) and set(map(type, row)) <= {int}
                _expect(fits, row, f"a list of {len(rows)} whole numbers", f"{where}[{i}]")
            return ConfusionMatrix.from_dense(np.array(rows, dtype=np.int64))
        except (OverflowError, ArgumentError, ArgumentTypeError) as error:
            raise ArtifactError(f"{where}: {error}") from error

    def _cells(self, value: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The arguments of `ConfusionMatrix`."""
        if value.keys() == {"num_classes", "array"}:
            cells = self._array(value, where)
            if cells.shape[1] != len(_CELLS):
                raise ArtifactError(f"{where}: expected an array (K, 3) of {', '.join(_CELLS)}, got {cells.shape}")
            return {"num_classes": value["num_classes"], **dict(zip(_CELLS, cells.T, strict=True))}
        wanted = {"num_classes", *_CELLS}
        _expect(value.keys() == wanted, sorted(value), f"the fields {sorted(wanted)}", where)
        for name in _CELLS:
            fits = isinstance(value[name], list) and set(map(type, value[name])) <= {int}
            _expect(fits, value[name], "a list of whole numbers", f"{where}.{name}")
        return {"num_classes": value["num_classes"], **{name: np.array(value[name], np.int64) for name in _CELLS}}

    def _array(self, value: Mapping[str, Any], where: str) -> NDArray[Any]:
        name = value["array"]
        if not isinstance(name, str) or name not in self.arrays:
            raise ArtifactError(f"{where}: the file of arrays has no array {name!r:.80}")
        array = self.arrays[name]
        if array.ndim != 2 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise ArtifactError(f"{where}: expected finite numbers in rows, got {array.dtype} of shape {array.shape}")
        return array


def exact_float(value: Any, where: str) -> float:
    """A number of a JSON file as a float; one that is none there, such as 1e999 or 2**53 + 1, is an `ArtifactError`."""
    _expect(isinstance(value, int | float) and not isinstance(value, bool), value, "float", where)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    _expect(math.isfinite(number) and number == value, value, "a number that a float can hold", where)
    return number


@cache
def _scalars(kind: Any) -> frozenset[type]:
    """The types that fit without conversion; empty if a value must be looked into."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)
    return frozenset(kinds) if {*kinds} <= {bool, int, float, str, type(None)} else frozenset()


def _checked_names(kind: type, value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The types of the fields by name, if the keys of ``value`` are among them."""
    names = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(value.keys() - names)
    if unknown:
        raise ArtifactError(f"{where}: unknown field {unknown[0]!r}; expected one of {sorted(names)}")
    return _hints(kind)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _made(kind: type, values: dict[str, Any], where: str) -> Any:
    try:
        return kind(**values)
    except ArtifactError:
        raise
    except (TypeError, CounterpoiseError) as error:
        raise ArtifactError(f"{where}: {error}") from error


def _expect(fits: bool, value: Any, wanted: str, where: str) -> Any:
    if not fits:
        raise ArtifactError(f"{where}: expected {wanted}, got {_text(value)}")
    return value


def _text(value: Any) -> str:
    """The start of a value; an integer of thousands of digits has no text."""
    return "a huge number" if isinstance(value, int) and abs(value) > 10**80 else f"{value!r:.80}"
