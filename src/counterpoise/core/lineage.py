"""The file augmented.csv, which records the source, the operations and the seed of every image that `augment` made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from counterpoise.core.files import path_exists, reading
from counterpoise.core.tables import read_own_csv, write_csv

LINEAGE_FILE = "augmented.csv"
_COLUMNS = ("file", "source", "operations", "strength", "seed")


def write_lineage(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    """Write one row per new image: its file, its source, the operations, their strength and the seed."""
    write_csv(path, _COLUMNS, rows)


def read_lineage(path: str | Path) -> list[dict[str, str]]:
    """Read the rows of an augmented.csv: ``file``, ``source``, ``operations``, ``strength`` and ``seed``.

    Args:
        path: the file. Names of images in it are relative to its folder and to the folder of the source.

    Raises:
        ArtifactError: the file does not exist, is damaged, or has other columns.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_lineage(Path(folder) / "a.csv", [("=1+1.png", "'x.png", "noise", "0.5", "7")])
        ...     read_lineage(Path(folder) / "a.csv")[0]["file"]
        '=1+1.png'
    """
    return read_own_csv(Path(path), _COLUMNS)


def is_lineage(path: Path) -> bool:
    """Whether a file is an augmented.csv, judging by its first line."""
    with reading(path):
        if not (path_exists(path) and path.is_file()):
            return False
        with path.open("rb") as file:
            return file.readline(200).strip() == ",".join(_COLUMNS).encode()
