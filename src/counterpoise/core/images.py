"""The protocol that every dataset implements, `LabeledImages`, and the search for identical images in a dataset."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentTypeError, DatasetError
from counterpoise.core.files import READ_FLAGS

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Symmetry = Literal["hflip", "vflip", "rot90"]
SYMMETRIES: tuple[Symmetry, ...] = ("hflip", "vflip", "rot90")

_Key = TypeVar("_Key", bound=Hashable)
_CHUNK = 1 << 16
_MOST_HASHED = 1 << 28


@runtime_checkable
class LabeledImages(Protocol):
    """Images with one class each, in splits; images are decoded only when asked for.

    A dataset of your own may inherit from this class: the attributes and methods that have a default here can then be
    left out.

    Attributes:
        name: the name of the dataset in reports.
        classes: C class names, in the order of the model's outputs.
        labels: int64 ``(N,)``, indices into ``classes``.
        paths: N unique identifiers, relative to the dataset's root with forward slashes.
        splits: N split names, a NumPy array of strings: "train", "val" or "test".
        symmetries: label-preserving transforms, among "hflip", "vflip" and "rot90".
        quarantined: the files that were excluded, each with the reason.
        findings: what a user should know about how the dataset was read.
        num_ignored: number of files that are not images, judging by their names.
    """

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    paths: tuple[str, ...]
    splits: NDArray[np.str_]
    symmetries: frozenset[Symmetry]
    quarantined: tuple[Quarantined, ...] = ()
    findings: tuple[Finding, ...] = ()
    num_ignored: int = 0

    def __len__(self) -> int:
        """Number of images, N."""

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """The image as RGB, uint8 ``(H, W, 3)``; raises `DatasetError` if it cannot be decoded."""

    def file(self, index: int) -> str | None:
        """Absolute path of the image file on this machine; None if the image is not stored in a file."""
        return None

    def subset(self, split: Split) -> LabeledImages:
        """The images of one split, in order; all classes are kept, also those without images."""

    def counts(self, split: Split = "train") -> ClassCounts:
        """Number of images per class in one split."""

    def quarantine(self, faults: Mapping[int, str]) -> LabeledImages:
        """The dataset without these images: ``{index: reason}``; they are added to ``quarantined``."""

    def without_unreadable(self) -> LabeledImages:
        """The dataset without the images that cannot be decoded; decodes every image once."""

    def to_dict(self) -> dict[str, Any]:
        """How the dataset was made (source, seed, fractions, faults), for the record of a run."""


def checked_dataset(data: object) -> LabeledImages:
    """Return ``data`` if it is a dataset.

    Raises:
        ArgumentTypeError: it is not one; names `load`, or the attributes that a dataset of the user lacks.
    """
    if isinstance(data, LabeledImages):
        return data
    if isinstance(data, str | os.PathLike):
        advice = f"pass load({os.fspath(data)!r})"
    elif hasattr(data, "labels"):
        members = (*LabeledImages.__annotations__, *(name for name in vars(LabeledImages) if name[0] != "_"))
        missing = [f"`{name}`" for name in dict.fromkeys(members) if not hasattr(data, name)]
        advice = f"it lacks {', '.join(missing)}; inherit from counterpoise.core.images.LabeledImages"
    else:
        advice = "pass the dataset that `counterpoise.load` returns"
    raise ArgumentTypeError(f"`data` must be a dataset, got {type(data).__name__}; {advice}")


def find_duplicates(data: LabeledImages, among: Iterable[int] | None = None) -> list[list[int]]:
    """Find groups of two or more images with identical content: equal bytes of files, equal pixels of other images.

    Files are read only if another file has the same size. An image that cannot be read is in no group.

    Args:
        data: the images.
        among: indices of the images to compare; None compares all.

    Returns:
        The indices of each group, in ascending order.
    """
    sizes = {i: _size(data.file(i)) for i in (range(len(data)) if among is None else among)}
    suspects = [i for group in _groups(sizes.items()) for i in group]
    return sorted(_groups((i, _digest(data, i, data.file(i))) for i in suspects))


def content_fingerprint(data: LabeledImages) -> str:
    """SHA-256 by which a change of the images is noticed, after what it was computed from.

    That is their content (bytes of files, pixels of other images) if it has at most 256 MiB in all, and otherwise the
    size and modification time of the files: then images that are not in files are not examined.
    """
    files = [data.file(i) for i in range(len(data))]
    in_memory = next((data[i].nbytes for i, file in enumerate(files) if file is None), 0)
    states = [(in_memory, 0) if file is None else _state(file) for file in files]
    whole = sum(state[0] for state in states) <= _MOST_HASHED
    digest = hashlib.sha256()
    for i, (file, state) in enumerate(zip(files, states, strict=True)):
        digest.update((_digest(data, i, file) if whole else None) or f"{state}".encode())
    return f"{'content' if whole else 'size and time'} {digest.hexdigest()}"


def _state(file: str) -> tuple[int, int]:
    """Size and modification time in ns of a file; -1 if it cannot be examined."""
    try:
        status = os.stat(file)  # noqa: PTH116 - once per file, pathlib takes twice as long
        return status.st_size, status.st_mtime_ns
    except OSError:
        return -1, -1


def _groups(keyed: Iterable[tuple[int, _Key | None]]) -> list[list[int]]:
    """Group the indices by key, where two or more have the same key; None is not a key."""
    groups: dict[_Key, list[int]] = defaultdict(list)
    for i, key in keyed:
        if key is not None:
            groups[key].append(i)
    return [group for group in groups.values() if len(group) > 1]


def _size(file: str | None) -> int | None:
    if file is None:
        return -1  # not in a file: the pixels are compared
    try:
        return os.stat(file, follow_symlinks=False).st_size  # noqa: PTH116 - once per file, pathlib takes twice as long
    except OSError:
        return None


def _digest(data: LabeledImages, i: int, file: str | None) -> bytes | None:
    try:
        if file is None:
            image = data[i]
            return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()
        digest = hashlib.sha256()
        with os.fdopen(os.open(file, READ_FLAGS), "rb", buffering=0) as handle:
            while chunk := handle.read(_CHUNK):
                digest.update(chunk)
        return digest.digest()
    except (OSError, DatasetError):
        return None
