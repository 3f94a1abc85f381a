"""Read a manifest, a CSV or Parquet file with the columns path, label and optionally split, as a `Listing`.

The rows stay columns throughout: only rows that are not plain (a path with "..", a link, a repeated row) are looked at
one by one.
"""

from __future__ import annotations

import itertools
import operator
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.errors import DatasetError
from counterpoise.core.files import display_name
from counterpoise.core.images import SPLITS, Split
from counterpoise.core.tables import TextTable, expect_columns, read_csv
from counterpoise.core.text import listed
from counterpoise.workflow.dataset.decoding import UNSUPPORTED, UNSUPPORTED_REASON, extension_of
from counterpoise.workflow.dataset.images import NO_SPLIT, Listing, merge_class_names
from counterpoise.workflow.dataset.splits import SPLIT_NAMES

if TYPE_CHECKING:
    import polars as pl

Paths: TypeAlias = "pl.Series | list[str]"
Codes: TypeAlias = "NDArray[np.unsignedinteger[Any]]"
MANIFESTS = (".csv", ".tsv", ".parquet", ".pq")
_REQUIRED = ("path", "label")
_REFUSED = {"labels": "several labels per image are not supported; write one label per image into the column `label`"}
# Relative, without "." and "..", backslash or colon: needs no further check. Nearly every path is like this.
_PLAIN = re.compile(r"(?!~)(?!(?:.*/)?\.{0,2}(?:/|\Z))[^\\\0:]+", re.DOTALL)
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:|[A-Za-z]:/|//|~", re.IGNORECASE)
_NO_LABEL = -1
_LONGEST_EXTENSION = max(map(len, UNSUPPORTED))
_DEEPEST = 100
# An entry of a folder that is listed takes less than a third of the time of a file that is examined by name.
_ENTRIES_PER_ROW, _FEW_ENTRIES = 4, 1000


@dataclass
class _Rows:
    """The rows of a manifest as columns: resolved paths, labels (indices into ``classes``) and splits."""

    table: TextTable
    paths: Paths
    labels: NDArray[np.int32]
    splits: NDArray[np.int8]
    classes: tuple[str, ...]

    def label(self, row: int) -> str | None:
        """The class of a row; None if its label is empty."""
        code = int(self.labels[row])
        return None if code == _NO_LABEL else self.classes[code]

    def split(self, row: int) -> Split | None:
        """The split of a row; None if the table has no splits."""
        code = int(self.splits[row])
        return None if code == NO_SPLIT else SPLITS[code]


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
    names, codes = _distinct(table.columns["label"])
    _refuse_several_labels(table, names)
    paths, folders = _resolved_paths(table, str(root))
    splits = _splits(table)
    class_of, findings = merge_class_names({name for name in names if name.strip()})
    classes = tuple(sorted(set(class_of.values())))
    code_of = {name: code for code, name in enumerate(classes)}
    of_name = [code_of[class_of[name]] if name in class_of else _NO_LABEL for name in names]
    rows = _Rows(table, paths, np.array(of_name, dtype=np.int32)[codes], splits, classes)
    order, in_order, repeats = _order(paths, folders)
    faults = _faults(rows, order, repeats)
    is_faulty = np.zeros(len(table), dtype=np.bool_)
    is_faulty[list(faults)] = True
    is_kept = ~is_faulty[order]
    kept, faulty = order[is_kept], order[~is_kept].tolist()
    return Listing(
        "manifest",
        root,
        table.name,
        classes,
        paths=_selected(in_order, is_kept),
        labels=rows.labels[kept],
        splits=splits[kept],
        quarantined=[
            Quarantined(display_name(paths[row]), faults[row], rows.label(row), rows.split(row)) for row in faulty
        ],
        findings=[*_encoding_findings(table), *findings],
        lines=_line_numbers(table)[kept],
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
    columns = {column: frame[column].cast(pl.String).fill_null("") for column in frame.columns}
    return TextTable(name, columns, range(1, 1 + frame.height), unit="row")


def _line_numbers(table: TextTable) -> NDArray[np.int64]:
    lines = table.lines
    return np.arange(lines.start, lines.stop) if isinstance(lines, range) else np.asarray(lines)


def _encoding_findings(table: TextTable) -> list[Finding]:
    if table.not_utf8 is None:
        return []
    problem = f"{table.name!r} is not UTF-8 (line {table.not_utf8}) and was read as Windows-1252"
    reason = f"{problem}. Check that its accents are right, or save it as UTF-8."
    return [Finding("manifest-encoding", "warning", reason, (table.name,))]


def _distinct(values: pl.Series) -> tuple[list[str], Codes]:
    """The distinct strings in the order of their first row, and for each row the index of its own."""
    import polars as pl

    distinct = values.unique(maintain_order=True)
    return distinct.to_list(), values.cast(pl.Enum(distinct)).to_physical().to_numpy()


def _order(paths: Paths, folders: tuple[list[str], Codes]) -> tuple[NDArray[np.int64], Paths, NDArray[np.bool_]]:
    """The rows sorted by path, those of equal paths in their order; the sorted paths, and which repeat the last.

    Rows that are grouped by folder first are sorted in half the time.
    """
    import polars as pl

    order = np.arange(len(paths))
    if isinstance(paths, list):
        order = np.array(sorted(range(len(paths)), key=paths.__getitem__), dtype=np.int64)
        paths = [paths[row] for row in order.tolist()]
        return order, paths, np.array([False, *map(operator.eq, paths, itertools.islice(paths, 1, None))])
    if not (paths.head(-1) <= paths.tail(-1)).all():
        names, codes = folders
        rank = np.empty(len(names), dtype=np.min_scalar_type(len(names)))
        rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        order = np.argsort(rank[codes], kind="stable")
        table = pl.DataFrame({"path": paths.gather(order), "row": order}).sort("path")
        order, paths = table["row"].to_numpy(), table["path"]
    repeats = np.concatenate([[False], (paths.head(-1) == paths.tail(-1)).to_numpy()])
    return order[np.lexsort((order, np.cumsum(~repeats)))] if repeats.any() else order, paths, repeats


def _selected(paths: Paths, is_kept: NDArray[np.bool_]) -> Paths:
    if is_kept.all():
        return paths
    return list(itertools.compress(paths, is_kept)) if isinstance(paths, list) else paths.filter(is_kept)


def _faults(rows: _Rows, order: NDArray[np.int64], repeats: NDArray[np.bool_]) -> dict[int, str]:
    """``{row: reason}`` of the rows that are quarantined before any file is opened."""
    import polars as pl

    paths = pl.Series(list(map(display_name, rows.paths))) if isinstance(rows.paths, list) else rows.paths
    no_label, no_path = np.flatnonzero(rows.labels == _NO_LABEL), (paths == "").arg_true()
    faults = dict.fromkeys(no_label.tolist(), "The label is empty. Write one, or delete the row.")
    faults |= dict.fromkeys(no_path.to_list(), "The path is empty. Write one, or delete the row.")
    in_group = repeats | np.append(repeats[1:], False)
    group = np.cumsum(~repeats)[in_group]
    for same in np.split(order[in_group], np.flatnonzero(np.diff(group)) + 1):
        found = [row for row in same.tolist() if row not in faults]
        contradiction = _contradiction(found, rows)
        # Neither of two labels can be trusted; of equal rows, the first one stays.
        reason = contradiction or (f"The row repeats {rows.table.where(found[0])}. Delete it." if found else "")
        faults |= dict.fromkeys(found if contradiction else found[1:], reason)
    endings = paths.str.tail(_LONGEST_EXTENSION)
    unsupported = [ending for ending in endings.unique().to_list() if ending.lower().endswith(UNSUPPORTED)]
    for row in endings.is_in(unsupported).arg_true().to_list() if unsupported else []:
        faults.setdefault(row, UNSUPPORTED_REASON.format(extension=extension_of(paths[row])))
    return {row: f"{rows.table.where(row).capitalize()}: {reason}" for row, reason in faults.items()}


def _contradiction(same: Sequence[int], rows: _Rows) -> str | None:
    """The reason to quarantine all rows of one file, if they differ in their labels or splits."""
    labels, splits = rows.labels, rows.splits
    for row in same[1:]:
        first = same[0]
        lines = f"{rows.table.where(first)} and {rows.table.where(row)}"
        if labels[row] != labels[first]:
            names = f"{rows.label(first)!r} and {rows.label(row)!r}"
            return f"The file has two labels, {names}, on {lines}. Keep one of them."
        if splits[row] != splits[first]:
            names = f"{rows.split(first)} and {rows.split(row)}"
            return f"The file is in two splits, {names}, on {lines}. Keep one of them."
    return None


def _splits(table: TextTable) -> NDArray[np.int8]:
    """The split of each row as an index into `SPLITS`; `NO_SPLIT` if the table has no column for it."""
    if "split" not in table.columns:
        return np.full(len(table), NO_SPLIT, dtype=np.int8)
    names, codes = _distinct(table.columns["split"])
    for code, name in enumerate(names):  # in the order of their first row
        if name.lower() not in SPLIT_NAMES:
            where = f"{table.name!r} {table.where(int(np.argmax(codes == code)))}"
            raise DatasetError(f"{where}: the split must be one of {listed(SPLITS)}; got {name!r:.80}")
    return np.array([SPLITS.index(SPLIT_NAMES[name.lower()]) for name in names], dtype=np.int8)[codes]


def _resolved_paths(table: TextTable, root: str) -> tuple[Paths, tuple[list[str], Codes]]:
    """The paths relative to the root with links resolved, and the folders of the rows before that.

    A path outside the root is an error. The paths are a list if one is not valid Unicode, as the target of a link may
    be.
    """
    given = table.columns["path"]
    paths = _without_root(given, root)
    is_plain, folder = _plain_and_folders(paths)
    folders = _distinct(folder)
    is_checked = is_plain & ~_may_have_links(*folders, root)
    real: dict[str, str] = {}
    changed: dict[int, str] = {}
    for row in (~is_checked).arg_true().to_list():
        path = paths[row] if is_plain[row] else _normal(given[row], root)
        path = None if path is None else _resolved(path, root, real)
        if path is None:
            raise DatasetError(
                f"{table.name!r} {table.where(row)}: the path {given[row]!r} is outside the folder of the manifest; "
                "put the manifest above its images and write paths relative to it"
            )
        changed[row] = path
    return _replaced(paths, changed), folders


def _replaced(paths: pl.Series, changed: Mapping[int, str]) -> Paths:
    """The paths with some of them replaced; a list if one is not valid Unicode."""
    if any(display_name(path) != path for path in changed.values()):
        every = paths.to_list()
        for row, path in changed.items():
            every[row] = path
        return every
    return paths.clone().scatter(list(changed), list(changed.values())) if changed else paths


def _without_root(given: pl.Series, root: str) -> pl.Series:
    """The paths without the root, or ``./``, in front."""
    prefix = f"{root.rstrip('/')}/"
    if display_name(prefix) == prefix and given.str.starts_with(prefix).any():
        given = given.str.strip_prefix(prefix)
    return given.str.strip_prefix("./") if given.str.starts_with("./").any() else given


def _plain_and_folders(paths: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Which paths are certainly written as the system would resolve them, apart from links, and the folders of these.

    A folder has a slash at its end; it is empty for a file at the root, and for a path that is not plain.
    """
    import polars as pl

    path = pl.col("path")
    special = path.str.contains_any(["\\", ":", "\0", "//", "/./", "/../"]) | (path == "")
    for start in (".", "~", "/"):
        special |= path.str.starts_with(start)
    for end in ("/", "/.", "/.."):
        special |= path.str.ends_with(end)
    folder = path.str.replace(r"[^/]+$", "")
    table = pl.DataFrame({"path": paths}).select(plain=~special, folder=folder)  # in two threads
    is_plain, folders = table["plain"], table["folder"]
    return is_plain, folders if is_plain.all() else folders.set(~is_plain, "")


def _may_have_links(names: Sequence[str], codes: Codes, root: str) -> pl.Series:
    """Which rows may lead through a link, by looking at each folder once instead of at each file."""
    import polars as pl

    numbers = np.bincount(codes, minlength=len(names)).tolist()
    linked: dict[str, bool] = {"": False}
    found = [
        _is_linked(folder[:-1], root, linked) or _lists_links(f"{root}/{folder}", number)
        for folder, number in zip(names, numbers, strict=True)
    ]
    return pl.Series(np.array(found)[codes])


def _is_linked(folder: str, root: str, linked: dict[str, bool]) -> bool:
    """Whether a part of a folder's path is a link, or so deep that it is not looked at here."""
    if folder not in linked:
        parent, _, _ = folder.rpartition("/")
        is_deep = folder.count("/") > _DEEPEST
        is_link = os.path.islink(f"{root}/{folder}")  # noqa: PTH114 - Path raises OSError for a name that is too long
        linked[folder] = is_deep or _is_linked(parent, root, linked) or is_link
    return linked[folder]


def _lists_links(folder: str, number: int) -> bool:
    """Whether a folder has links, or far more entries than ``number``, the rows that name one, or cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            most = _FEW_ENTRIES + _ENTRIES_PER_ROW * number
            return any(i > most or entry.is_symlink() for i, entry in enumerate(entries))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


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


def _refuse_several_labels(table: TextTable, names: Sequence[str]) -> None:
    """Raise for a label that is a list of labels, such as ``car|cup``, and name its first row."""
    for separator in "|;,":
        lists = {name: [part.strip() for part in name.split(separator)] for name in names if separator in name}
        several = _lists_of_labels(lists, set(names) - lists.keys(), all_parts=separator == ",")
        label = next((name for name in names if name in several), None)  # in the order of their first row
        if label is not None:
            row = (table.columns["label"] == label).arg_true()[0]
            raise DatasetError(
                f"{table.name!r} {table.where(row)}: {label!r:.80} are several labels, and "
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
