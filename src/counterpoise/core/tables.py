"""Read and write CSV files: quoting, encodings, line numbers and spreadsheet formulas are handled only here.

What a file holds is defined by the csv module. Files without quotes, which are most, are read by Polars in a tenth of
the time, after checks that it must come to the same result; tests compare the two.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArtifactError, CounterpoiseError
from counterpoise.core.files import atomic_write, display_name
from counterpoise.core.text import listed

if TYPE_CHECKING:
    import polars as pl

_MAX_FIELD = 131_072
_SEPARATORS = (",", ";", "\t")
_BLOCK = 1 << 20
_ROWS = 1 << 16
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(frozen=True)
class TextTable:
    """Columns of strings of equal length, with the line (or row: ``unit``) of the file on which each row begins.

    ``not_utf8`` is the first line that is not UTF-8, where the file was therefore read as Windows-1252; ``separator``
    is what stands between the columns of a CSV file.
    """

    name: str
    columns: dict[str, pl.Series]
    lines: Sequence[int] | NDArray[np.int64]
    unit: str = "line"
    not_utf8: int | None = None
    separator: str = ","

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """Position of a row for messages, such as "line 7"."""
        return f"{self.unit} {self.lines[row]}"


class _FormatError(Exception):
    """The file is not a CSV file that can be read; the message becomes that of the caller's error."""


def read_csv(
    path: Path,
    required: Sequence[str],
    *,
    refused: Mapping[str, str] | None = None,
    advice: Callable[[Sequence[str]], str] | None = None,
    error: type[CounterpoiseError],
) -> TextTable:
    """Read a CSV file separated by comma, semicolon or tab, whichever fits its header; every field stays a string.

    The encoding is UTF-8 with or without a byte order mark, UTF-16 with one, or else Windows-1252 (Latin-1 with the
    euro sign). Lines end with LF, CRLF or CR.

    Args:
        path: the file.
        required: columns that the file must have.
        refused: columns that explain why a required one is missing, ``{column: explanation}``.
        advice: says what to do about a missing column, from the columns that the file has; None says to add it.
        error: class of the errors raised.

    Raises:
        error: the file cannot be opened or decoded, a column is missing or appears twice, a quote is not closed, a row
            has too few or too many fields, a field is longer than 128 KiB, or the text has a NUL character; with the
            number of the line.
    """
    name = display_name(path.name)
    try:
        content, not_utf8 = _in_utf8(path.read_bytes(), name)
        if (position := content.find(b"\0")) >= 0:
            line = content.count(b"\n", 0, position) + 1
            raise _FormatError(f"{name!r} line {line} has a NUL character; save the file as text")
        header, separator = _header(content, required, name)
        expect_columns(header, required, name, refused=refused, advice=advice, error=_FormatError)
        columns, lines = _unquoted_columns(content, len(header), separator) or _columns(content, separator, name)
    except OSError as fault:
        raise error(f"{name!r} cannot be read: {fault.strerror}; check its permissions") from fault
    except ValueError as fault:  # a name that this system cannot have
        raise error(f"{name!r} cannot be read: {fault}; check its name") from fault
    except _FormatError as fault:
        raise error(str(fault)) from fault
    return TextTable(name, dict(zip(header, columns, strict=True)), lines, not_utf8=not_utf8, separator=separator)


def expect_columns(
    found: Sequence[str],
    required: Sequence[str],
    name: str,
    *,
    refused: Mapping[str, str] | None = None,
    advice: Callable[[Sequence[str]], str] | None = None,
    error: type[Exception],
) -> None:
    """Raise ``error`` if a column appears twice or a required one is missing; arguments as in `read_csv`."""
    doubled = [column for column, n in Counter(found).items() if n > 1]
    if doubled:
        raise error(f"{name!r} line 1 has the column {doubled[0]!r} twice; rename one of them")
    missing = [column for column in required if column not in found]
    if not missing:
        return
    for column, explanation in (refused or {}).items():
        if column in found:
            raise error(f"{name!r} has the column `{column}`: {explanation}")
    problem = f"{name!r} lacks the column `{missing[0]}` on line 1, which has {listed(found) or 'no column'}"
    raise error(f"{problem}; {advice(found) if advice else 'add it'}")


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[str | float | None]], *, escape: bool = True
) -> None:
    """Write a CSV file, whole or not at all; None is an empty field.

    With ``escape``, a text that a spreadsheet would run as a formula gets an apostrophe in front, and so does a text
    that begins with an apostrophe; `read_own_csv` removes it. See
    https://owasp.org/www-community/attacks/CSV_Injection.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    if escape:
        rows = ([f"'{c}" if isinstance(c, str) and c.startswith(_FORMULA) else c for c in row] for row in rows)
    writer.writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def read_own_csv(path: Path, header: Sequence[str], *, optional: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read the rows of a file that `write_csv` wrote; names of files are as on disk, also if they are not UTF-8.

    Raises:
        ArtifactError: the file cannot be read, or has other columns than ``header`` and after it some of ``optional``.
    """
    try:
        rows = [row for _, row in _rows(path.read_bytes(), ",", path.name, check_quotes=False)]
    except (OSError, ValueError) as fault:  # ValueError: a name that this system cannot have
        raise ArtifactError(f"{path} cannot be read: {getattr(fault, 'strerror', fault)}") from fault
    except _FormatError as fault:
        raise ArtifactError(f"{path} is damaged: {fault}; write it again") from fault
    found = rows[0] if rows else []
    more = [name for name in optional if name in found]
    if found != [*header, *more]:
        raise ArtifactError(f"{path} must have the columns {listed(header)}; it has {listed(found) or 'none'}")
    return [dict(zip(found, (cell.removeprefix("'") for cell in row), strict=True)) for row in rows[1:]]


def _in_utf8(raw: bytes, name: str) -> tuple[bytes, int | None]:
    """The text in UTF-8, and the first line that is not UTF-8 where another encoding had to be assumed."""
    try:
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return raw.decode("utf-16").encode(), None
        _expect_utf8(raw)
        return raw.removeprefix(codecs.BOM_UTF8), None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
    try:
        return raw.decode("cp1252").encode(), line
    except UnicodeDecodeError:
        raise _FormatError(f"{name!r} line {line} is neither UTF-8 nor Windows-1252; save the file as UTF-8") from None


def _expect_utf8(raw: bytes) -> None:
    """Raise UnicodeDecodeError if this is not UTF-8, without holding the whole text in memory a second time."""
    if raw.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(raw), _BLOCK):
            decoder.decode(raw[start : start + _BLOCK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raw.decode()  # raises the error with the position in the whole text


def _text(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="surrogateescape", newline="")


def _header(content: bytes, required: Sequence[str], name: str) -> tuple[list[str], str]:
    """The column names of the first line, and the separator with which most of the required columns are found."""
    readings = {}
    for separator in _SEPARATORS:
        rows = csv.reader(_text(content), delimiter=separator)
        try:
            readings[separator] = next((row for row in rows if row), [])
        except csv.Error as error:
            raise _FormatError(f"{name!r} line 1 cannot be read: {error}") from error
    separator, header = max(readings.items(), key=lambda item: (len(set(item[1]) & set(required)), len(item[1])))
    return header, separator


def _unquoted_columns(content: bytes, width: int, separator: str) -> tuple[list[pl.Series], range] | None:
    """The columns, without the header, and the line on which each row begins; None if the csv module must read them.

    Polars would read these differently from the csv module, or accept them: quotes, CR alone as the end of a line,
    empty lines, rows with too few fields (which Polars fills up; a row with too many is an error to it), long fields,
    and a text that begins with a byte order mark or like a compressed file.
    """
    import polars as pl

    stray = b'"' in content or (b"\r" in content and content.count(b"\r") != content.count(b"\r\n"))
    if stray or content.startswith((codecs.BOM_UTF8, b"x")):
        return None
    if content.endswith((b"\n\n", b"\n\r\n")):
        content = content.rstrip(b"\r\n")
    height = _count(content, b"\n") + (not content.endswith(b"\n"))
    if _count(content, separator.encode()) != height * (width - 1):
        return None
    try:
        table = pl.read_csv(content, has_header=False, separator=separator, quote_char=None, infer_schema=False)
    except pl.exceptions.PolarsError:
        return None
    if table.shape != (height, width):
        return None
    columns = [column.slice(1).fill_null("") for column in table]
    if any((column.str.len_bytes() > _MAX_FIELD).any() for column in columns):
        return None
    return columns, range(2, height + 1)


def _count(content: bytes, character: bytes) -> int:
    """``content.count(character)`` in a fifth of the time."""
    codes = np.frombuffer(content, dtype=np.uint8)
    return sum(
        int(np.count_nonzero(codes[start : start + _BLOCK] == ord(character)))
        for start in range(0, len(content), _BLOCK)
    )


def _columns(content: bytes, separator: str, name: str) -> tuple[list[pl.Series], NDArray[np.int64]]:
    """The columns, without the header, and the line on which each row begins, as the csv module reads them."""
    import polars as pl

    rows = _rows(content, separator, name, check_quotes=True)
    _, header = next(rows)
    lines = [np.empty(0, dtype=np.int64)]
    columns = [[pl.Series(dtype=pl.String)] for _ in header]
    while block := list(itertools.islice(rows, _ROWS)):
        lines.append(np.array([line for line, _ in block], dtype=np.int64))
        for parts, values in zip(columns, zip(*(row for _, row in block), strict=True), strict=True):
            parts.append(pl.Series(values=values, dtype=pl.String))
    return [pl.concat(parts) for parts in columns], np.concatenate(lines)


def _rows(content: bytes, separator: str, name: str, *, check_quotes: bool) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row begins and its fields, those of the header first."""
    reader = csv.reader(_text(content), delimiter=separator, strict=True)
    start, size = 1, 0
    try:
        for row in reader:
            if row:
                size = size or len(row)
                if len(row) != size:
                    problem = f"has {len(row)} fields, the header {size}; quote a field that contains {separator!r}"
                    raise _FormatError(f"{name!r} line {start} {problem}")
                if check_quotes and reader.line_num > start and any(_swallows_rows(field, separator) for field in row):
                    problem = "opens a quote that runs over the rows below it; close it, or double it"
                    raise _FormatError(f"{name!r} line {start} {problem}")
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        problem = f"cannot be read: {error}"
        if "end of data" in str(error):
            problem = "opens a quote that is never closed; close it, or double it"
        raise _FormatError(f"{name!r} line {start} {problem}") from error


def _swallows_rows(field: str, separator: str) -> bool:
    """Whether a field looks like several rows: a stray quote swallows everything up to the next one."""
    return "\n" in field and separator in field.partition("\n")[2]
