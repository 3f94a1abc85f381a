"""Folders that receive a copy of a dataset: apart from the data, with one name per file, and nothing else in them."""

from __future__ import annotations

import os
from pathlib import Path

from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.core.files import LOCK, writing
from counterpoise.workflow.dataset import ImageDataset


def check_folder(dataset: ImageDataset, out: Path) -> None:
    """Raise `ArgumentError` unless ``out`` is a folder apart from the files of the dataset."""
    if os.path.islink(out):  # noqa: PTH114 - `Path.is_symlink` raises OSError for a name that is too long
        raise ArgumentError(f"`out` {out} is a link; name a folder")
    if dataset.root is None:
        return
    folder, source = out.resolve(), dataset.root.resolve()
    # Only the folders of the images matter to a manifest: it finds no image that it does not name.
    is_manifest = dataset.origin.get("kind") == "manifest"
    sources = {(source / path).parent for path in dataset.paths} if is_manifest else {source}
    if any(folder == f or folder in f.parents or (not is_manifest and f in folder.parents) for f in sources):
        raise ArgumentError(f"`out` {out} and the data {dataset.root} lie inside each other; name a folder elsewhere")


def unused_path(names: set[str], folder: str, name: str) -> str:
    """A path that is not in ``names``, also on file systems that ignore case; adds it."""
    stem, dot, suffix = name.rpartition(".")
    path, number = f"{folder}/{name}", 1
    while path.casefold() in names:
        number += 1
        path = f"{folder}/{stem}~{number}{dot}{suffix}" if dot else f"{folder}/{name}~{number}"
    names.add(path.casefold())
    return path


def remove_partial_files(out: Path, expected: set[str], *, is_resumed: bool) -> None:
    """Remove temporary files of an interrupted process; refuse any other file, because it would join a class."""
    for path in sorted(out.rglob("*")):
        if path.is_dir() or path.name == LOCK or (is_resumed and path.parent == out):
            continue
        if path.name.startswith(".") and path.name.endswith(".tmp"):
            with writing(path):
                path.unlink()
        elif str(path) not in expected:
            problem = f"a file that is not part of this copy, {str(path.relative_to(out))!r}"
            raise ArtifactError(f"`out` has {problem}; remove it, or name a new folder")
