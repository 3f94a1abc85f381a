"""ImageDataset: what `load` returns."""

from __future__ import annotations

import contextlib
import hashlib
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Finding, Quarantined
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, DatasetError
from counterpoise.core.images import SPLITS, Split, Symmetry
from counterpoise.workflow.dataset.header import UnreadableImage

__all__ = ["ImageDataset"]

_CHUNK = 8
_LARGE_FILE = 20_000


@dataclass(eq=False)
class ImageDataset:
    """Images with one class each, in splits; a `LabeledImages`. Images are decoded when asked for.

    ``dataset[i]`` is RGB, uint8 ``(H, W, 3)``, upright as its EXIF orientation says; greys are repeated, transparency
    is dropped, 16-bit grey is scaled to 8 bits (see `decoding.to_rgb`).

    Attributes:
        name, classes, labels, paths, splits, symmetries: see `LabeledImages`. ``paths`` are valid Unicode always;
            bytes of a file name that are not UTF-8 are shown as ``\\xff``.
        quarantined: the files that were left out, each with its reason.
        findings: what a reader should know about how the dataset was made.
        num_ignored: files that are no images by their name (hidden files, ``Thumbs.db``, text …).
        root: the folder that ``paths`` are relative to; None for the embedded digits.
        origin: how the dataset was made (kind, source, seed …), for the record.
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

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.paths) == len(self.splits):
            raise ArgumentError(
                f"`labels`, `paths` and `splits` must be equally long; got {len(self.labels)}, {len(self.paths)} and "
                f"{len(self.splits)}"
            )
        self.labels.setflags(write=False)
        self.splits.setflags(write=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        splits = ", ".join(f"{int((self.splits == split).sum()):,} {split}" for split in SPLITS)
        left = f", {len(self.quarantined):,} quarantined" if self.quarantined else ""
        return f"ImageDataset({self.name!r}, {len(self.classes):,} classes, {splits}{left})"

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """The image as RGB, uint8 ``(H, W, 3)``; a copy of its own.

        Raises:
            DatasetError: the file cannot be decoded (any more); names the index and the path.
            IndexError: there is no such image.
        """
        i = operator.index(index)
        i += len(self) if i < 0 else 0
        if not 0 <= i < len(self):
            raise IndexError(f"`index` {index} is outside the {len(self)} images")
        try:
            return self._decoded(i)
        except UnreadableImage as error:
            raise DatasetError(f"image {i} ({self.paths[i]!r}) {error}") from error

    def file(self, index: int) -> str | None:
        """Where the image is on this machine; None for an embedded one. Absolute: not for reports."""
        path = self.paths[index]
        return None if self.root is None else f"{self.root}/{self.renamed.get(path, path)}"

    @property
    def num_files(self) -> int:
        """Every file that was seen: those in the dataset, those quarantined, those ignored."""
        return len(self) + len(self.quarantined) + self.num_ignored

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over classes, paths, labels and splits: equal for equal data, wherever it lies."""
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        for path, label, split in zip(self.paths, self.labels.tolist(), self.splits.tolist(), strict=True):
            digest.update(f"\0\0{path}\0{label}\0{split}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def subset(self, split: Split) -> ImageDataset:
        """The images of one split, in order, with the quarantined ones of that split; all classes stay."""
        if split not in SPLITS:
            raise ArgumentError(f"`split` must be one of {list(SPLITS)}; got {split!r}")
        kept = self._rows(np.flatnonzero(self.splits == split))
        kept.quarantined = tuple(item for item in self.quarantined if item.split == split)
        kept.num_ignored = 0
        return kept

    def counts(self, split: Split = "train") -> ClassCounts:
        """Images per class in one split."""
        if split not in SPLITS:
            raise ArgumentError(f"`split` must be one of {list(SPLITS)}; got {split!r}")
        here = self.labels[self.splits == split]
        return ClassCounts(np.bincount(here, minlength=len(self.classes)), self.classes)

    def verify(self, *, workers: int | None = None, progress: Callable[[int], object] | None = None) -> dict[int, str]:
        """Decode every image once: ``{index: reason}`` for those that cannot be.

        Args:
            workers: threads; default: one a core, at most 8, for photos; one for files so small that threads would
                spend their time waiting for each other.
            progress: called with the number of images done so far, every now and then.
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
        """The dataset without these images, which join ``quarantined`` with their reasons; the splits stay.

        Args:
            faults: ``{index: reason}``, as `verify` returns it.
        """
        moved = tuple(
            Quarantined(self.paths[i], faults[i], self.classes[self.labels[i]], str(self.splits[i]))
            for i in sorted(faults)
        )
        kept = self._rows(np.setdiff1d(np.arange(len(self)), np.fromiter(faults, dtype=np.int64, count=len(faults))))
        kept.quarantined = tuple(sorted((*self.quarantined, *moved), key=lambda item: item.path))
        return kept

    def without_unreadable(
        self, *, workers: int | None = None, progress: Callable[[int], object] | None = None
    ) -> ImageDataset:
        """Decode every image once and leave out those that cannot be decoded: `verify`, then `quarantine`."""
        faults = self.verify(workers=workers, progress=progress)
        return self.quarantine(faults) if faults else self

    def to_dict(self) -> dict[str, Any]:
        """How the dataset was made, for the record of a run; no path outside the dataset."""
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
        from counterpoise.workflow.dataset.decoding import read_image

        return read_image(f"{self.root}/{self.renamed.get(self.paths[i], self.paths[i])}")

    def _workers(self) -> int:
        """Threads that pay: Pillow lets others run while it decodes, which takes long only in large files."""
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
        )
