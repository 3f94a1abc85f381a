"""`ImageDataset`, the dataset that `load` returns, and `Listing`, the files that a reader has found for it."""

from __future__ import annotations

import contextlib
import hashlib
import operator
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.checks import checked_choice
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, DatasetError
from counterpoise.core.files import display_name
from counterpoise.core.images import SPLITS, FileStates, Split, Symmetry
from counterpoise.core.text import plural
from counterpoise.workflow.dataset.decoding import UnreadableImage, read_image
from counterpoise.workflow.dataset.files import ImageFiles, scaled_down

if TYPE_CHECKING:
    import polars as pl

NO_SPLIT = -1
"""The split of an image in a `Listing` whose source has no splits."""

_CHUNK = 8
_BLOCK = 4096
_LARGE_FILE = 20_000


@dataclass(eq=False)
class ImageDataset:
    """A `LabeledImages`: images with one class each, in splits, decoded when they are indexed.

    ``dataset[i]`` is RGB, uint8 ``(H, W, 3)``, rotated as its EXIF orientation requires; other colour modes are
    converted: grey is repeated in three channels, transparency is dropped, 16-bit grey is scaled to 8 bits.

    Attributes:
        name, classes, labels, splits, symmetries, quarantined, findings: see `LabeledImages`.
        paths: see `LabeledImages`. They are valid Unicode: bytes of a file name that are not UTF-8 become ``\\xff``.
        num_ignored: number of files that are not images by their name (hidden files, ``Thumbs.db``, text files).
        root: the folder to which ``paths`` are relative; None for the embedded digits.
        origin: how the dataset was made (kind, source, seed …), for the record of a run.
        pixels: the images themselves, uint8 ``(N, H, W, 3)``, where they are not stored in files.
        renamed: ``{path: name on disk}`` of the files whose names are not valid Unicode.
        states: size and content hash of the files when their headers were checked, so that a search for duplicates
            reads no file again that has not changed.

    Raises:
        ArgumentError: ``labels``, ``paths`` and ``splits`` differ in length.
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
    root: Path | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False)
    renamed: dict[str, str] = field(default_factory=dict, repr=False)
    states: FileStates | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.paths) == len(self.splits):
            lengths = f"{len(self.labels)}, {len(self.paths)} and {len(self.splits)}"
            raise ArgumentError(f"`labels`, `paths` and `splits` must have the same length; got {lengths}")
        self.labels.setflags(write=False)
        self.splits.setflags(write=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        splits = ", ".join(f"{int((self.splits == split).sum()):,} {split}" for split in SPLITS)
        quarantined = f", {len(self.quarantined):,} quarantined" if self.quarantined else ""
        return f"ImageDataset({self.name!r}, {plural(len(self.classes), 'class', 'classes')}, {splits}{quarantined})"

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """The image as RGB, uint8 ``(H, W, 3)``; the array is a copy.

        Raises:
            DatasetError: the file cannot be decoded; names the index and the path.
            IndexError: the index is out of range.
        """
        i = operator.index(index)
        i += len(self) if i < 0 else 0
        if not 0 <= i < len(self):
            raise IndexError(f"`index` {index} is outside the {plural(len(self), 'image')}")
        try:
            return self._decoded(i)
        except UnreadableImage as error:
            raise DatasetError(f"image {i} ({self.paths[i]!r}): {error}") from error

    def file(self, index: int) -> str | None:
        """Absolute path of the image file; None for the embedded digits. Reports show ``paths`` instead."""
        if self.root is None:
            return None
        path = self.paths[index]
        return f"{self._folder}/{self.renamed.get(path, path) if self.renamed else path}"

    def thumbnail(self, path: str, size: int) -> NDArray[np.uint8]:
        """The image, or quarantined file, with this path as RGB, uint8 ``(h, w, 3)`` with h and w at most ``size``.

        Raises:
            DatasetError: there is no such file in the dataset's folder, or it cannot be decoded.
        """
        if self.root is not None:
            return ImageFiles(self.name, self.root).thumbnail(self.renamed.get(path, path), size)
        if self.pixels is None or path not in self._rows_by_path:
            raise DatasetError(f"{path!r:.200} is not an image of {self.name!r}")
        from PIL import Image

        return scaled_down(Image.fromarray(self.pixels[self._rows_by_path[path]]), size)

    @cached_property
    def _rows_by_path(self) -> dict[str, int]:
        return {path: i for i, path in enumerate(self.paths)}

    @cached_property
    def _folder(self) -> str:
        return str(self.root)

    @property
    def num_files(self) -> int:
        """Number of files found: images of the dataset, quarantined files and ignored files."""
        return len(self) + len(self.quarantined) + self.num_ignored

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of classes, paths, labels and splits; it does not depend on the place of the folder."""
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        for start in range(0, len(self), _BLOCK):
            rows = slice(start, start + _BLOCK)
            images = zip(self.paths[rows], self.labels[rows].tolist(), self.splits[rows].tolist(), strict=True)
            block = "".join([f"\0\0{path}\0{label}\0{split}" for path, label, split in images])
            digest.update(block.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def subset(self, split: Split) -> ImageDataset:
        """The images of one split, in order, with the quarantined files of that split; all classes are kept."""
        checked_choice("split", split, SPLITS)
        kept = self._rows(np.flatnonzero(self.splits == split))
        kept.quarantined = tuple(item for item in self.quarantined if item.split == split)
        kept.num_ignored = 0
        return kept

    def counts(self, split: Split = "train") -> ClassCounts:
        """Number of images per class in one split."""
        labels = self.labels[self.splits == checked_choice("split", split, SPLITS)]
        return ClassCounts(np.bincount(labels, minlength=len(self.classes)), self.classes)

    def verify(self, *, workers: int | None = None, progress: Callable[[int], object] | None = None) -> dict[int, str]:
        """Decode every image once; return ``{index: reason}`` of those that cannot be decoded.

        Args:
            workers: number of threads. None means one thread per core, at most 8, for large files, and one thread for
                small files, where several threads would mainly wait for each other.
            progress: called with the number of images decoded so far.
        """
        from concurrent.futures import ThreadPoolExecutor

        faults: dict[int, str] = {}
        chunks = [range(start, min(start + _CHUNK, len(self))) for start in range(0, len(self), _CHUNK)]
        with ThreadPoolExecutor(workers or self._workers()) as pool:
            for chunk, found in zip(chunks, pool.map(self._faults, chunks), strict=True):
                faults |= found
                if progress is not None:
                    progress(chunk.stop)
        return faults

    def quarantine(self, faults: Mapping[int, str]) -> ImageDataset:
        """The dataset without these images, which are added to ``quarantined``; the splits do not change.

        Args:
            faults: ``{index: reason}``, as `verify` returns it.
        """
        moved = tuple(
            Quarantined(self.paths[i], faults[i], self.classes[self.labels[i]], str(self.splits[i]))
            for i in sorted(faults)
        )
        kept = self._rows(np.delete(np.arange(len(self)), list(faults)))
        kept.quarantined = tuple(sorted((*self.quarantined, *moved), key=lambda item: item.path))
        return kept

    def without_unreadable(
        self, *, workers: int | None = None, progress: Callable[[int], object] | None = None
    ) -> ImageDataset:
        """The dataset without the images that cannot be decoded; arguments as in `verify`."""
        faults = self.verify(workers=workers, progress=progress)
        return self.quarantine(faults) if faults else self

    def to_dict(self) -> dict[str, Any]:
        """How the dataset was made, for the record of a run; it has no absolute path."""
        return {
            "name": self.name,
            **self.origin,
            "symmetries": sorted(self.symmetries),
            "num_classes": len(self.classes),
            "splits": {split: int((self.splits == split).sum()) for split in SPLITS},
            "num_files": self.num_files,
            "num_quarantined": len(self.quarantined),
            "num_ignored": self.num_ignored,
            "quarantined_by_split": dict(sorted(Counter(item.split or "" for item in self.quarantined).items())),
            "fingerprint": self.fingerprint,
        }

    def _decoded(self, i: int) -> NDArray[np.uint8]:
        if self.pixels is not None:
            image: NDArray[np.uint8] = self.pixels[i].copy()
            return image
        return read_image(self.file(i) or "")

    def _workers(self) -> int:
        """Number of threads: decoding releases the interpreter, and takes long enough only for large files."""
        sizes = []
        for i in range(0, len(self), len(self) // 32 + 1):
            with contextlib.suppress(OSError):
                sizes.append(os.stat(self.file(i) or "").st_size)  # noqa: PTH116 - the file is a string
        large = sizes and sum(sizes) / len(sizes) > _LARGE_FILE
        return min(8, os.cpu_count() or 1) if large else 1

    def _faults(self, rows: Iterable[int]) -> dict[int, str]:
        faults = {}
        for i in rows:
            try:
                self._decoded(i)
            except UnreadableImage as error:
                faults[i] = str(error)
        return faults

    def _rows(self, rows: NDArray[np.intp]) -> ImageDataset:
        return replace(
            self,
            labels=self.labels[rows],
            paths=tuple(self.paths[i] for i in rows.tolist()),
            splits=self.splits[rows],
            pixels=None if self.pixels is None else self.pixels[rows],
            states=None if self.states is None else self.states[rows],
        )


@dataclass
class Listing:
    """The image files that a reader found, before their headers are checked and missing splits are drawn.

    ``paths`` are as on disk, relative to ``root``. ``labels`` are indices into ``classes``. ``splits`` are indices into
    `SPLITS`, or `NO_SPLIT` where the source has none. ``lines`` are the lines (or rows: ``unit``) of a manifest.
    """

    kind: str
    root: Path
    source: str
    classes: tuple[str, ...]
    paths: list[str] | pl.Series
    labels: NDArray[np.int32]
    splits: NDArray[np.int8]
    quarantined: list[Quarantined] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    num_ignored: int = 0
    lines: Sequence[int] | NDArray[np.int64] = ()
    unit: str = "line"


def merge_class_names(names: Iterable[str]) -> tuple[dict[str, str], tuple[Finding, ...]]:
    """Map each name in the source to the name of its class; the findings list the names that were merged.

    Names that differ only in their Unicode normal form look the same (a folder copied by macOS has NFD names): they
    are one class, named in NFC. Every other name stays as it is.
    """
    spellings: dict[str, set[str]] = defaultdict(set)
    for name in names:
        spellings[unicodedata.normalize("NFC", display_name(name))].add(name)
    class_of: dict[str, str] = {}
    findings = []
    for normal, group in sorted(spellings.items()):
        class_of.update({name: normal if len(group) > 1 else display_name(name) for name in group})
        if len(group) > 1:
            reason = f"The {len(group)} Unicode forms of the class name {normal!r} count as one class. Use one of them."
            findings.append(Finding("class-names-merged", "warning", reason, (normal,)))
    return class_of, tuple(findings)
