"""A manifest (path, label, optional split) → `Listing`."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from counterpoise.core.artifacts import Quarantined
from counterpoise.core.errors import DatasetError
from counterpoise.core.images import SPLITS, Split
from counterpoise.workflow.dataset.header import UNSUPPORTED, extension_of
from counterpoise.workflow.dataset.listing import SPLIT_NAMES, Listing, merged_twins, shown
from counterpoise.workflow.dataset.table import Table, read_csv, read_parquet

__all__ = ["MANIFESTS", "read_manifest"]

MANIFESTS = (".csv", ".tsv", ".parquet", ".pq")
_WANTED = ("path", "label")
# Relative, without "." and "..", backslash or colon: needs no further look. Nearly every path is like this.
_PLAIN = re.compile(r"(?!~)(?!(?:.*/)?\.{0,2}(?:/|\Z))[^\\\0:]+", re.DOTALL)
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:|[A-Za-z]:/|//|~", re.IGNORECASE)


def read_manifest(file: Path) -> Listing:
    """List the images that a CSV or Parquet file names, sorted by path, which is relative to the folder of the file.

    Labels are kept as they are. Rows with an empty path or label, rows that repeat another, and all rows of a file
    that is given two labels or two splits are quarantined.

    Raises:
        DatasetError: it cannot be read, has no rows, or a row leads out of the folder or names an unknown split; with
            the number of the line (in Parquet: of the row).
    """
    table = read_csv(file, _WANTED) if file.suffix.lower() in MANIFESTS[:2] else read_parquet(file, _WANTED, ("split",))
    if not len(table):
        raise DatasetError(f"{table.name!r} names no image: it has a header, but no rows")
    root = file.parent.resolve()
    labels, paths, splits = table.columns["label"], _paths(table, root), _splits(table)
    standing, findings = merged_twins({label for label in labels if label.strip()})
    labels = [standing.get(label, "") for label in labels]
    classes = tuple(sorted(set(standing.values())))
    faults = _faults(table, paths, labels, splits)
    order = sorted(range(len(paths)), key=paths.__getitem__)
    sound = [row for row in order if row not in faults]
    return Listing(
        "manifest",
        root,
        table.name,
        classes,
        paths=[paths[row] for row in sound],
        labels=[labels[row] for row in sound],
        splits=[splits[row] for row in sound],
        quarantined=[
            Quarantined(shown(paths[row]), f"{faults[row]} ({table.where(row)})", labels[row] or None, splits[row])
            for row in order
            if row in faults
        ],
        findings=[*table.findings, *findings],
        places=[table.lines[row] for row in sound],
        unit=table.unit,
    )


def _faults(
    table: Table, paths: Sequence[str], labels: Sequence[str], splits: Sequence[Split | None]
) -> dict[int, str]:
    """``{row: reason}`` of the rows that are left out before any file is opened."""
    faults = {row: "empty label" for row, label in enumerate(labels) if not label}
    faults |= {row: "no path" for row, path in enumerate(paths) if not path}
    several = {path for path, n in Counter(paths).items() if n > 1}
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        if path in several and row not in faults:
            rows_of[path].append(row)
    for rows in rows_of.values():
        contradiction = _contradiction(rows, table, labels, splits)
        # Neither of two labels can be trusted; of equal rows, the first one stays.
        faults |= {row: contradiction or f"repeats {table.where(rows[0])}" for row in rows[not contradiction :]}
    unsupported = tuple(UNSUPPORTED)
    for row, path in enumerate(paths):
        if row not in faults and path.lower().endswith(unsupported):
            faults[row] = f"unsupported format {extension_of(path)}: never opened"
    return faults


def _contradiction(
    rows: Sequence[int], table: Table, labels: Sequence[str], splits: Sequence[Split | None]
) -> str | None:
    for row in rows[1:]:
        lines = f"{table.where(rows[0])} and {table.where(row)}"
        if labels[row] != labels[rows[0]]:
            return f"two labels, {labels[rows[0]]!r} and {labels[row]!r}, on {lines}"
        if splits[row] != splits[rows[0]]:
            return f"two splits, {splits[rows[0]]} and {splits[row]}, on {lines}"
    return None


def _splits(table: Table) -> list[Split | None]:
    if "split" not in table.columns:
        return [None] * len(table)
    named = table.columns["split"]
    for row, name in enumerate(named):
        if name.lower() not in SPLIT_NAMES:
            expected = ", ".join(SPLITS)
            raise DatasetError(f"{table.name!r} {table.where(row)}: unknown split {name!r}; expected {expected}")
    return [SPLIT_NAMES[name.lower()] for name in named]


def _paths(table: Table, root: Path) -> list[str]:
    """The paths relative to the root, without links on the way; a row that leads outside is refused."""
    real: dict[str, str] = {}
    paths = []
    for row, given in enumerate(table.columns["path"]):
        path = given if _PLAIN.fullmatch(given) else _normal(given, str(root))
        path = None if path is None else _without_links(path, str(root), real)
        if path is None:
            raise DatasetError(
                f"{table.name!r} {table.where(row)}: path {given!r} leads out of the manifest's folder; put the "
                "manifest above its images and write paths relative to it"
            )
        paths.append(path)
    return paths


def _normal(given: str, root: str) -> str | None:
    """The path relative to the root, by its letters; None if it leads outside. A backslash separates, as on Windows."""
    path = given.replace("\\", "/")
    if _ELSEWHERE.match(path) or "\0" in path:
        return None
    if path.startswith("/"):
        return _below(os.path.realpath(path), root)
    path = os.path.normpath(path) if path.strip() else "."
    if path == ".":
        return ""
    return None if path.split("/", 1)[0] == ".." else path


def _without_links(path: str, root: str, real: dict[str, str]) -> str | None:
    """Where the path leads after all links, relative to the root; None if that is outside."""
    if not path:
        return ""
    folder, _, name = path.rpartition("/")
    if folder not in real:
        real[folder] = os.path.realpath(f"{root}/{folder}")
    target = f"{real[folder].rstrip('/')}/{name}"
    if os.path.islink(target):  # noqa: PTH114 - called once a row, pathlib is ten times slower
        target = os.path.realpath(target)
    return _below(target, root)


def _below(target: str, root: str) -> str | None:
    prefix = root.rstrip("/") + "/"
    return target[len(prefix) :] if target.startswith(prefix) else None
