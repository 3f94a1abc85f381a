"""Artifact: base class of frozen dataclasses that are saved as JSON with their kind and format version."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from counterpoise.core.errors import ArtifactError, CounterpoiseError
from counterpoise.core.files import read_json, write_json

if TYPE_CHECKING:
    from typing_extensions import Self


class Artifact:
    """Base class: conversion to and from JSON that states the kind and the version of the format."""

    version: ClassVar[int] = 1

    def to_dict(self) -> dict[str, Any]:
        """Convert to dicts, lists, strings and numbers, with the keys ``artifact`` and ``version``."""
        return {"artifact": type(self).__name__, "version": self.version, **_plain(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; raises `ArtifactError` for another kind, version or structure."""
        if not isinstance(data, Mapping):
            raise ArtifactError(f"expected a {cls.__name__} as a JSON object, got {type(data).__name__}")
        kind, version = data.get("artifact"), data.get("version")
        if kind != cls.__name__:
            raise ArtifactError(f"expected a {cls.__name__}, got {kind!r}")
        if version != cls.version:
            raise ArtifactError(f"this {kind} has format version {version!r}; this release reads version {cls.version}")
        return typing.cast(
            "Self", _typed(cls, {k: v for k, v in data.items() if k not in ("artifact", "version")}, kind)
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, atomically."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read from JSON; every error names the file."""
        try:
            return cls.from_dict(read_json(path))
        except ArtifactError as error:
            text = str(error)
            raise error if str(path) in text else ArtifactError(f"{path}: {text}") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inside = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {**_stamp(value), **inside} if isinstance(value, Artifact) else inside
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return value


def _stamp(value: Artifact) -> dict[str, Any]:
    return {"artifact": type(value).__name__, "version": value.version}


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _typed(kind: Any, value: Any, where: str) -> Any:
    """Build a value of type ``kind`` from JSON; errors name the field that does not fit."""
    if kind is Any or kind is type(None):
        return value
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _typed_union(args, value, where)
    if origin is Literal:
        return _expect(value in args, value, f"one of {args}", where)
    if origin is tuple:
        _expect(isinstance(value, list), value, "a list", where)
        return tuple(_typed(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _expect(isinstance(value, Mapping), value, "an object", where)
        return {key: _typed(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _typed_dataclass(typing.cast(type, kind), value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _expect(
        isinstance(value, kind) and not (kind is int and isinstance(value, bool)), value, kind.__name__, where
    )


def _typed_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    errors: list[ArtifactError] = []
    for arm in args:
        if arm is type(None):
            continue
        try:
            return _typed(arm, value, where)
        except ArtifactError as error:
            errors.append(error)
    raise errors[0] if errors else ArtifactError(f"{where}: nothing fits {value!r}")


def _typed_dataclass(kind: type, value: Any, where: str) -> Any:
    _expect(isinstance(value, Mapping), value, "an object", where)
    if issubclass(kind, Artifact) and "artifact" in value:
        return kind.from_dict(value)
    hints, names = _hints(kind), {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(value.keys() - names)
    if unknown:
        raise ArtifactError(f"{where}: unknown field {unknown[0]!r}; expected one of {sorted(names)}")
    try:
        return kind(**{key: _typed(hints[key], item, f"{where}.{key}") for key, item in value.items()})
    except ArtifactError:
        raise
    except (TypeError, CounterpoiseError) as error:
        raise ArtifactError(f"{where}: {error}") from error


def _expect(fits: bool, value: Any, wanted: str, where: str) -> Any:
    if not fits:
        raise ArtifactError(f"{where}: expected {wanted}, got {value!r:.80}")
    return value
