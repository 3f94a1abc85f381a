"""Images with the same content: byte for byte on disk, pixel for pixel elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import TypeVar

from counterpoise.core.errors import DatasetError
from counterpoise.core.images import LabeledImages

__all__ = ["duplicates"]

Key = TypeVar("Key", bound=Hashable)
_CHUNK = 1 << 20
# A FIFO that took the place of the image must not block.
_FLAGS = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))


def duplicates(data: LabeledImages, among: Iterable[int] | None = None) -> list[list[int]]:
    """Groups of two and more images with equal content, by index. Files are read only where their sizes are equal.

    An image that cannot be read is in no group.

    Args:
        data: the images.
        among: the indices to look at; default: all.
    """
    sizes = {i: _size(data.file(i)) for i in (range(len(data)) if among is None else among)}
    suspects = [i for group in _groups(sizes.items()) for i in group]
    return sorted(_groups((i, _digest(data, i, data.file(i), sizes[i])) for i in suspects))


def _groups(keyed: Iterable[tuple[int, Key | None]]) -> list[list[int]]:
    """Indices with the same key, where two or more have it; None is no key."""
    groups: dict[Key, list[int]] = defaultdict(list)
    for i, key in keyed:
        if key is not None:
            groups[key].append(i)
    return [group for group in groups.values() if len(group) > 1]


def _size(file: str | None) -> int | None:
    if file is None:
        return -1  # not on disk: the pixels decide
    try:
        return os.stat(file, follow_symlinks=False).st_size  # noqa: PTH116 - once a file, pathlib takes twice as long
    except OSError:
        return None


def _digest(data: LabeledImages, i: int, file: str | None, size: int | None) -> bytes | None:
    try:
        if file is None:
            image = data[i]
            return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()
        return _digest_of_file(file, (size or 0) + 1)
    except (OSError, DatasetError):
        return None


def _digest_of_file(file: str, size: int) -> bytes:
    digest = hashlib.sha256()
    handle = os.open(file, _FLAGS)
    try:
        while chunk := os.read(handle, min(size, _CHUNK)):
            digest.update(chunk)
    finally:
        os.close(handle)
    return digest.digest()
