"""Read a manifest, a CSV or Parquet file with the columns path, label and optionally split, as a `Listing`.

The rows stay columns throughout: only rows that are not plain (a path with "..", a link, a repeated row) are looked at
one by one.
"""

from __future__ import annotations

import difflib
import itertools
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.errors import DatasetError
from counterpoise.core.files import display_name
from counterpoise.core.images import SPLITS, Split
from counterpoise.core.tables import TextTable, expect_columns, read_csv
from counterpoise.core.text import listed
from counterpoise.workflow.dataset.decoding import FORMATS, UNSUPPORTED, UNSUPPORTED_REASON, extension_of
from counterpoise.workflow.dataset.images import NO_SPLIT, Listing, merge_class_names
from counterpoise.workflow.dataset.manifest_paths import Codes, Paths, distinct, resolved_paths
from counterpoise.workflow.dataset.splits import SPLIT_NAMES

MANIFESTS = (".csv", ".tsv", ".parquet", ".pq")
_REFUSED = {"labels": "several labels per image are not supported; write one label per image into the column `label`"}
# Names that other tools give to the two columns.
_SYNONYMS = {
    "path": (
        "file",
        "filename",
        "filepath",
        "image",
        "img",
        "imagepath",
        "imgpath",
        "imagefile",
        "imagename",
        "imageid",
    ),
    "label": ("class", "classname", "category", "target", "y", "labelname", "species", "diagnosis"),
}
_NO_LABEL = -1
_LONGEST_EXTENSION = max(map(len, UNSUPPORTED))


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


def read_manifest(file: Path, *, path_column: str = "path", label_column: str = "label") -> Listing:
    """List the images that a CSV or Parquet file names, sorted by path; paths are relative to its folder.

    ``path_column`` and ``label_column`` are the names of these columns in the file. Labels are not changed. Rows with
    an empty path or label, rows that repeat another, and all rows of a file that has two labels or two splits are
    quarantined.

    Raises:
        DatasetError: the file cannot be read or has no rows, or a row has a path outside the folder or an unknown
            split; with the number of the line (in Parquet: of the row).
    """
    table = _read_table(file, {"path": path_column, "label": label_column})
    if not len(table):
        raise DatasetError(f"{table.name!r} names no image: it has a header, but no rows; add one row per image")
    root = file.parent.resolve()
    names, codes = distinct(table.columns["label"])
    _refuse_several_labels(table, names)
    paths, folders = resolved_paths(table, str(root))
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
        findings=[*_format_findings(table), *findings],
        lines=_line_numbers(table)[kept],
        unit=table.unit,
    )


def _read_table(file: Path, chosen: Mapping[str, str]) -> TextTable:
    """The columns path and label of a file, which have the names ``chosen`` there, and split if there is one."""
    names, advice = tuple(chosen.values()), partial(_column_advice, chosen)
    if file.suffix.lower() in MANIFESTS[:2]:
        table = read_csv(file, names, refused=_REFUSED, advice=advice, error=DatasetError)
    else:
        table = _read_parquet(file, names, advice)
    columns = {column: table.columns[name] for column, name in chosen.items()}
    if "split" in table.columns and "split" not in names:
        columns["split"] = table.columns["split"]
    return replace(table, columns=columns)


def _column_advice(chosen: Mapping[str, str], found: Sequence[str]) -> str:
    """What to do if a file has none of the columns chosen: name the columns that look like them."""
    if any(extension_of(name) in FORMATS for name in found):
        return "the first line looks like an image; write the names of the columns above it"
    missing = [column for column, name in chosen.items() if name not in found]
    near = {column: _nearest(column, chosen[column], found) for column in missing}
    if not all(near.values()):
        return f"name the column in the file with {' and '.join(f'`{column}_column`' for column in missing)}"
    choice = " and ".join(f"`{column}_column={name!r}`" for column, name in near.items())
    return f"set {choice} if {'this column has' if len(near) == 1 else 'these columns have'} the {'s and '.join(near)}s"


def _nearest(column: str, wanted: str, found: Sequence[str]) -> str | None:
    """The column of a file that is probably meant; None if none is similar."""
    plain = {"".join(filter(str.isalnum, name.lower())): name for name in reversed(found)}
    alike = difflib.get_close_matches("".join(filter(str.isalnum, wanted.lower())), plain, n=1, cutoff=0.75)
    parts = [name for word in (column, *_SYNONYMS[column]) for name in plain if len(word) > 1 and word in name]
    nearest = next((name for name in (*alike, *_SYNONYMS[column], *parts) if name in plain), None)
    return None if nearest is None else plain[nearest]


def _read_parquet(path: Path, required: Sequence[str], advice: Callable[[Sequence[str]], str]) -> TextTable:
    """The required columns of a Parquet file, and the splits, as strings; null is the empty string."""
    import polars as pl

    name = display_name(path.name)
    try:
        schema = pl.read_parquet_schema(path)
        expect_columns(list(schema), required, name, refused=_REFUSED, advice=advice, error=DatasetError)
        frame = pl.read_parquet(path, columns=list(dict.fromkeys([*required, *({"split"} & set(schema))])))
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


def _format_findings(table: TextTable) -> list[Finding]:
    """Findings about what was assumed to read a CSV file: its encoding, and the separator of its columns."""
    findings = []
    if table.not_utf8 is not None:
        problem = f"{table.name!r} is not UTF-8 (line {table.not_utf8}) and was read as Windows-1252"
        reason = f"{problem}. Check that its accents are right, or save it as UTF-8."
        findings.append(Finding("manifest-encoding", "warning", reason, (table.name,)))
    if table.separator == ";" or (table.separator == "\t" and not table.name.lower().endswith(".tsv")):
        separator = "semicolons" if table.separator == ";" else "tabs"
        reason = (
            f"{table.name!r} was read with {separator} between its columns, which fit its first line. Check the labels."
        )
        findings.append(Finding("manifest-separator", "info", reason, (table.name,)))
    return findings


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
    names, codes = distinct(table.columns["split"])
    for code, name in enumerate(names):  # in the order of their first row
        if name.lower() not in SPLIT_NAMES:
            where = f"{table.name!r} {table.where(int(np.argmax(codes == code)))}"
            raise DatasetError(f"{where}: the split must be one of {listed(SPLITS)}; got {name!r:.80}")
    return np.array([SPLITS.index(SPLIT_NAMES[name.lower()]) for name in names], dtype=np.int8)[codes]


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
