"""`Features` of the images of a dataset, and the reader of features that the user has computed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from counterpoise.core.arrays import read_arrays
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.core.files import content_digest, path_exists
from counterpoise.core.images import SPLITS, LabeledImages, Split
from counterpoise.core.text import plural
from counterpoise.workflow.training.run_folder import BACKBONE, RunFolder, tensors_digest

FeatureArray = NDArray[np.float16] | NDArray[np.float32]

_ARRAYS = ("features", "paths", "labels")


@dataclass(frozen=True)
class Features:
    """Features of the images of a dataset, by a frozen backbone.

    Attributes:
        values: for each split float16 or float32 ``(N, 1 + V, D)``, in the row order of ``data.subset(split)``: for
            train the features of the image and of its V augmented views, for val and test ``(N, 1, D)``. They are
            finite. Float16 unless a feature is beyond ±65504.
        source: what determines the values, for the record of a run.
        backbone: images in [0, 1] ``(N, 3, S, S)`` → features ``(N, D)``; in eval mode, on the CPU. None for features
            that the user has computed.
        faults: for each split the rows of images that cannot be decoded, with the reason; their values are 0, see
            `without_faults`.
    """

    values: dict[Split, FeatureArray]
    source: dict[str, Any]
    backbone: nn.Module | None = None
    faults: dict[Split, dict[int, str]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Number of features per image, D."""
        return int(next(iter(self.values.values())).shape[2])

    def without_faults(self) -> Features:
        """The features of the dataset from which the images with faults were quarantined."""
        values = {
            split: np.delete(rows, list(self.faults[split]), axis=0) if self.faults.get(split) else rows
            for split, rows in self.values.items()
        }
        return replace(self, values=values, faults={})


def load_features(file: str | Path, data: LabeledImages) -> Features:
    """Read features that were computed elsewhere.

    Args:
        file: an .npz file with ``features``, floating point ``(N, D)`` or ``(N, 1 + V, D)`` with V augmented views of
            each image after the image itself; and with ``paths`` ``(N,)``, which are matched to ``data.paths`` in any
            order. Without ``paths`` there must be one row per image in the order of the dataset. ``labels`` ``(N,)``,
            class names or indices, are optional and checked.
        data: the images.

    Returns:
        The features. Of the images in val and test the first view is used.

    Raises:
        ArgumentError: the file cannot be read, does not fit the images, or has values that are not finite.
    """
    path = Path(file)
    arrays, digest = _read(path)
    features = _as_floats(path, arrays["features"])
    rows = _matched_rows(path, arrays.get("paths"), len(features), data)
    features = features[rows]
    _check_values(path, features, data)
    if "labels" in arrays:
        _check_labels(path, arrays["labels"], rows, data)
    values: dict[Split, FeatureArray] = {}
    for split in SPLITS:
        own = features[data.splits == split]
        values[split] = own if split == "train" else own[:, :1]
    return Features(values, {"file": path.name, "sha256": digest, "views": features.shape[1] - 1})


def save_backbone(folder: Path, features: Features) -> None:
    """Write the backbone of features, with its normalisation, to a file in ``folder``; nothing if there is none.

    Raises:
        WriteError: the file cannot be written.
    """
    if features.backbone is not None:
        RunFolder(folder).write_tensors(BACKBONE, features.backbone.state_dict(), {"format": "pt"})


def link_backbone(folder: Path, source: Path) -> None:
    """Give a run folder the backbone that `save_backbone` wrote to ``source``, if it did: as a hard link, or a copy."""
    if path_exists(source / BACKBONE):
        RunFolder(folder).link(BACKBONE, RunFolder(source))


def read_backbone(folder: Path, source: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors that `save_backbone` wrote, for the features of this ``source``.

    Raises:
        ArtifactError: the file is missing, damaged, or of another backbone.
    """
    file, saved = folder / BACKBONE, RunFolder(folder).read_tensors(BACKBONE)
    if saved is None:
        raise ArtifactError(f"{file} does not exist; copy it from the folder in which the run was trained")
    if tensors_digest(saved[0]) != source["weights"]:
        raise ArtifactError(f"{file} is not the backbone that run.json records; copy both again, or train again")
    return saved[0]


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], str]:
    """The arrays of the file and its SHA-256."""
    try:
        with path.open("rb") as file:
            digest = content_digest(file).hex()
            arrays = read_arrays(file, os.fstat(file.fileno()).st_size, _ARRAYS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(
            f"`features` {path} cannot be read: {reason}; write it with np.savez(file, features=…, paths=…)"
        ) from error
    if "features" not in arrays:
        raise ArgumentError(f"`features` {path} has no array 'features'; write it with np.savez(file, features=…)")
    return arrays, digest


def _as_floats(path: Path, features: NDArray[Any]) -> FeatureArray:
    """The features as float16 or float32 ``(N, 1 + V, D)``."""
    if features.dtype.kind != "f" or features.ndim not in (2, 3) or not features.size:
        raise ArgumentError(
            f"`features` {path} must have 'features' of floats (N, D), or (N, 1 + V, D) with V views; got "
            f"{features.dtype} {features.shape}; convert them, for example with .astype('float32')"
        )
    if features.dtype.newbyteorder("=") not in (np.float16, np.float32):
        with np.errstate(over="ignore"):  # an infinity is reported with its image
            features = features.astype(np.float32)
    return features.astype(features.dtype.newbyteorder("="), copy=False).reshape(len(features), -1, features.shape[-1])


def _matched_rows(path: Path, names: NDArray[Any] | None, n: int, data: LabeledImages) -> NDArray[np.int64]:
    """The row of the file for each image of the dataset."""
    if names is None:
        if n != len(data):
            raise ArgumentError(
                f"`features` {path} has {plural(n, 'row')} and no 'paths', and {data.name} has "
                f"{plural(len(data), 'image')}; add the array 'paths' (the paths of the dataset, such as "
                f"{next(iter(data.paths), '')!r}), or save one row per image in the order of the dataset"
            )
        return np.arange(n)
    if names.dtype.kind != "U" or names.shape != (n,):
        raise ArgumentError(
            f"`features` {path} must have 'paths' of strings ({n},), one per row of 'features'; got {names.dtype} "
            f"{names.shape}"
        )
    row_of: dict[str, int] = {}
    for row, name in enumerate(names.tolist()):
        if row_of.setdefault(name, row) != row:
            raise ArgumentError(f"`features` {path} has the path {name!r} twice, in rows {row_of[name]} and {row}")
    _check_paths(path, row_of, data)
    return np.fromiter((row_of[name] for name in data.paths), dtype=np.int64, count=len(data))


def _check_paths(path: Path, row_of: dict[str, int], data: LabeledImages) -> None:
    """Raise `ArgumentError` for images without features, and for features of images that are not in the dataset."""
    missing = [name for name in data.paths if name not in row_of]
    if missing:
        first = next(iter(row_of))
        raise ArgumentError(
            f"`features` {path} has no row for {plural(len(missing), 'image')} of {data.name}, the first is "
            f"{missing[0]!r}; its own paths are like {first!r}, and they must be those of the dataset, relative to its "
            "folder and with forward slashes"
        )
    known = {*data.paths, *(item.path for item in data.quarantined)}
    unknown = next((name for name in row_of if name not in known), None)
    if unknown is not None:
        raise ArgumentError(
            f"`features` {path} row {row_of[unknown]} is of {unknown!r}, which is not in {data.name}; compute the "
            "features of the images that are in the dataset"
        )


def _check_values(path: Path, features: FeatureArray, data: LabeledImages) -> None:
    """Raise `ArgumentError` for values that are not finite, and for features that are the same for all images."""
    finite = np.isfinite(features).all(axis=(1, 2))
    if not finite.all():
        row = int(np.argmin(finite))
        raise ArgumentError(
            f"`features` {path} has NaN or infinity for image {data.paths[row]!r}, and for "
            f"{plural(int((~finite).sum()), 'image')} in all; compute them again, or leave these images out of the data"
        )
    if len(features) > 1 and (features[:, 0] == features[0, 0]).all():
        raise ArgumentError(
            f"`features` {path} are the same for all {len(features)} images, so nothing can be learned from them; "
            "compute them again"
        )


def _check_labels(path: Path, labels: NDArray[Any], rows: NDArray[np.int64], data: LabeledImages) -> None:
    """Raise `ArgumentError` unless the labels in the file, names or indices, are those of the dataset."""
    if labels.dtype.kind not in "Uiu" or labels.ndim != 1 or len(labels) <= rows.max():
        raise ArgumentError(
            f"`features` {path} must have 'labels' of class names or indices, one per row of 'features'; got "
            f"{labels.dtype} {labels.shape}"
        )
    given = labels[rows]
    expected = data.labels if given.dtype.kind != "U" else np.array(data.classes, dtype=np.str_)[data.labels]
    different = np.flatnonzero(given != expected)
    if len(different):
        row = int(different[0])
        raise ArgumentError(
            f"`features` {path} has the label {given[row].item()!r} for {data.paths[row]!r}, and the dataset has "
            f"{expected[row].item()!r}; {plural(len(different), 'label differs', 'labels differ')}: use the features "
            "of this dataset, or remove 'labels' from the file"
        )
