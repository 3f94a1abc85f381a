"""Read and write CSV files: quoting, encodings, line numbers and spreadsheet formulas are handled only here.

Every file goes through the csv module, which reads a million rows in one or two seconds: little beside the time to
open the million images that they name.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoise.core.errors import ArtifactError, CounterpoiseError
from counterpoise.core.files import atomic_write, display_name
from counterpoise.core.text import listed

_MAX_FIELD = 131_072
_SEPARATORS = (",", ";", "\t")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(frozen=True)
class TextTable:
    """Columns of strings of equal length, with the line (or row: ``unit``) of the file on which each row begins.

    ``not_utf8`` is the first line that is not UTF-8, where the file was therefore read as Windows-1252.
    """

    name: str
    columns: dict[str, list[str]]
    lines: Sequence[int]
    unit: str = "line"
    not_utf8: int | None = None

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
    error: type[CounterpoiseError],
) -> TextTable:
    """Read a CSV file separated by comma, semicolon or tab, whichever fits its header; every field stays a string.

    The encoding is UTF-8 with or without a byte order mark, UTF-16 with one, or else Windows-1252 (Latin-1 with the
    euro sign). Lines end with LF, CRLF or CR.

    Args:
        path: the file.
        required: columns that the file must have.
        refused: columns that explain why a required one is missing, ``{column: explanation}``.
        error: class of the errors raised.

    Raises:
        error: the file cannot be opened or decoded, a column is missing or appears twice, a quote is not closed, a row
            has too few or too many fields, a field is longer than 128 KiB, or the text has a NUL character; with the
            number of the line.
    """
    name = display_name(path.name)
    try:
        text, not_utf8 = _decoded(path.read_bytes(), name)
        if "\0" in text:
            line = text.count("\n", 0, text.index("\0")) + 1
            raise _FormatError(f"{name!r} line {line} has a NUL character; save the file as text")
        header, separator = _header(text, required, name)
        expect_columns(header, required, name, refused=refused, error=_FormatError)
        fields, lines = _fields(text, separator, name, check_quotes=True)
    except OSError as fault:
        raise error(f"{name!r} cannot be read: {fault.strerror}; check its permissions") from fault
    except _FormatError as fault:
        raise error(str(fault)) from fault
    columns = {column: fields[len(header) + i :: len(header)] for i, column in enumerate(header)}
    return TextTable(name, columns, lines[1:], not_utf8=not_utf8)


def expect_columns(
    found: Sequence[str],
    required: Sequence[str],
    name: str,
    *,
    refused: Mapping[str, str] | None = None,
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
    raise error(f"{name!r} lacks the column `{missing[0]}` on line 1, which has {listed(found) or 'no column'}; add it")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> None:
    """Write a CSV file, whole or not at all; None is an empty field.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, and so does a text that begins with
    an apostrophe; `read_own_csv` removes it. See https://owasp.org/www-community/attacks/CSV_Injection.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([f"'{c}" if isinstance(c, str) and c.startswith(_FORMULA) else c for c in row] for row in rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def read_own_csv(path: Path, header: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a file that `write_csv` wrote; names of files are as on disk, also if they are not UTF-8.

    Raises:
        ArtifactError: the file cannot be read, or has other columns than ``header``.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        fields, lines = _fields(text, ",", path.name, check_quotes=False)
    except OSError as fault:
        raise ArtifactError(f"{path} cannot be read: {fault.strerror}") from fault
    except _FormatError as fault:
        raise ArtifactError(f"{path} is damaged: {fault}; write it again") from fault
    size = len(fields) // max(1, len(lines))
    if fields[:size] != list(header):
        raise ArtifactError(f"{path} must have the columns {listed(header)}; it has {listed(fields[:size]) or 'none'}")
    cells = [field.removeprefix("'") for field in fields]
    return [dict(zip(header, cells[i : i + size], strict=True)) for i in range(size, len(cells), size)]


def _decoded(raw: bytes, name: str) -> tuple[str, int | None]:
    """The text, and the first line that is not UTF-8 where another encoding had to be assumed."""
    try:
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return raw.decode("utf-16"), None
        return raw.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
    try:
        return raw.decode("cp1252"), line
    except UnicodeDecodeError:
        raise _FormatError(f"{name!r} line {line} is neither UTF-8 nor Windows-1252; save the file as UTF-8") from None


def _header(text: str, required: Sequence[str], name: str) -> tuple[list[str], str]:
    """The column names of the first line, and the separator with which most of the required columns are found."""
    readings = {}
    for separator in _SEPARATORS:
        rows = csv.reader(io.StringIO(text[: _MAX_FIELD + 1], newline=""), delimiter=separator)
        try:
            readings[separator] = next((row for row in rows if row), [])
        except csv.Error as error:
            raise _FormatError(f"{name!r} line 1 cannot be read: {error}") from error
    separator, header = max(readings.items(), key=lambda item: (len(set(item[1]) & set(required)), len(item[1])))
    return header, separator


def _fields(text: str, separator: str, name: str, *, check_quotes: bool) -> tuple[list[str], list[int]]:
    """The fields of all rows in one list, those of the header first, and the line on which each row begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    fields: list[str] = []
    lines: list[int] = []
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
                fields += row
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        problem = f"cannot be read: {error}"
        if "end of data" in str(error):
            problem = "opens a quote that is never closed; close it, or double it"
        raise _FormatError(f"{name!r} line {start} {problem}") from error
    return fields, lines


def _swallows_rows(field: str, separator: str) -> bool:
    """Whether a field looks like several rows: a stray quote swallows everything up to the next one."""
    return "\n" in field and separator in field.partition("\n")[2]
