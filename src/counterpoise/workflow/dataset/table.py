"""A CSV or Parquet file → columns of strings, each row with its line; nothing guessed, no row swallowed.

polars reads what is plainly regular (no quotes, the same number of separators in each line), 40 times faster than the
csv module; that one reads the rest, and knows on which line it is: from there errors get their line numbers.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from counterpoise.core.artifacts import Finding
from counterpoise.core.errors import DatasetError
from counterpoise.workflow.dataset.listing import shown

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Table", "read_csv", "read_parquet"]

_MAX_FIELD = 131_072
_SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True)
class Table:
    """Columns of equal length; ``lines[i]`` is where row ``i`` stands, counted from 1 in units of ``unit``."""

    name: str
    columns: dict[str, list[str]]
    lines: Sequence[int]
    unit: str = "line"
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """``"line 7"``: how errors name a row."""
        return f"{self.unit} {self.lines[row]}"


def read_csv(path: Path, wanted: Sequence[str]) -> Table:
    """Read a CSV separated by comma, semicolon or tab, whichever its header shows; every field is a string.

    UTF-8 with or without a byte order mark, UTF-16 with one; other bytes are read as Windows-1252 (Latin-1 with the
    euro sign), which a finding tells. LF or CRLF.

    Args:
        path: the file.
        wanted: columns that must be there.

    Raises:
        DatasetError: a column is missing or doubled, a quote is not closed, a row has too few or too many fields, a
            field is longer than 128 KiB, a NUL; with the number of the line.
    """
    name = shown(path.name)
    text, findings = _text(_bytes(path), name)
    if "\0" in text:
        raise DatasetError(f"{name!r} line {text.count(chr(10), 0, text.index(chr(0))) + 1} holds a NUL; it is no text")
    header, separator = _header(text, wanted, name)
    frame = _regular(text, header, separator)
    if frame is not None:
        columns = {column: frame[column].fill_null("").to_list() for column in header}
        return Table(name, columns, range(2, 2 + frame.height), findings=findings)
    rows, lines = _irregular(text, header, separator, name)
    values = list(zip(*rows, strict=True)) or [()] * len(header)
    columns = {column: list(fields) for column, fields in zip(header, values, strict=True)}
    return Table(name, columns, lines, findings=findings)


def read_parquet(path: Path, wanted: Sequence[str], optional: Sequence[str] = ()) -> Table:
    """Read the wanted and optional columns of a Parquet file as strings; null is the empty string.

    Raises:
        DatasetError: no Parquet file, damaged, a column is missing, or holds neither strings nor whole numbers.
    """
    import polars as pl

    name = shown(path.name)
    try:
        schema = pl.read_parquet_schema(path)
        _expect_columns(list(schema), wanted, name)
        chosen = [*wanted, *(column for column in optional if column in schema)]
        frame = pl.read_parquet(path, columns=chosen)
    except DatasetError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:  # Rust panics on some damaged files
        raise DatasetError(f"{name!r} cannot be read as Parquet; write it again") from error
    for column, kind in frame.schema.items():
        if not (kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null)):
            raise DatasetError(f"{name!r}: `{column}` must hold strings or whole numbers; it holds {kind}")
    columns = {column: frame[column].cast(pl.String).fill_null("").to_list() for column in frame.columns}
    return Table(name, columns, range(1, 1 + frame.height), unit="row")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{shown(path.name)!r} cannot be read: {error.strerror}") from error


def _text(raw: bytes, name: str) -> tuple[str, tuple[Finding, ...]]:
    try:
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return raw.decode("utf-16"), ()
        return raw.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        raise DatasetError(f"{name!r} line {line} is neither UTF-8 nor Windows-1252; save it as UTF-8") from None
    reason = f"{name!r} is no UTF-8 (line {line}): read as Windows-1252; look at its accents, or save it as UTF-8"
    return text, (Finding("manifest-encoding", "warning", reason, (name,)),)


def _header(text: str, wanted: Sequence[str], name: str) -> tuple[list[str], str]:
    """The column names of the first line, and the separator that makes the wanted ones appear."""
    readings = {}
    for separator in _SEPARATORS:
        rows = csv.reader(io.StringIO(text[: _MAX_FIELD + 1], newline=""), delimiter=separator)
        try:
            readings[separator] = next((row for row in rows if row), [])
        except csv.Error as error:
            raise DatasetError(f"{name!r} line 1 cannot be read: {error}") from error
    separator, header = max(readings.items(), key=lambda item: (len(set(item[1]) & set(wanted)), len(item[1])))
    _expect_columns(header, wanted, name)
    return header, separator


def _expect_columns(header: list[str], wanted: Sequence[str], name: str) -> None:
    doubled = [column for column, n in Counter(header).items() if n > 1]
    if doubled:
        raise DatasetError(f"{name!r} line 1 names the column {doubled[0]!r} twice")
    missing = [column for column in wanted if column not in header]
    if missing and "labels" in header:
        raise DatasetError(f"{name!r} has `labels`: several labels an image cannot be read yet; give one `label` each")
    if missing:
        found = ", ".join(repr(column) for column in header[:10]) or "nothing"
        raise DatasetError(f"{name!r} lacks the column `{missing[0]}` on line 1; found {found}")


def _regular(text: str, header: list[str], separator: str) -> pl.DataFrame | None:
    """Read with polars, where counting proves that each line is one row with all its fields; else None."""
    import polars as pl

    if '"' in text:
        return None
    text = text.replace("\r\n", "\n").rstrip("\n") + "\n"
    lines = text.count("\n")
    blank = "\n\n" in text or text.startswith("\n")
    if blank or "\r" in text or text.count(separator) != lines * (len(header) - 1):
        return None
    try:
        frame = pl.read_csv(text.encode(), separator=separator, quote_char=None, infer_schema=False)
    except pl.exceptions.PolarsError:  # a row with more fields, made up for by one with fewer
        return None
    longest = max((frame[column].str.len_bytes().max() or 0 for column in frame.columns), default=0)
    whole = frame.height == lines - 1 and frame.columns == header and int(str(longest)) <= _MAX_FIELD
    return frame if whole else None


def _irregular(text: str, header: list[str], separator: str, name: str) -> tuple[list[list[str]], list[int]]:
    """Read with the csv module, strictly; every complaint has the line where the row began."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 1
    try:
        for row in reader:
            if row:
                _expect_whole(row, len(header), separator, f"{name!r} line {start}")
                rows.append(row)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        what = "opens a quote that is never closed" if "end of data" in str(error) else f"cannot be read: {error}"
        raise DatasetError(f"{name!r} line {start} {what}") from error
    return rows[1:], lines[1:]


def _expect_whole(row: list[str], size: int, separator: str, where: str) -> None:
    if len(row) != size:
        raise DatasetError(
            f"{where} has {len(row)} fields, the header {size}; quote a field that has {separator!r} in it"
        )
    for field in row:
        # A stray quote swallows whole rows up to the next one: a field that goes on over a line with separators.
        if "\n" in field and separator in field.partition("\n")[2]:
            raise DatasetError(f"{where} opens a quote that runs over the rows below it; close it, or double it")
        if len(field) > _MAX_FIELD:
            raise DatasetError(f"{where} has a field of {len(field):,} characters; the limit is {_MAX_FIELD:,}")
