"""Resolve the paths in a manifest: relative to its folder, with links followed, and none outside.

Only rows that are not plain (a path with "..", a link) are looked at one by one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import DatasetError
from counterpoise.core.files import display_name
from counterpoise.core.tables import TextTable

if TYPE_CHECKING:
    import polars as pl

Paths: TypeAlias = "pl.Series | list[str]"
Codes: TypeAlias = "NDArray[np.unsignedinteger[Any]]"
ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:|[A-Za-z]:/|//|~", re.IGNORECASE)
_DEEPEST = 100
# An entry of a folder that is listed takes less than a third of the time of a file that is examined by name.
_ENTRIES_PER_ROW, _FEW_ENTRIES = 4, 1000


def resolved_paths(table: TextTable, root: str) -> tuple[Paths, tuple[list[str], Codes]]:
    """The paths relative to the root with links resolved, and the folders of the rows before that.

    A path outside the root is an error. The paths are a list if one is not valid Unicode, as the target of a link may
    be.
    """
    given = table.columns["path"]
    paths = _without_root(given, root)
    is_plain, folder = _plain_and_folders(paths)
    folders = distinct(folder)
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
    if ELSEWHERE.match(path) or "\0" in path:
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


def distinct(values: pl.Series) -> tuple[list[str], Codes]:
    """The distinct strings in the order of their first row, and for each row the index of its own."""
    import polars as pl

    distinct = values.unique(maintain_order=True)
    return distinct.to_list(), values.cast(pl.Enum(distinct)).to_physical().to_numpy()
