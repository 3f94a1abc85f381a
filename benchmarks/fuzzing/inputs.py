"""Valid inputs, and damaged and hostile ones made of them."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import struct
import types
import typing
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from counterpoise.core.artifacts import ClassScore, Comparison, Evaluation, Strategy
from counterpoise.core.confusion import ConfusionMatrix
from counterpoise.workflow.strategy.catalog import CATALOG

NAMES = (
    "cat", "dog", "a/b", "a/c", "007", "1e5", "no", "null", "NA", " x ", "", "é", "e\u0301", "=1+1", "'q", "x,y", 'x"y',
    "x;y", "a\nb", "\u202ecat", "\ufeffcat", "²", "١٢", "１", "\0", "n" * 300, "../up", "{{7*7}}", "\udcff", "🦊",
    "CON",
)  # fmt: skip

NUMBERS = (
    0, 1, -1, 10, 5000, 2**31, 2**53, 2**53 + 1, 2**63, 2**64, 10**40, 10**400, 0.0, -0.0, 1.0, 1.5, 1e300, 5e-324,
    float("nan"), float("inf"), -float("inf"), True, False, None,
)  # fmt: skip

WRITTEN_NUMBERS = (
    "1", "0.5", "2", "1e3", "-1", "+1", "nan", "inf", "1_0", "١", "１", "²", "", " 1 ", "1.0", "0x1", "1e999", "\0",
    "true",
)  # fmt: skip

TOKENS = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"-1", b"1.5", b"true", b"null", "²".encode(),
    "١".encode(),
    b"\0", b"\\ud800", b"\\u0000", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 3000, b'{"a":' * 3000, b"- " * 3000, b'"', b",",
    b";", b"\n", b"\r", b"\r\n", b"\t", b"'", b"=1+1", b"../", b"/etc/passwd", b"n" * 4000, b"\xe9", b"\xed\xa0\x80",
    b"!!python/object:os.system ", b"&a ", b"*a", b"#", b": ", b"---\n", b"%YAML 1.2\n", b"0x10", b"1_0", b"007", b"{}",
    b"[]", b'""', b"e5", b"-", b"+1", b"\xe2\x80\xa8", b"\x85", b"\x1a", b"\\U00110000", b"<<: ", b"? ", b"| ", b"> ",
)  # fmt: skip


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The bytes with one to four changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change = _with_other_bytes if len(data) > 8 and rng.random() < 0.3 else _with_other_parts
        data = change(rng, data)
    return data


def _with_other_bytes(rng: random.Random, data: bytes) -> bytes:
    """A flipped bit, another byte, or another number of 32 bits."""
    k = rng.randrange(len(data) - 4)
    number = rng.choice((0, 1, 255, 2**16 - 1, 2**31 - 1, 2**32 - 1, len(data)))
    new = (
        bytes([data[k] ^ 1 << rng.randrange(8)]),
        bytes([rng.randrange(256)]),
        struct.pack(rng.choice("<>") + "I", number),
    )[rng.randrange(3)]
    return data[:k] + new + data[k + len(new) :]


def _with_other_parts(rng: random.Random, data: bytes) -> bytes:
    """A part that is missing, repeated, random, or one of `TOKENS`."""
    i, j = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    cut, length = data[:i], rng.randrange(1, 20)
    kind = rng.randrange(6)
    if kind == 0:
        return cut
    if kind == 1:
        return cut + data[min(j, i + length) :]
    if kind == 2:
        return data[:j] + data[i:j][: 10 * length] + data[j:]
    if kind == 3:
        return cut + rng.randbytes(rng.randrange(1, 9)) + data[min(j, i + 9) :]
    return cut + rng.choice(TOKENS) + data[i if kind == 4 else min(j, i + length) :]


def in_another_encoding(rng: random.Random, data: bytes) -> bytes:
    """A text in an encoding that the reader may not expect, or with other ends of lines."""
    text = data.decode("utf-8", "surrogateescape")
    encoding = rng.choice(("utf-8-sig", "utf-16", "utf-32", "utf-16-le", "cp1252", "utf-8"))
    text = text.replace("\n", rng.choice(("\n", "\r\n", "\r")))
    return text.encode(encoding, "replace")


def place(
    rng: random.Random, path: Path, data: bytes, *, is_text: bool = False, links: bool = True
) -> tuple[Path, bool]:
    """Write the bytes, as they are or damaged, or something that is no such file; and whether they are as they were."""
    kind = rng.random()
    if kind < 0.05:
        path.write_bytes(data)
        return path, True
    if kind < 0.07:
        path.mkdir()
    elif kind < 0.08:
        path.symlink_to(path.with_name("nowhere"))
    elif kind < 0.09:
        return path.parent / (rng.choice(("n" * 300, "gone", "a/b", "x\0y", "\udcff")) + path.suffix), False
    elif kind < 0.10:
        path.with_name("original").write_bytes(data)
        path.symlink_to("original")
        return path, links
    elif kind < 0.12:
        path.write_bytes(rng.randbytes(rng.randrange(200)))
    elif kind < 0.20 and is_text:
        path.write_bytes(in_another_encoding(rng, data))
    else:
        path.write_bytes(damaged(rng, data))
    return path, False


def changed_json(rng: random.Random, value: Any) -> Any:
    """The value with another value, name or type at one place, or with a part removed, repeated or moved."""
    places: list[tuple[Any, Any]] = []
    stack = [value]
    while stack:
        inside = stack.pop()
        keys = (
            list(inside) if isinstance(inside, dict) else list(range(len(inside))) if isinstance(inside, list) else []
        )
        places += [(inside, key) for key in keys]
        stack += [inside[key] for key in keys]
    if not places or rng.random() < 0.05:
        return rng.choice((None, [], {}, 1, "x", [value], {"x": value}, True))
    inside, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del inside[key]
    elif kind == 1:
        other, place_of_other = rng.choice(places)
        inside[key] = json.loads(json.dumps(other[place_of_other]))
    elif kind == 2 and isinstance(inside, dict):
        inside[rng.choice((*NAMES, "__class__", "self"))] = inside.pop(key)
    elif kind == 3:
        inside[key] = rng.choice(([inside[key]], {"x": inside[key]}, str(inside[key])))
    elif kind == 4 and isinstance(inside[key], int | float):
        inside[key] = inside[key] * rng.choice((-1, 10**20, 3))
    else:
        inside[key] = rng.choice((*NUMBERS, *NAMES, [], {}, [[]], [None], {"": {}}))
    return value


def place_json(rng: random.Random, path: Path, value: Any) -> tuple[Path, bool]:
    """Write JSON: valid, with other values, or with other bytes."""
    if rng.random() < 0.5:
        value = json.loads(json.dumps(value))
        for _ in range(rng.choice((1, 1, 2, 3))):
            value = changed_json(rng, value)
        path.write_text(json.dumps(value, ensure_ascii=rng.random() < 0.5), "utf-8", "backslashreplace")
        return path, False
    data = json.dumps(value, ensure_ascii=False, indent=rng.choice((None, 1))).encode("utf-8", "backslashreplace")
    if rng.random() < 0.05 and b":" in data:  # a key twice
        start = data.index(b'"')
        path.write_bytes(data[:start] + data[start : data.find(b",", start) + 1] + data[start:])
        return path, b"," not in data[start:]
    return place(rng, path, data, is_text=True)


def place_npz(rng: random.Random, path: Path, **arrays: np.ndarray) -> tuple[Path, bool]:
    kind = rng.random()
    is_same = kind > 0.4
    if not is_same:
        name = rng.choice(list(arrays))
        change = rng.randrange(5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if change == 0:
                del arrays[name]
            elif change == 1:
                arrays[name] = np.array(arrays[name].tolist(), dtype=object)
            elif change == 2:
                arrays[name] = rng.choice(
                    (arrays[name][:-1], arrays[name][None], np.array(1.0), np.zeros((0, 3)), arrays[name][::-1])
                )
            elif change == 3 and arrays[name].dtype.kind in "fiu":
                arrays[name] = np.full_like(arrays[name], rng.choice((0, 1, 7, 100)))
            elif arrays[name].dtype.kind in "fiu":
                arrays[name] = arrays[name].astype(
                    rng.choice(("f2", "f8", "?", "c16", "i1", "u8", "S9", "U9", "M8[s]", ">i2", "i8", "O"))
                )
                if (
                    arrays[name].dtype.kind in "iu"
                    and rng.random() < 0.3
                    and arrays[name].itemsize == 8
                    and arrays[name].size
                ):
                    arrays[name].flat[0] = 2**53 + 1
            else:
                kind_of_text = rng.choice(("S", "O", "U3"))
                arrays[name] = (
                    np.char.encode(arrays[name]) if kind_of_text == "S" else arrays[name].astype(kind_of_text)
                )
    buffer = io.BytesIO()
    rng.choice((np.savez, np.savez_compressed))(buffer, **arrays)
    path_and_same = place(rng, path, buffer.getvalue())
    return path_and_same[0], path_and_same[1] and is_same


def csv_text(rng: random.Random, rows: Iterable[tuple[str, ...]]) -> str:
    separator, end = rng.choice(",,,;\t"), rng.choice(("\n", "\n", "\r\n", "\r"))
    always = rng.random() < 0.2

    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if always or set(text) & set(f'{separator}"\r\n') else text

    return "".join(separator.join(map(cell, row)) + end for row in rows)


def random_of(hint: Any, rng: random.Random) -> Any:
    """A valid value of a type, down to the fields of dataclasses."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return random_of(rng.choice(arguments), rng)
    if origin is typing.Literal:
        return rng.choice(arguments)
    if origin is tuple:
        return tuple(random_of(arguments[0], rng) for _ in range(rng.randrange(3)))
    if origin is dict:
        return {rng.choice(NAMES): random_of(arguments[1], rng) for _ in range(rng.randrange(3))}
    if hint is Strategy:
        return rng.choice(list(CATALOG.values()))
    if dataclasses.is_dataclass(hint):
        return _random_fields(hint, rng)
    simple = {int: (0, 1, 2**40), float: (0.0, 0.5, 1e-9, -3.25), bool: (True, False), str: NAMES, type(None): (None,)}
    return rng.choice(simple.get(hint, (None, 1, 0.5, "x", [1, "x"], {"x": 1})))


def _random_fields(kind: Any, rng: random.Random) -> Any:
    """A dataclass with random fields; all evaluations of a comparison have the classes of its audit."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    fields = {name: random_of(hints[name], rng) for name in names if name != "confusion"}
    if "confusion" in names:
        fields["classes"] *= 101 if rng.random() < 0.1 else 1
        fields["confusion"] = _matrix(len(fields["classes"]), rng)
    if kind is Comparison:
        classes = [score.name for score in fields["audit"].classes]
        for split in ("validation", "test"):
            fields["arms"] = tuple(
                dataclasses.replace(arm, **{split: tuple(_of_classes(e, classes, rng) for e in getattr(arm, split))})
                for arm in fields["arms"]
            )
    return kind(**fields)


def _of_classes(evaluation: Evaluation, names: list[str], rng: random.Random) -> Evaluation:
    scores = tuple(dataclasses.replace(random_of(ClassScore, rng), name=name) for name in names)
    return dataclasses.replace(evaluation, classes=scores, confusion=_matrix(len(names), rng))


def _matrix(size: int, rng: random.Random) -> ConfusionMatrix:
    matrix = np.zeros((size, size), dtype=np.int64)
    for _ in range(size):
        matrix[rng.randrange(size), rng.randrange(size)] = rng.randrange(9)
    return ConfusionMatrix.from_dense(matrix)
