"""Independent readings of files, with which the results of the readers are compared."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import yaml


def parsed(path: Path) -> Any:
    """The JSON value, with each number as written and no key twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a key twice"
        return dict(pairs)

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    return json.loads(
        path.read_bytes().decode("utf-8"), object_pairs_hook=once, parse_float=decimal_of, parse_constant=refuse
    )


def decimal_of(text: str) -> Decimal:
    """The number exactly; with an exponent beyond those of Decimal it is 0 or infinite."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal(0) if "e-" in text.lower() else Decimal("Infinity")


def difference(written: Any, found: Any, where: str = "") -> str:
    """Where a value differs from the JSON that it was read from; keys that have a default may be missing there."""
    if isinstance(written, dict) and isinstance(found, dict):
        unknown = written.keys() - found.keys()
        inside = (difference(written[key], found[key], f"{where}.{key}") for key in written if key in found)
        return f"{where} lost {unknown}" if unknown else next(filter(None, inside), "")
    if isinstance(written, list) and isinstance(found, list | tuple):
        if len(written) != len(found):
            return f"{where} has {len(found)} entries of {len(written)}"
        pairs = enumerate(zip(written, found, strict=True))
        return next(filter(None, (difference(a, b, f"{where}[{i}]") for i, (a, b) in pairs)), "")
    if isinstance(written, int | Decimal) and not isinstance(written, bool) and type(found) in (int, float):
        return "" if same_number(written, found) else f"{where}: {written!s:.60} became {found!r:.60}"
    return "" if type(written) is type(found) and written == found else f"{where}: {written!r:.60} became {found!r:.60}"


def same_number(written: int | Decimal, found: float) -> bool:
    """Whether a number is that of the file: exactly, or the nearest double of a decimal fraction."""
    if isinstance(written, int):
        return np.isfinite(found) and Fraction(found) == written if isinstance(found, float) else found == written
    return bool(np.isfinite(found)) and float(written) == found


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def links_of(nested: Any, parent: str = "") -> list[tuple[str, str]]:
    """The (child, parent) pairs of nested mappings, lists and names."""
    if isinstance(nested, dict):
        return [pair for name, inside in nested.items() for pair in ((str(name), parent), *links_of(inside, str(name)))]
    if isinstance(nested, list):
        return [
            p for item in nested for p in (links_of(item, parent) if isinstance(item, dict) else [(str(item), parent)])
        ]
    return [] if nested is None else [(str(nested), parent)]


def _yaml_value(node: Any) -> Any:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        assert all(isinstance(key, str) for key in keys), "a key is no name"
        assert len(set(keys)) == len(keys), "a key twice"
        values = [(key.value, value) for key, value in node.value]
        return {
            k: None
            if isinstance(v, yaml.ScalarNode) and not v.style and v.value in ("", "~", "null", "Null", "NULL")
            else _yaml_value(v)
            for k, v in values
        }
    return [_yaml_value(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else node.value


def decoded(path: Path) -> str:
    """The text of a file in UTF-8, in UTF-16 with its mark, or else in Windows-1252."""
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252")


def csv_cells(text: str, separator: str) -> list[list[str]]:
    """The rows of a CSV text by RFC 4180, without empty lines; a quote begins a quoted cell only at its start."""
    rows: list[list[str]] = []
    row: list[str] = []
    cell, i, was_quoted = "", 0, False
    while i <= len(text):
        c = text[i] if i < len(text) else "\n"
        if c == '"' and not cell and not was_quoted:
            was_quoted = True
            i += 1
            while text[i] != '"' or text[i + 1 : i + 2] == '"':
                cell += text[i]
                i += 1 + (text[i] == '"')
        elif c == separator or c in "\r\n":
            if cell or row or was_quoted or c == separator:
                row.append(cell)
            if c != separator and row:
                rows.append(row)
                row = []
            cell, was_quoted = "", False
        else:
            cell += c
        i += 1
    return rows


def csv_rows(text: str, required: Iterable[str]) -> list[dict[str, str]]:
    """The rows as mappings, with the separator that finds the columns."""
    for separator in ",;\t":
        first = csv_cells(text.lstrip("\r\n").replace("\r", "\n").split("\n", 1)[0], separator)
        if first and set(required) <= set(first[0]):
            header, *rows = csv_cells(text, separator)
            return [dict(zip(header, row, strict=True)) for row in rows]
    raise AssertionError("no separator finds the columns")


def parquet_rows(path: Path) -> list[dict[str, str]] | None:
    """The rows as another library reads them; None where it reads fewer files than polars."""
    from pyarrow import ArrowException, parquet

    try:
        rows = parquet.ParquetFile(path).read().to_pylist()
    except (ArrowException, OSError):
        return None
    return [{key: text_of(value) for key, value in row.items()} for row in rows]


def text_of(value: Any) -> str:
    """The text of a cell of a Parquet file."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def own_csv_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file that Counterpoise wrote."""
    header, *rows = csv_cells(path.read_bytes().decode("utf-8", "surrogateescape"), ",")
    return [{key: cell.removeprefix("'") for key, cell in zip(header, row, strict=True)} for row in rows]


PREDICTIONS = ("logits.npy", "labels.npy", "classes.npy", "paths.npy")


def arrays_of(path: Path, names: tuple[str, ...] = PREDICTIONS) -> dict[str, np.ndarray]:
    """The arrays with these names in an .npz file, also after other bytes, where `numpy.load` does not recognise it."""
    with zipfile.ZipFile(path) as archive:
        wanted = [info for info in archive.infolist() if info.filename in names]
        # Not all at once: the compressed size that a damaged archive states is no size of a buffer.
        members = {info.filename.removesuffix(".npy"): archive.open(info).read(info.file_size) for info in wanted}
    return {name: np.lib.format.read_array(io.BytesIO(data), allow_pickle=False) for name, data in members.items()}


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, offset = [], 8
    while offset + 8 <= len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        chunks.append((data[offset + 4 : offset + 8], data[offset + 8 : offset + 8 + size]))
        offset += 12 + size
    return chunks


def check_png(data: bytes, pixels: np.ndarray) -> str:
    """Decode a PNG by the specification: 8 bits per channel, not interlaced; others are only counted."""
    chunks = png_chunks(data)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1][:13])
    if depth != 8 or interlaced or any(kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"acTL") for kind, _ in chunks):
        return ""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    stream = zlib.decompressobj(-15)  # without the checksum at the end, which decoders need not reach
    data = b"".join(content for kind, content in chunks if kind == b"IDAT")[2:]
    raw = stream.decompress(data, height * (1 + width * channels))
    if len(raw) < height * (1 + width * channels):
        return f"{len(raw)} bytes hold {width}×{height} pixels"
    above = np.zeros((width, channels), dtype=np.int64)
    for y in range(height):
        line = raw[y * (1 + width * channels) :][: 1 + width * channels]
        above = unfiltered(line[0], np.frombuffer(line[1:], np.uint8).reshape(width, channels).astype(np.int64), above)
        row = above
        if colour == 3:
            palette = next(content for kind, content in chunks if kind == b"PLTE")
            table = np.zeros((256, 3), np.int64)
            table[: len(palette) // 3] = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)[:256]
            row = table[above[:, 0]]
        row = row[:, :3] if row.shape[1] > 2 else np.repeat(row[:, :1], 3, axis=1)
        if not np.array_equal(row, pixels[y]):
            return f"row {y} is {pixels[y].tolist()!r:.80} and not {row.tolist()!r:.80}"
    return ""


def unfiltered(kind: int, line: np.ndarray, above: np.ndarray) -> np.ndarray:
    """A row of a PNG from its filtered values and the row above."""
    out = np.zeros_like(line)
    left = corner = np.zeros(line.shape[1], dtype=np.int64)
    for x, value in enumerate(line):
        up = above[x]
        if kind == 4:
            estimate = left + up - corner
            distances = np.abs(np.stack((estimate - left, estimate - up, estimate - corner)))
            guess = np.choose(distances.argmin(0), (left, up, corner))
        else:
            guess = {0: 0, 1: left, 2: up, 3: (left + up) // 2}[kind]
        out[x] = left = (value + guess) % 256
        corner = up
    return out
