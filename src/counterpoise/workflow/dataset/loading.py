"""`load`: read a folder of images, a manifest or the embedded digits as an `ImageDataset`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.checks import checked_choice, checked_count, checked_number
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, DatasetError
from counterpoise.core.files import display_name
from counterpoise.core.images import SPLITS, SYMMETRIES, LabeledImages, Split, Symmetry, Thumbnails, checked_dataset
from counterpoise.core.text import plural
from counterpoise.workflow.dataset.cleaning import without_duplicates, without_empty_classes
from counterpoise.workflow.dataset.decoding import FORMATS, extension_of
from counterpoise.workflow.dataset.digits import all_digits, read_digits
from counterpoise.workflow.dataset.files import ImageFiles
from counterpoise.workflow.dataset.folder import read_folder
from counterpoise.workflow.dataset.headers import Headers, check_headers
from counterpoise.workflow.dataset.images import NO_SPLIT, ImageDataset, Listing
from counterpoise.workflow.dataset.manifest import MANIFESTS, read_manifest
from counterpoise.workflow.dataset.splits import draw_missing_splits

_SUPPORTED = "pass an image folder, a CSV or Parquet manifest with the columns `path` and `label`, or digits"
_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_UNSUPPORTED = {
    ".json": f"COCO annotations cannot be read yet; {_SUPPORTED}",
    **dict.fromkeys(_ARCHIVES, "archives are not opened; unpack it, and pass the folder or the manifest in it"),
}

_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
"""Colour modes of Pillow with an alpha channel."""


def load(  # noqa: PLR0913  what a user chooses when reading a dataset
    source: str | os.PathLike[str],
    *,
    split: Split | None = None,
    val_fraction: float = 0.2,
    test_fraction: float = 0.2,
    seed: int = 0,
    symmetries: Iterable[Symmetry] | None = None,
    nested: bool = False,
    keep_empty_classes: bool = False,
    exclude_duplicates: bool = False,
    path_column: str | None = None,
    label_column: str | None = None,
    name: str | None = None,
) -> ImageDataset:
    """Load labelled images. Files are listed and their headers are checked; images are decoded when indexed.

    Sources:

    - An **image folder**: ``train/<class>/``, with or without ``val/`` (``valid/``, ``validation/``) and ``test/``;
      or one folder per class without splits. The classes are the names of the folders in all splits, sorted. Images in
      deeper folders belong to the class folder above them, unless ``nested`` makes each of these folders a class, such
      as ``animal/cat``. The formats jpg, jpeg, png, bmp, webp, gif, tif and tiff are read, in upper or lower case.
      Links are not followed.
    - A **manifest**, CSV (with commas, semicolons or tabs) or Parquet, with the columns ``path`` (relative to the
      folder of the manifest), ``label`` and optionally ``split`` (train, val or test); ``path_column`` and
      ``label_column`` name the first two if they are called otherwise. The text is UTF-8, with or without a byte
      order mark, or UTF-16 with one. Labels are strings and are not changed: ``007``, ``NA`` and ``1e5`` stay as
      they are.
    - ``digits``: scikit-learn's 8×8 digits, long-tailed with the imbalance ratio 30:1, with a balanced test split. A
      folder of that name is ``./digits``.

    Splits that the source does not have are drawn, stratified by class, independent of the order of the files: a source
    without splits is divided in three; if there is a train split but no val split, validation images are taken from
    the training images. A test split is never drawn from a source that has splits of its own. Every class with two
    images has one in train and one in val, and with three images one in test; ``findings`` names the classes that are
    too small.

    Files that cannot be used (empty, truncated, not an image, missing) are listed in ``quarantined`` with the reasons.
    A class that has no image in any split (an empty folder, or one whose files are all quarantined) is excluded, and a
    finding names it. A class with images in some of the splits is kept.

    Args:
        source: path of a folder or a manifest, or ``"digits"``.
        split: load only this split, "train", "val" or "test"; None loads all of them.
        val_fraction: share of the training images of each class that becomes the val split (of all images, if the
            source has no splits); 0 draws none.
        test_fraction: share of the images of each class that becomes the test split, if the source has no splits; 0
            draws none.
        seed: seed of the drawn splits.
        symmetries: label-preserving transforms among "hflip", "vflip" and "rot90". None means "hflip" for photos and
            no transform for the digits.
        nested: make each folder with images a class of its own (image folders only).
        keep_empty_classes: keep a class without images as a class with count 0.
        exclude_duplicates: exclude copies of images before splits are drawn. Of files with identical content, one
            remains: in test rather than in val, in val rather than in train, and else the first by path. None remains
            if their labels differ. The copies are listed in ``quarantined``, and a finding has their number.
        path_column: name of the column of paths in a manifest; None means "path".
        label_column: name of the column of labels in a manifest; None means "label".
        name: name of the dataset in reports; None takes the name of the folder or file.

    Returns:
        An `ImageDataset`.

    Raises:
        DatasetError: the source does not exist, or has no images that can be used.
        ArgumentError: an argument is out of range.
        ArgumentTypeError: an argument has the wrong type.

    Example:
        >>> data = load("digits")
        >>> data.counts("train").counts
        array([90, 62, 42, 29, 20, 14,  9,  6,  4,  3])
        >>> data[0].shape, data[0].dtype
        ((8, 8, 3), dtype('uint8'))
    """
    val_fraction = checked_number("val_fraction", val_fraction, minimum=0, below=1)
    test_fraction = checked_number("test_fraction", test_fraction, minimum=0, below=1)
    if val_fraction + test_fraction >= 1:
        fractions = f"{val_fraction:g} + {test_fraction:g}"
        raise ArgumentError(f"`val_fraction` and `test_fraction` must sum to less than 1; got {fractions}")
    seed = checked_count("seed", seed, minimum=-(2**63))
    if split is not None:
        checked_choice("split", split, SPLITS)
    chosen = _checked_symmetries(symmetries)
    path, columns = _checked_source(source), _checked_columns(path_column, label_column)
    if path == "digits":
        _refuse_columns(columns)
        dataset = read_digits(val_fraction=val_fraction, seed=seed, name="digits")
    else:
        listing = _listing(path, nested, columns)
        dataset = _assembled(listing)
        dataset = without_duplicates(dataset) if exclude_duplicates else dataset
        dataset = dataset if keep_empty_classes else without_empty_classes(dataset)
        _draw_splits(dataset, listing, val_fraction, test_fraction, seed)
    dataset.name = dataset.name if name is None else display_name(name)
    dataset.symmetries = dataset.symmetries if chosen is None else chosen
    dataset.origin |= {"seed": seed, "val_fraction": val_fraction, "test_fraction": test_fraction}
    if split is None or (dataset.splits == split).any():
        return dataset if split is None else dataset.subset(split)
    present = ", ".join(f"{name} ({n})" for name in SPLITS if (n := int((dataset.splits == name).sum())))
    raise DatasetError(f"{dataset.name!r} has no {split} split; it has {present}: load one of them")


def as_dataset(data: LabeledImages | str | os.PathLike[str]) -> LabeledImages:
    """Load the dataset of a path, and check that any other object is a dataset."""
    return load(data) if isinstance(data, str | os.PathLike) else checked_dataset(data)


def open_images(source: str | os.PathLike[str]) -> Thumbnails:
    """Thumbnails of the dataset that `counterpoise.load` reads from ``source``, without listing its files.

    Args:
        source: a folder of images, a manifest (its paths are relative to its folder), or ``"digits"``. It may be
            missing: then no image is found.
    """
    if os.fspath(source) == "digits":
        return all_digits()
    place = Path(source)
    return ImageFiles(display_name(str(place)), place.parent if place.suffix.lower() in MANIFESTS else place)


def check_output(data: LabeledImages, out: str | os.PathLike[str]) -> None:
    """Raise `ArgumentError` for an output folder inside an image folder, whose folders are classes."""
    if not isinstance(data, ImageDataset) or data.root is None or data.origin.get("kind") != "folder":
        return
    folder, root = Path(out).resolve(), data.root.resolve()
    if folder == root or root in folder.parents:
        raise ArgumentError(f"`out` {out} is inside the data {root}, whose folders are classes; name another folder")


def _checked_source(source: str | os.PathLike[str]) -> str:
    if not isinstance(source, str | os.PathLike):
        raise ArgumentTypeError(f"`source` must be a path or 'digits'; got {type(source).__name__}")
    text = os.fsdecode(source)
    if not text or "\0" in text:
        raise ArgumentError(f"`source` must be a path or 'digits'; got {text!r}")
    return text


def _checked_symmetries(symmetries: Iterable[Symmetry] | None) -> frozenset[Symmetry] | None:
    if symmetries is None:
        return None
    names: tuple[Any, ...] = (symmetries,) if isinstance(symmetries, str) else tuple(symmetries)
    for name in names:
        checked_choice("symmetries", name, SYMMETRIES)
    return frozenset(names)


def _checked_columns(path_column: str | None, label_column: str | None) -> dict[str, str]:
    """The columns of a manifest that the caller named, by the names of the arguments."""
    columns = {"path_column": path_column, "label_column": label_column}
    for argument, column in columns.items():
        if not isinstance(column, str | None):
            raise ArgumentTypeError(f"`{argument}` must be the name of a column; got {type(column).__name__}")
    if (path_column or "path") == (label_column or "label"):
        raise ArgumentError(f"`path_column` and `label_column` must be two columns; both are {path_column or 'path'!r}")
    return {argument: column for argument, column in columns.items() if column is not None}


def _refuse_columns(columns: Mapping[str, str]) -> None:
    """Raise if the caller named columns of a source that has none."""
    for argument in columns:
        raise ArgumentError(f"`{argument}` needs a CSV or Parquet manifest, and the data are not one; omit it")


def _listing(source: str, nested: bool, columns: Mapping[str, str]) -> Listing:
    path = Path(source)
    try:
        is_folder, is_file, exists = path.is_dir(), path.is_file(), path.exists()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise DatasetError(f"{display_name(source)!r:.200} cannot be opened: {error.strerror}; {_SUPPORTED}") from error
    if is_folder:
        _refuse_columns(columns)
        return read_folder(path.resolve(), nested=nested)
    hugging_face = f"Hugging Face datasets cannot be read yet; {_SUPPORTED}"
    if reason := hugging_face if source.startswith("hf:") else _UNSUPPORTED.get(path.suffix.lower()):
        raise DatasetError(f"{display_name(source)!r}: {reason}")
    if not exists:
        raise DatasetError(f"{display_name(source)!r} does not exist; {_SUPPORTED}")
    if not (is_file and path.suffix.lower() in MANIFESTS):
        raise DatasetError(f"{display_name(path.name)!r} is not a dataset; {_SUPPORTED}")
    if nested:
        raise ArgumentError("`nested` needs an image folder; in a manifest, write labels such as animal/cat instead")
    return read_manifest(path, **columns)


def _assembled(listing: Listing) -> ImageDataset:
    """The dataset of the listed files that have a valid header; files without a split are in train."""
    listing.paths = listing.paths if isinstance(listing.paths, list) else listing.paths.to_list()
    headers = _checked_headers(listing, listing.paths)
    rows = np.delete(np.arange(len(listing.paths)), list(headers.faults))
    paths, renamed = _unique_names(_selected(listing.paths, rows))
    return ImageDataset(
        name=listing.source,
        classes=listing.classes,
        labels=listing.labels[rows].astype(np.int64),
        paths=tuple(paths),
        splits=np.array([*SPLITS, "train"])[listing.splits[rows]],  # the last for NO_SPLIT
        symmetries=frozenset({"hflip"}),
        quarantined=tuple(sorted(listing.quarantined, key=lambda item: item.path)),
        findings=(*listing.findings, *_header_findings(paths, rows, headers)),
        num_ignored=listing.num_ignored,
        root=listing.root,
        origin={"kind": listing.kind, "source": listing.source},
        renamed=renamed,
        states=headers.states[rows],
    )


def _draw_splits(dataset: ImageDataset, listing: Listing, val_fraction: float, test_fraction: float, seed: int) -> None:
    """Draw the splits that the source does not have, and raise if no image is left for training."""
    fractions: dict[Split, float] = {} if (listing.splits == SPLITS.index("val")).any() else {"val": val_fraction}
    if (listing.splits == NO_SPLIT).all():
        fractions["test"] = test_fraction
    draw_missing_splits(dataset, fractions, seed)
    if not (dataset.splits == "train").any():
        raise DatasetError(f"{listing.source!r} has no image that can be used in train: {_first_problem(listing)}")


def _checked_headers(listing: Listing, paths: Sequence[str]) -> Headers:
    """The headers of the files that are listed; those without a valid header and an end are quarantined."""
    headers = check_headers(str(listing.root), paths)
    for i, problem in headers.faults.items():
        reason = f"{listing.unit.capitalize()} {listing.lines[i]}: {problem}" if len(listing.lines) else problem
        code = int(listing.splits[i])
        split = None if code == NO_SPLIT else SPLITS[code]
        item = Quarantined(display_name(paths[i]), reason, listing.classes[listing.labels[i]], split)
        listing.quarantined.append(item)
    if len(headers.faults) == len(paths):
        raise DatasetError(f"{listing.source!r} has no image that can be read: {_first_problem(listing)}")
    return headers


def _selected(paths: Sequence[str], rows: NDArray[np.int64]) -> Sequence[str]:
    return paths if len(rows) == len(paths) else [paths[i] for i in rows.tolist()]


def _first_problem(listing: Listing) -> str:
    if not listing.quarantined:
        return "all its images are in other splits; put some into train"
    first = min(listing.quarantined, key=lambda item: item.path)
    return f"{plural(len(listing.quarantined), 'file')} quarantined, the first is {first.path!r}: {first.reason}"


def _unique_names(paths: Sequence[str]) -> tuple[Sequence[str], dict[str, str]]:
    """The paths as valid Unicode, and the names on disk of those that had to be changed."""
    changed = [i for i, path in enumerate(paths) if not path.isascii() and display_name(path) != path]
    if not changed:
        return paths, {}
    names = list(paths)
    for i in changed:
        names[i] = display_name(paths[i])
    renamed, times, tried = {}, Counter(names), Counter[str]()
    for i in changed:
        unique = name = names[i]
        if times[name] > 1:  # another file has this name
            times[name] -= 1
            while times[unique]:
                tried[name] += 1
                unique = f"{name}_{tried[name]}" if tried[name] > 1 else f"{name}_"
            times[unique] += 1
        names[i], renamed[unique] = unique, paths[i]
    return names, renamed


def _header_findings(names: Sequence[str], rows: NDArray[np.int64], headers: Headers) -> list[Finding]:
    """Findings about files whose extension stands for another format, and about colour modes that are converted.

    ``names`` are the names of the files without a fault, which are those in ``rows``.
    """
    findings = []
    for row, format in headers.other_formats.items():
        name = names[int(np.searchsorted(rows, row))]
        if extension_of(name) in FORMATS:
            reason = f"The content of {name!r} is {format}, and it is read as such. Rename the file to match."
            findings.append(Finding("extension-mismatch", "warning", reason, (name,)))
    modes = {mode: n for mode, n in headers.modes.items() if mode != "RGB"}
    if modes:
        numbers = ", ".join(f"{n} {mode}" for mode, n in sorted(modes.items()))
        reason = f"Some images are converted to RGB ({numbers})."
        if any(mode in _WITH_ALPHA for mode in modes):
            reason += " Their alpha channel is ignored, so transparent pixels show the colours stored in the file."
            reason += " Paste such images onto a background if that matters."
        reason += " Check that the mode does not depend on the class."
        findings.append(Finding("colour-modes", "info", reason, tuple(sorted(modes))))
    return findings
