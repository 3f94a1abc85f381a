"""The protocol that every dataset implements, `LabeledImages`, and the search for identical images in a dataset."""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentTypeError, DatasetError
from counterpoise.core.files import READ_FLAGS, content_digest

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Symmetry = Literal["hflip", "vflip", "rot90"]
SYMMETRIES: tuple[Symmetry, ...] = ("hflip", "vflip", "rot90")

_NO_FILE = -1
_SETTLED = 2 * 10**9

MISSING = -2
"""The size of a file that cannot be examined."""

NO_DIGEST = bytes(hashlib.sha256().digest_size)
"""The digest of a file that was not read whole."""
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


@runtime_checkable
class Thumbnails(Protocol):
    """Small versions of images for a report, by the paths that the images have in their dataset."""

    @property
    def name(self) -> str:
        """The name of the dataset or of its place, for messages."""

    def thumbnail(self, path: str, size: int) -> NDArray[np.uint8]:
        """The image as RGB, uint8 ``(h, w, 3)`` with h and w at most ``size``; `DatasetError` if there is none."""


def checked_dataset(data: object) -> LabeledImages:
    """Return ``data`` if it is a dataset.

    Raises:
        ArgumentTypeError: it is not one; names `load`, or the attributes that a dataset of the user lacks.
    """
    if isinstance(data, LabeledImages):
        return data
    if hasattr(data, "labels"):
        members = (*LabeledImages.__annotations__, *(name for name in vars(LabeledImages) if name[0] != "_"))
        missing = [f"`{name}`" for name in dict.fromkeys(members) if not hasattr(data, name)]
        advice = f"it lacks {', '.join(missing)}; inherit from counterpoise.core.images.LabeledImages"
    else:
        advice = "pass the dataset that `counterpoise.load` returns"
    raise ArgumentTypeError(f"`data` must be a dataset, got {type(data).__name__}; {advice}")


@dataclass(eq=False)
class FileStates:
    """Size, time of the last change and SHA-256 of N files, as they were when they were last examined.

    Attributes:
        sizes: int64 ``(N,)``, bytes; −1 where the image is not in a file, −2 where the file cannot be examined.
        changed: int64 ``(N,)``, the later of the times of modification and of status change, in ns.
        digests: uint8 ``(N, 32)``, SHA-256 of the content, where ``hashed`` is not 0.
        hashed: int64 ``(N,)``, when the digest was computed, in ns; 0 if it was not.
    """

    sizes: NDArray[np.int64]
    changed: NDArray[np.int64]
    digests: NDArray[np.uint8]
    hashed: NDArray[np.int64]

    @classmethod
    def unknown(cls, number: int) -> FileStates:
        """The states of files that nobody has looked at."""
        sizes, changed, hashed = np.full(number, MISSING), np.zeros(number, np.int64), np.zeros(number, np.int64)
        return cls(sizes, changed, np.zeros((number, len(NO_DIGEST)), dtype=np.uint8), hashed)

    @classmethod
    def of(cls, sizes: Sequence[int], changed: Sequence[int], digests: Sequence[bytes], hashed: int) -> FileStates:
        """The states with these values; ``hashed`` is the time before the digests were computed, in ns."""
        rows = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(digests), len(NO_DIGEST)).copy()
        times = np.where(rows.any(axis=1), hashed, 0).astype(np.int64)
        return cls(np.array(sizes, dtype=np.int64), np.array(changed, dtype=np.int64), rows, times)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, rows: slice | NDArray[Any]) -> FileStates:
        """The states of some of the files."""
        return FileStates(self.sizes[rows], self.changed[rows], self.digests[rows], self.hashed[rows])

    def __setitem__(self, rows: slice | NDArray[Any], states: FileStates) -> None:
        self.sizes[rows], self.changed[rows] = states.sizes, states.changed
        self.digests[rows], self.hashed[rows] = states.digests, states.hashed

    def keep_digests(self, earlier: FileStates) -> None:
        """Take over the digests of the files that have not changed since they were hashed.

        A change within two seconds before that is not certain to show in the time of the last change, because file
        systems store it in steps; such files are hashed again.
        """
        same = (self.sizes == earlier.sizes) & (self.changed == earlier.changed)
        same &= self.changed < earlier.hashed - _SETTLED
        self.digests[same], self.hashed[same] = earlier.digests[same], earlier.hashed[same]


def find_duplicates(
    data: LabeledImages, among: Iterable[int] | None = None, *, changed: bool = True
) -> list[list[int]]:
    """Find groups of two or more images with identical content: equal bytes of files, equal pixels of other images.

    Files are read only if another file has the same size, and not again if `load` has read them whole and they have not
    changed since. An image that cannot be read is in no group.

    Args:
        data: the images.
        among: indices of the images to compare; None compares all.
        changed: whether files may have changed since the dataset was made, so that each is examined again.

    Returns:
        The indices of each group, in ascending order.
    """
    rows = np.arange(len(data)) if among is None else np.sort(np.fromiter(among, dtype=np.int64))
    kept = getattr(data, "states", None)
    states = kept[rows] if isinstance(kept, FileStates) else None
    if states is None or changed:
        states = current_states(data, rows)
    suspects = np.flatnonzero(_repeated(states.sizes) & (states.sizes != MISSING))
    for i in suspects[states.hashed[suspects] == 0].tolist():
        row = int(rows[i])
        if digest := image_digest(data, row, data.file(row)):
            states.digests[i], states.hashed[i] = np.frombuffer(digest, dtype=np.uint8), time.time_ns()
    if isinstance(kept, FileStates):
        kept[rows] = states
    suspects = suspects[states.hashed[suspects] > 0]
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i in suspects[_repeated(states.digests[suspects, :8].copy().view(np.uint64)[:, 0])].tolist():
        groups[states.digests[i].tobytes()].append(int(rows[i]))
    return sorted(group for group in groups.values() if len(group) > 1)


def current_states(data: LabeledImages, rows: NDArray[np.int64]) -> FileStates:
    """The states of the files of some images now, with those digests that are known and still valid."""
    kept = getattr(data, "states", None)
    earlier = kept[rows] if isinstance(kept, FileStates) else None
    states = FileStates.unknown(len(rows))
    found = (size_and_change(data.file(row)) for row in rows.tolist())
    numbers = np.fromiter(chain.from_iterable(found), dtype=np.int64, count=2 * len(rows))
    states.sizes, states.changed = numbers[::2], numbers[1::2]
    if earlier is not None:
        states.keep_digests(earlier)
    return states


def size_and_change(file: str | None) -> tuple[int, int]:
    """Size and time of the last change of a file, as in `FileStates`."""
    if file is None:
        return _NO_FILE, 0  # the pixels are compared
    try:
        status = os.lstat(file)
    except OSError:
        return MISSING, 0
    return status.st_size, time_of_change(status)


def time_of_change(status: os.stat_result) -> int:
    """The later of the times of modification and of status change, in ns."""
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _repeated(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the values occur more than once."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    found: NDArray[np.bool_] = (counts > 1)[inverse]
    return found


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
        digest.update((image_digest(data, i, file) if whole else None) or f"{state}".encode())
    return f"{'content' if whole else 'size and time'} {digest.hexdigest()}"


def _state(file: str) -> tuple[int, int]:
    """Size and modification time in ns of a file; -1 if it cannot be examined."""
    try:
        status = os.stat(file)  # noqa: PTH116 - once per file, pathlib takes twice as long
        return status.st_size, status.st_mtime_ns
    except OSError:
        return -1, -1


def array_digest(image: NDArray[np.uint8]) -> bytes:
    """SHA-256 of the shape and the pixels of an image."""
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()


def image_digest(data: LabeledImages, i: int, file: str | None) -> bytes | None:
    """SHA-256 of the bytes of an image file, or of the shape and pixels of another image; None if it cannot be read."""
    try:
        if file is None:
            return array_digest(data[i])
        with os.fdopen(os.open(file, READ_FLAGS), "rb", buffering=0) as handle:
            return content_digest(handle)
    except (OSError, DatasetError):
        return None
