"""augmented.csv: where every new file comes from. A spreadsheet must not take a file name for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from counterpoise.core.errors import ArtifactError
from counterpoise.core.files import atomic_write

__all__ = ["COLUMNS", "FILE", "read_lineage", "write_lineage"]

FILE = "augmented.csv"
COLUMNS = ("file", "source", "operations", "strength", "seed")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def write_lineage(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    """Whole or not at all; a cell that a spreadsheet would run gets an apostrophe before it, and so does one with it.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in row] for row in rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def read_lineage(path: str | Path) -> list[dict[str, str]]:
    """The rows of an augmented.csv, names as they are on disk.

    Raises:
        ArtifactError: the file is not there, or is none of ours.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_lineage(Path(folder) / "a.csv", [("=1+1.png", "'x.png", "noise", "0.5", "7")])
        ...     read_lineage(Path(folder) / "a.csv")[0]["file"]
        '=1+1.png'
    """
    try:
        lines = Path(path).read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    reader = csv.DictReader(io.StringIO(lines, newline=""))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ArtifactError(f"{path} must have the columns {', '.join(COLUMNS)}; got {reader.fieldnames}")
    return [{key: cell.removeprefix("'") for key, cell in row.items()} for row in reader]
