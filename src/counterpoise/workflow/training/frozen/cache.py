"""`FeatureStore`: the features of images by the digest of their content, kept in memory or in files."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArtifactError
from counterpoise.core.files import atomic_write, path_exists, reading, write_json
from counterpoise.core.images import NO_DIGEST

_FORMAT = 1
_RECORD = "features.json"
_ROWS_PER_PART = 1024
_SECONDS_PER_PART = 30.0
_ABANDONED = 24 * 3600.0
_NAME_DIGITS = 40


class FeatureStore:
    """Features of images by the SHA-256 of their content, computed in one way.

    In a folder, features are saved in parts: one .npy file for up to 1,024 images, written atomically. Its name has the
    checksum of its content, so processes that write to one folder at the same time do not disturb each other, and
    damage is noticed: the images of a damaged part are then missing again. Parts are read as memory maps.

    Args:
        folder: where the folders of all stores are; None keeps the features in memory.
        description: what determines the features besides the images, JSON-compatible. A store of another description
            has another folder.
    """

    def __init__(self, folder: Path | None, description: dict[str, Any]) -> None:
        text = json.dumps({"format": _FORMAT, **description}, sort_keys=True)
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = None if folder is None else folder / self.key
        self._description = description
        self._parts: list[NDArray[Any]] = []
        self._place: dict[bytes, tuple[int, int]] = {}
        self._waiting: dict[bytes, NDArray[np.float32]] = {}
        self._last_write = time.monotonic()
        if self.folder is not None and path_exists(self.folder):
            self._read_parts(self.folder)

    def __len__(self) -> int:
        return len(self._place) + len(self._waiting)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._place or digest in self._waiting

    def prepare(self) -> None:
        """Make the folder and record the description in it, before any work; raises `WriteError`."""
        if self.folder is not None and not path_exists(self.folder / _RECORD):
            write_json(self.folder / _RECORD, {"format": _FORMAT, **self._description})

    def add(self, digest: bytes, features: NDArray[np.float32]) -> None:
        """Add the features ``(D,)`` of an image, and write a part if there are enough or the last is some time ago.

        Raises:
            WriteError: the disk is full, or the folder may not be written to. The parts written before stay valid.
        """
        self._waiting[digest] = features
        is_due = self.folder is not None and time.monotonic() - self._last_write > _SECONDS_PER_PART
        if is_due or len(self._waiting) >= _ROWS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Write a part with the features that are in none yet; raises `WriteError` as `add`."""
        if not self._waiting:
            return
        part = _part(self._waiting)
        if self.folder is not None:
            self._write(part)
        self._use(part)
        self._waiting = {}
        self._last_write = time.monotonic()

    def gather(self, digests: Sequence[bytes]) -> NDArray[Any]:
        """The features of images ``(N, D)``, each of which the store contains; float16 if all of them fit."""
        self.flush()
        places = np.array([self._place[digest] for digest in digests], dtype=np.int64).reshape(len(digests), 2)
        used = [self._parts[number]["features"] for number in np.unique(places[:, 0]).tolist()]
        width = self._parts[0]["features"].shape[1] if self._parts else 0
        found = np.empty((len(digests), width), dtype=np.result_type(np.float16, *used))
        for number in np.unique(places[:, 0]).tolist():
            rows = places[:, 0] == number
            found[rows] = self._parts[number]["features"][places[rows, 1]]
        return found

    def _use(self, part: NDArray[Any]) -> None:
        number = len(self._parts)
        self._parts.append(part)
        for row, digest in enumerate(part["digest"]):
            self._place.setdefault(digest.tobytes(), (number, row))

    def _write(self, part: NDArray[Any]) -> None:
        assert self.folder is not None, "called for a store in a folder only"
        content = io.BytesIO()
        np.save(content, part, allow_pickle=False)
        name = f"part-{self._checksum(content.getbuffer())}.npy"
        with atomic_write(self.folder / name) as file:
            file.write(content.getbuffer())

    def _checksum(self, content: Any) -> str:
        digest = hashlib.sha256(self.key.encode())
        digest.update(content)
        return digest.hexdigest()[:_NAME_DIGITS]

    def _read_parts(self, folder: Path) -> None:
        with reading(f"`cache` {folder}"):
            files = sorted(folder.glob("part-*.npy"))
            abandoned = [file for file in folder.glob(".*.tmp") if time.time() - file.stat().st_mtime > _ABANDONED]
        for file in abandoned:
            with contextlib.suppress(OSError):
                file.unlink()
        for file in files:
            try:
                self._use(self._read(file))
            except (OSError, ValueError, ArtifactError) as error:
                warnings.warn(
                    f"{file} is damaged ({getattr(error, 'strerror', None) or error}): the features of its images are "
                    "computed again; check the disk",
                    UserWarning,
                    stacklevel=4,
                )
                with contextlib.suppress(OSError):
                    file.unlink()

    def _read(self, file: Path) -> NDArray[Any]:
        content = np.memmap(file, dtype=np.uint8, mode="r")
        if file.stem.removeprefix("part-") != self._checksum(content):
            raise ValueError("its content does not have the checksum in its name")
        part: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
        return part


def _part(rows: dict[bytes, NDArray[np.float32]]) -> NDArray[Any]:
    """Digests and features as one structured array; the features as float16 if all of them fit."""
    features = np.stack(list(rows.values()))
    with np.errstate(over="ignore"):
        half = features.astype(np.float16)
    if np.isfinite(half).all():
        features = half  # type: ignore[assignment]
    kind = [("digest", np.uint8, len(NO_DIGEST)), ("features", features.dtype, features.shape[1])]
    part = np.empty(len(rows), dtype=kind)
    part["digest"] = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)
    part["features"] = features
    return part
