"""load: a source in, an `ImageDataset` out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from counterpoise.core.errors import ArgumentError, ArgumentTypeError, DatasetError
from counterpoise.core.images import SPLITS, SYMMETRIES, Split, Symmetry
from counterpoise.workflow.dataset.assembling import assemble
from counterpoise.workflow.dataset.digits import read_digits
from counterpoise.workflow.dataset.folder import read_folder
from counterpoise.workflow.dataset.images import ImageDataset
from counterpoise.workflow.dataset.listing import Listing, shown
from counterpoise.workflow.dataset.manifest import MANIFESTS, read_manifest

__all__ = ["load"]

_SUPPORTED = "an image folder, a CSV or Parquet manifest with the columns `path` and `label`, or digits"
_LATER = {
    ".json": "COCO annotations",
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z"), "archives"),
}


def load(
    source: str | os.PathLike[str],
    *,
    split: Split | None = None,
    val_fraction: float = 0.2,
    test_fraction: float = 0.2,
    seed: int = 0,
    symmetries: Iterable[Symmetry] | None = None,
    nested: bool = False,
    name: str | None = None,
) -> ImageDataset:
    """Load labelled images; the files are listed and their headers checked, pixels are decoded when asked for.

    Sources:

    - An **image folder**: ``train/<class>/``, with or without ``val/`` (``valid/``, ``validation/``) and ``test/``;
      or class folders alone. Classes are the folders' names, sorted, of all splits together; images in folders
      nested deeper belong to the class folder above them, unless ``nested`` makes each of those a class,
      ``animal/cat``; an empty class folder is a class with count 0. Read are jpg, jpeg, png, bmp, webp, gif,
      tif and tiff, in any case. Links are not followed.
    - A **manifest**, CSV (comma, semicolon or tab) or Parquet: columns ``path`` (relative to the manifest's folder),
      ``label`` and optionally ``split`` (train, val or test). Labels are strings and stay exactly as they are: ``007``,
      ``NA``, ``1e5``.
    - ``digits``: scikit-learn's 8×8 digits, long-tailed 30:1, with a balanced test set (a folder of that name is
      ``./digits``).

    Splits that the source does not bring are drawn, stratified and seeded, independent of the order of the files:
    class folders alone, or a manifest without ``split``, are divided in three; where there are training images but none
    for validation, those are taken from the training images. A test split is never drawn from a source that has splits
    of its own: without one there is no test. Every class with two images has one in train and one in val (with three:
    one in test); what could not be represented is named in ``findings``.

    Faults in the data (empty, truncated, no image, missing on disk …) go to ``quarantined`` with their reasons.

    Args:
        source: a path, or ``"digits"``.
        split: only this split.
        val_fraction: of each class's training images (of all, where all three are drawn); 0 draws none.
        test_fraction: of each class's images, where all three are drawn; 0 draws none.
        seed: of the draws.
        symmetries: changes of an image that keep its label: "hflip", "vflip", "rot90". Default: hflip for photos, none
            for digits.
        nested: of an image folder: a class is the whole way from the class level down to the image.
        name: what the report calls the dataset; default: the name of the folder or file.

    Raises:
        DatasetError: the source cannot be used at all.
        ArgumentError, ArgumentTypeError: an argument cannot.

    Example:
        >>> data = load("digits")
        >>> data.counts("train").counts
        array([90, 62, 42, 29, 20, 14,  9,  6,  4,  3])
        >>> data[0].shape, data[0].dtype
        ((8, 8, 3), dtype('uint8'))
    """
    _check_fractions(val_fraction, test_fraction)
    _check_seed(seed)
    if split is not None and split not in SPLITS:
        raise ArgumentError(f"`split` must be one of {list(SPLITS)}; got {split!r}")
    chosen = _checked_symmetries(symmetries)
    if _text(source) == "digits":
        dataset = read_digits(val_fraction=val_fraction, seed=seed, name="digits")
    else:
        dataset = assemble(
            _listing(_text(source), nested), val_fraction=val_fraction, test_fraction=test_fraction, seed=seed
        )
    dataset.name = dataset.name if name is None else shown(name)
    dataset.symmetries = dataset.symmetries if chosen is None else chosen
    dataset.origin |= {"seed": seed, "val_fraction": val_fraction, "test_fraction": test_fraction}
    return dataset if split is None else _only(dataset, split)


def _listing(source: str, nested: bool) -> Listing:
    path = Path(source)
    try:
        is_folder, is_file, exists = path.is_dir(), path.is_file(), path.exists()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise DatasetError(f"{shown(source)!r:.200} cannot be opened: {error.strerror}") from error
    if is_folder:
        return read_folder(path.resolve(), nested=nested)
    if later := "Hugging Face datasets" if source.startswith("hf:") else _LATER.get(path.suffix.lower()):
        raise DatasetError(f"{shown(source)!r}: {later} cannot be read yet; expected {_SUPPORTED}")
    if not exists:
        raise DatasetError(f"{shown(source)!r} does not exist; expected {_SUPPORTED}")
    if not (is_file and path.suffix.lower() in MANIFESTS):
        raise DatasetError(f"{shown(path.name)!r} is no dataset; expected {_SUPPORTED}")
    if nested:
        raise ArgumentError("`nested` is about image folders; a manifest has the names of its classes, animal/cat")
    return read_manifest(path)


def _only(dataset: ImageDataset, split: Split) -> ImageDataset:
    kept = dataset.subset(split)
    if not len(kept):
        has = [f"{name} ({n})" for name in SPLITS if (n := int((dataset.splits == name).sum()))]
        raise DatasetError(f"{dataset.name!r} has no {split} split; it has {', '.join(has)}")
    return kept


def _text(source: str | os.PathLike[str]) -> str:
    if not isinstance(source, str | os.PathLike):
        raise ArgumentTypeError(f"`source` must be a path or 'digits'; got {type(source).__name__}")
    text = os.fsdecode(source)
    if not text or "\0" in text:
        raise ArgumentError(f"`source` must be a path or 'digits'; got {text!r}")
    return text


def _check_fractions(val: float, test: float) -> None:
    for argument, value in (("val_fraction", val), ("test_fraction", test)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ArgumentTypeError(f"`{argument}` must be a number from 0 to below 1; got {value!r}")
        if not (math.isfinite(value) and 0 <= value < 1):
            raise ArgumentError(f"`{argument}` must be from 0 to below 1; got {value}")
    if val + test >= 1:
        raise ArgumentError(f"`val_fraction` and `test_fraction` must leave images to train on; {val} + {test} is all")


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ArgumentTypeError(f"`seed` must be a whole number; got {seed!r}")


def _checked_symmetries(symmetries: Iterable[Symmetry] | None) -> frozenset[Symmetry] | None:
    if symmetries is None:
        return None
    names: tuple[Any, ...] = (symmetries,) if isinstance(symmetries, str) else tuple(symmetries)
    unknown = [name for name in names if name not in SYMMETRIES]
    if unknown:
        raise ArgumentError(f"`symmetries` must be among {list(SYMMETRIES)}; got {unknown[0]!r}")
    return frozenset(names)
