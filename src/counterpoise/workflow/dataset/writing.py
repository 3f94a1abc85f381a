"""Write a dataset as a manifest: a CSV file with the path, label and split of each image."""

from __future__ import annotations

import os
from pathlib import Path

from counterpoise.core.errors import ArgumentError, ArtifactError, DatasetError
from counterpoise.core.files import display_name, path_exists, writing
from counterpoise.core.tables import write_csv
from counterpoise.core.text import listed
from counterpoise.workflow.dataset.images import ImageDataset
from counterpoise.workflow.dataset.manifest import read_manifest
from counterpoise.workflow.dataset.manifest_paths import ELSEWHERE


def write_manifest(data: ImageDataset, file: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write path, label and split of each image to a CSV file, which `load` reads as the same images.

    Splits that were set aside automatically are written as well, so that they stay as they are. Quarantined files are
    not written: ``write_manifest(load(folder, exclude_duplicates=True).without_unreadable(), file)`` lists the images
    that can be used.

    Args:
        data: a dataset whose images are files.
        file: the CSV file to write, in the folder of the images or in a folder above it; its paths are relative to its
            own folder.
        overwrite: whether to replace an existing file.

    Raises:
        ArgumentError: the images are not files, or ``file`` is at another place or does not end in ``.csv``.
        ArtifactError: ``file`` exists, or is the manifest from which the dataset was read.
        DatasetError: a name cannot be written so that it is read as the same name.
        WriteError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from counterpoise.workflow.dataset import load
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat", "dog"):
        ...         Path(folder, name).mkdir()
        ...         Image.effect_noise((8, 8), 50).save(Path(folder, name, "1.png"))
        ...     write_manifest(load(folder), Path(folder, "all.csv"))
        ...     print(Path(folder, "all.csv").read_text().split())
        ['path,label,split', 'cat/1.png,cat,train', 'dog/1.png,dog,train']
    """
    target = Path(file)
    prefix = check_manifest_target(data, target, overwrite=overwrite)
    names = [prefix + data.renamed.get(path, path) for path in data.paths]
    if strange := [path for name, path in zip(names, data.paths, strict=True) if display_name(name) != name]:
        raise DatasetError(f"{strange[0]!r} cannot be named in a CSV file, because its name is not UTF-8; rename it")
    labels = [data.classes[label] for label in data.labels.tolist()]
    rows = list(zip(names, labels, data.splits.tolist(), strict=True))
    # The paths are relative to the folder of the file, so that it is read back beside its final place.
    written = target.with_name(f".{target.name}.new.csv")
    try:
        escaped = ((f"./{name}" if ELSEWHERE.match(name) else name, *rest) for name, *rest in rows)
        write_csv(written, ("path", "label", "split"), escaped, escape=False)
        _expect_rows(written, rows)
        with writing(target):
            written.replace(target)
    finally:
        written.unlink(missing_ok=True)


def check_manifest_target(data: ImageDataset, file: Path, *, overwrite: bool = False) -> str:
    """The way from the folder of a manifest to the images of a dataset, empty or with a slash at its end.

    Raises:
        ArgumentError, ArtifactError: as `write_manifest`.
    """
    if data.root is None:
        raise ArgumentError(f"the images of {data.name!r} are not files, so `file` cannot name them; omit it")
    if file.suffix.lower() != ".csv":
        raise ArgumentError(f"`file` must end in .csv; got {file.name!r}")
    root, folder = data.root.resolve(), file.resolve().parent
    if folder != root and folder not in root.parents:
        raise ArgumentError(
            f"`file` {file} must be in the folder of the images, {root.name}, or in a folder above it, because a "
            "manifest names files below its own folder; choose another place"
        )
    if path_exists(file):
        is_source = data.origin.get("kind") == "manifest" and file.resolve() == root / str(data.origin.get("source"))
        if is_source or not overwrite:
            advice = "" if is_source else ", or set `overwrite` to replace it (--overwrite)"
            raise ArtifactError(f"`file` {file} exists; choose another name{advice}")
    return "" if folder == root else f"{root.relative_to(folder).as_posix()}/"


def _expect_rows(file: Path, rows: list[tuple[str, str, str]]) -> None:
    """Raise unless the manifest is read as these rows."""
    advice = "rename the file or the class, or keep the dataset as it is"
    try:
        found = read_manifest(file)
    except DatasetError as error:
        raise DatasetError(f"the dataset cannot be written as a CSV file: {error}; {advice}") from error
    labels = [found.classes[label] for label in found.labels.tolist()]
    missing = dict(zip((name for name, _, _ in rows), (label for _, label, _ in rows), strict=True))
    for name, label in zip(found.paths, labels, strict=True):
        if missing.get(name) == label:
            del missing[name]
    if missing:
        raise DatasetError(f"{listed(missing, 3)} cannot be named in a CSV file, which is read otherwise; {advice}")
