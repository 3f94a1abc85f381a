"""Files of arrays: .npz files of which nothing is pickled, and no array is much larger than the file explains."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import math
import os
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArtifactError
from counterpoise.core.files import atomic_write

_ALWAYS_READ = 1 << 26
_MAX_COMPRESSION = 200
_MOST_NAMED = 1 << 20
_MAX_FILE = 1 << 30
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_DIGITS = 12


@dataclass(frozen=True)
class ArrayFile:
    """What a JSON file says about the file of arrays beside it: its name and its SHA-256."""

    file: str
    sha256: str


def save_array_file(path: Path, arrays: Mapping[str, NDArray[Any]]) -> ArrayFile:
    """Write the arrays beside the JSON file ``path``, to a new file that has a part of its SHA-256 in its name."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    name = f"{path.stem}-arrays-{digest[:_DIGITS]}.npz"
    with atomic_write(path.with_name(name)) as file:
        file.write(content.getbuffer())
    return ArrayFile(name, digest)


def load_array_file(path: Path, stated: ArrayFile) -> dict[str, NDArray[Any]]:
    """The arrays beside the JSON file ``path``.

    Raises:
        ArtifactError: the file is missing, is not the one that was written with the JSON file, or cannot be read.
    """
    if Path(stated.file).name != stated.file or not stated.file.endswith(".npz"):
        raise ArtifactError(f"{path}: the file of arrays must be an .npz file beside it; got {stated.file!r:.80}")
    beside = path.parent / stated.file
    if not os.path.isfile(beside):  # noqa: PTH113
        raise ArtifactError(
            f"{beside} does not exist or is no file, and {path} needs its confusion matrices; copy it from the folder "
            f"in which {path.name} was written"
        )
    try:
        with beside.open("rb") as file:
            if os.fstat(file.fileno()).st_size > _MAX_FILE:
                raise ValueError(f"it has more than {_MAX_FILE:,} bytes")
            content = file.read()
        if hashlib.sha256(content).hexdigest() != stated.sha256:
            raise ValueError(
                f"it is damaged or was not written with {path.name}: its SHA-256 is not the one there; copy both files "
                "from the folder in which they were written"
            )
        return read_arrays(io.BytesIO(content), len(content))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"{beside} cannot be read for {path}: {reason}") from error


def remove_array_files(path: Path, *, keep: ArrayFile | None) -> None:
    """Remove the files of arrays of JSON files that ``path`` has replaced."""
    pattern = glob.escape(f"{path.stem}-arrays-") + "[0-9a-f]" * _DIGITS + ".npz"
    for file in path.parent.glob(pattern):
        if keep is None or file.name != keep.file:
            with contextlib.suppress(OSError):
                file.unlink()


def read_arrays(file: BinaryIO, size: int, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays with these names in an .npz file of ``size`` bytes, or all; any that is named may be missing.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or an array is pickled or much larger than the file explains.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            wanted = None if names is None else {f"{name}.npy" for name in names}
            members = [info for info in archive.infolist() if wanted is None or info.filename in wanted]
            twice = [name for name, n in Counter(info.filename for info in members).items() if n > 1]
            if twice:
                raise ValueError(f"it has {twice[0]} twice")
            if sum(info.file_size for info in members) > max(4 * _ALWAYS_READ, _MAX_COMPRESSION * size):
                raise ValueError("its arrays are far larger than the file; save them uncompressed")
            for info in archive.infolist():  # a damaged name would make an array that may be missing disappear
                archive.open(info).close()
            return {info.filename.removesuffix(".npy"): _read_array(archive, info, size) for info in members}
    except (OSError, ValueError):
        raise
    except Exception as error:  # damaged bytes make zipfile and NumPy raise anything: zlib.error, TokenError …
        raise ValueError(str(error) or type(error).__name__) from error


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
