"""Read .npz files of plain arrays: nothing is pickled, and no array is much larger than its file explains."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Collection
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_ALWAYS_READ = 1 << 26
_MAX_COMPRESSION = 200
_MOST_NAMED = 1 << 20
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_arrays(file: BinaryIO, size: int, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """The arrays with these names in an .npz file of ``size`` bytes; others are not read, and any may be missing.

    Damaged bytes make zipfile and NumPy raise errors of many types: the caller turns each into one that names the file.
    """
    with zipfile.ZipFile(file) as archive:
        wanted = {f"{name}.npy" for name in names}
        members = [info for info in archive.infolist() if info.filename in wanted]
        twice = [name for name, n in Counter(info.filename for info in members).items() if n > 1]
        if twice:
            raise ValueError(f"it has {twice[0]} twice")
        return {info.filename.removesuffix(".npy"): _read_array(archive, info, size) for info in members}


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> NDArray[Any]:
    """One array, if its header states as many bytes as it has, and no more than compression explains."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others are not decompressed in parts
        raise ValueError(f"{info.filename} is not compressed as NumPy does; save it with numpy.savez_compressed")
    if info.file_size > max(_ALWAYS_READ, _MAX_COMPRESSION * min(info.compress_size, size)):
        raise ValueError(f"{info.filename} has {info.file_size:,} bytes, far more than the file; save it uncompressed")
    with archive.open(info) as file:
        shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        stated = file.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise ValueError(f"{info.filename} has Python objects, which are not read; save numbers and strings")
    # An array without elements may state any length in its other dimension.
    if stated != info.file_size or max((0, *shape)) > max(_MOST_NAMED, info.file_size):
        raise ValueError(f"{info.filename} states {stated:,} bytes of shape {shape}, and has {info.file_size:,}")
    with archive.open(info) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array
