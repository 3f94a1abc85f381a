"""Read a manifest, a CSV or Parquet file with the columns path, label and optionally split, as a `Listing`."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.errors import DatasetError
from counterpoise.core.files import display_name
from counterpoise.core.images import SPLITS, Split
from counterpoise.core.tables import TextTable, expect_columns, read_csv
from counterpoise.core.text import listed
from counterpoise.workflow.dataset.decoding import UNSUPPORTED, UNSUPPORTED_REASON, extension_of
from counterpoise.workflow.dataset.images import NO_SPLIT, Listing, merge_class_names
from counterpoise.workflow.dataset.splits import SPLIT_NAMES

MANIFESTS = (".csv", ".tsv", ".parquet", ".pq")
_REQUIRED = ("path", "label")
_REFUSED = {"labels": "several labels per image are not supported; write one label per image into the column `label`"}
# Relative, without "." and "..", backslash or colon: needs no further check. Nearly every path is like this.
_PLAIN = re.compile(r"(?!~)(?!(?:.*/)?\.{0,2}(?:/|\Z))[^\\\0:]+", re.DOTALL)
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:|[A-Za-z]:/|//|~", re.IGNORECASE)


def read_manifest(file: Path) -> Listing:
    """List the images that a CSV or Parquet file names, sorted by path; paths are relative to its folder.

    Labels are not changed. Rows with an empty path or label, rows that repeat another, and all rows of a file that has
    two labels or two splits are quarantined.

    Raises:
        DatasetError: the file cannot be read or has no rows, or a row has a path outside the folder or an unknown
            split; with the number of the line (in Parquet: of the row).
    """
    is_csv = file.suffix.lower() in MANIFESTS[:2]
    table = read_csv(file, _REQUIRED, refused=_REFUSED, error=DatasetError) if is_csv else _read_parquet(file)
    if not len(table):
        raise DatasetError(f"{table.name!r} names no image: it has a header, but no rows; add one row per image")
    root = file.parent.resolve()
    _refuse_several_labels(table)
    labels, paths, splits = table.columns["label"], _paths(table, root), _splits(table)
    class_of, findings = merge_class_names({label for label in labels if label.strip()})
    labels = [class_of.get(label, "") for label in labels]
    faults = _faults(table, paths, labels, splits)
    order = sorted(range(len(paths)), key=paths.__getitem__)
    rows = [row for row in order if row not in faults]
    classes = tuple(sorted(set(class_of.values())))
    code_of = {name: code for code, name in enumerate(classes)}
    codes = [SPLITS.index(split) if split else NO_SPLIT for split in splits]
    return Listing(
        "manifest",
        root,
        table.name,
        classes,
        paths=[paths[row] for row in rows],
        labels=np.array([code_of[labels[row]] for row in rows], dtype=np.int32),
        splits=np.array([codes[row] for row in rows], dtype=np.int8),
        quarantined=[
            Quarantined(display_name(paths[row]), faults[row], labels[row] or None, splits[row])
            for row in order
            if row in faults
        ],
        findings=[*_encoding_findings(table), *findings],
        lines=[table.lines[row] for row in rows],
        unit=table.unit,
    )


def _read_parquet(path: Path) -> TextTable:
    """The required columns of a Parquet file, and the splits, as strings; null is the empty string."""
    import polars as pl

    name = display_name(path.name)
    try:
        schema = pl.read_parquet_schema(path)
        expect_columns(list(schema), _REQUIRED, name, refused=_REFUSED, error=DatasetError)
        frame = pl.read_parquet(path, columns=[*_REQUIRED, *(["split"] if "split" in schema else [])])
    except DatasetError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:  # Rust panics on some damaged files
        raise DatasetError(f"{name!r} cannot be read as Parquet; write it again") from error
    for column, kind in frame.schema.items():
        if not (kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null)):
            raise DatasetError(f"{name!r}: `{column}` must hold strings or whole numbers; it has {kind}; convert it")
    columns = {column: frame[column].cast(pl.String).fill_null("").to_list() for column in frame.columns}
    return TextTable(name, columns, range(1, 1 + frame.height), unit="row")


def _encoding_findings(table: TextTable) -> list[Finding]:
    if table.not_utf8 is None:
        return []
    problem = f"{table.name!r} is not UTF-8 (line {table.not_utf8}) and was read as Windows-1252"
    reason = f"{problem}. Check that its accents are right, or save it as UTF-8."
    return [Finding("manifest-encoding", "warning", reason, (table.name,))]


def _faults(
    table: TextTable, paths: Sequence[str], labels: Sequence[str], splits: Sequence[Split | None]
) -> dict[int, str]:
    """``{row: reason}`` of the rows that are quarantined before any file is opened."""
    faults = {row: "The label is empty. Write one, or delete the row." for row, label in enumerate(labels) if not label}
    faults |= {row: "The path is empty. Write one, or delete the row." for row, path in enumerate(paths) if not path}
    repeated = {path for path, n in Counter(paths).items() if n > 1}
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        if path in repeated and row not in faults:
            rows_of[path].append(row)
    for rows in rows_of.values():
        contradiction = _contradiction(rows, table, labels, splits)
        # Neither of two labels can be trusted; of equal rows, the first one stays.
        reason = contradiction or f"The row repeats {table.where(rows[0])}. Delete it."
        faults |= dict.fromkeys(rows if contradiction else rows[1:], reason)
    for row, path in enumerate(paths):
        if row not in faults and path.lower().endswith(UNSUPPORTED):
            faults[row] = UNSUPPORTED_REASON.format(extension=extension_of(path))
    return {row: f"{table.where(row).capitalize()}: {reason}" for row, reason in faults.items()}


def _contradiction(
    rows: Sequence[int], table: TextTable, labels: Sequence[str], splits: Sequence[Split | None]
) -> str | None:
    """The reason to quarantine all rows of one file, if they differ in their labels or splits."""
    first = rows[0]
    for row in rows[1:]:
        lines = f"{table.where(first)} and {table.where(row)}"
        if labels[row] != labels[first]:
            return f"The file has two labels, {labels[first]!r} and {labels[row]!r}, on {lines}. Keep one of them."
        if splits[row] != splits[first]:
            return f"The file is in two splits, {splits[first]} and {splits[row]}, on {lines}. Keep one of them."
    return None


def _splits(table: TextTable) -> list[Split | None]:
    if "split" not in table.columns:
        return [None] * len(table)
    named = table.columns["split"]
    for row, name in enumerate(named):
        if name.lower() not in SPLIT_NAMES:
            where = f"{table.name!r} {table.where(row)}"
            raise DatasetError(f"{where}: the split must be one of {listed(SPLITS)}; got {name!r}")
    return [SPLIT_NAMES[name.lower()] for name in named]


def _paths(table: TextTable, root: Path) -> list[str]:
    """The paths relative to the root with links resolved; a path outside the root is an error."""
    real: dict[str, str] = {}
    paths = []
    for row, given in enumerate(table.columns["path"]):
        path = given if _PLAIN.fullmatch(given) else _normal(given, str(root))
        path = None if path is None else _resolved(path, str(root), real)
        if path is None:
            raise DatasetError(
                f"{table.name!r} {table.where(row)}: the path {given!r} is outside the folder of the manifest; "
                "put the manifest above its images and write paths relative to it"
            )
        paths.append(path)
    return paths


def _normal(given: str, root: str) -> str | None:
    """The path relative to the root, links not resolved; None if it is outside. A backslash is a separator."""
    path = given.replace("\\", "/")
    if _ELSEWHERE.match(path) or "\0" in path:
        return None
    if path.startswith("/"):
        return _below(os.path.realpath(path), root)
    path = os.path.normpath(path) if path.strip() else "."
    if path == ".":
        return ""
    return None if path.split("/", 1)[0] == ".." else path


def _resolved(path: str, root: str, real: dict[str, str]) -> str | None:
    """The path relative to the root with links resolved; None if it is outside."""
    if not path:
        return ""
    folder, _, name = path.rpartition("/")
    if folder not in real:
        real[folder] = os.path.realpath(f"{root}/{folder}")
    target = f"{real[folder].rstrip('/')}/{name}"
    if os.path.islink(target):  # noqa: PTH114 - called once per row, pathlib is ten times slower
        target = os.path.realpath(target)
    return _below(target, root)


def _below(target: str, root: str) -> str | None:
    prefix = root.rstrip("/") + "/"
    return target[len(prefix) :] if target.startswith(prefix) else None


def _refuse_several_labels(table: TextTable) -> None:
    """Raise for a label that is a list of labels, such as ``car|cup``, and name its first row."""
    labels = set(table.columns["label"])
    for separator in "|;,":
        lists = {label: [part.strip() for part in label.split(separator)] for label in labels if separator in label}
        several = _lists_of_labels(lists, labels - lists.keys(), all_parts=separator == ",")
        row = next((row for row, label in enumerate(table.columns["label"]) if label in several), None)
        if row is not None:
            raise DatasetError(
                f"{table.name!r} {table.where(row)}: {table.columns['label'][row]!r:.80} are several labels, and "
                "several labels per image are not supported; keep one label per image, or, if it is the name of one "
                f"class, write it without {separator!r}"
            )


def _lists_of_labels(lists: Mapping[str, Sequence[str]], labels: Set[str], *, all_parts: bool) -> set[str]:
    """Those of the labels, given with their parts, that are lists of labels.

    A part that stands alone elsewhere, or at another place of a list, is a label; at one place only it may be a level
    (``animal|cat``, ``animal|dog``). Names of classes have commas (``crane, bird``): there, ``all_parts`` must stand
    alone.
    """
    places: dict[str, set[int]] = defaultdict(set)
    for parts in lists.values():
        for place, part in enumerate(parts):
            if part:
                places[part].add(place)
    several = set()
    for label, parts in lists.items():
        alone = [part in labels for part in parts if part]
        moves = any(len(places[part]) > 1 for part in parts)
        if (alone and all(alone)) if all_parts else (any(alone) or moves):
            several.add(label)
    return several
