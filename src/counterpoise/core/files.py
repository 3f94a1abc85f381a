"""Files of ours: written whole or not at all, in a folder that is ours to write in."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from counterpoise.core.errors import ArtifactError

__all__ = ["LOCK", "READ_FLAGS", "atomic_write", "claim", "display_name", "locked", "read_json", "write_json"]

LOCK = ".lock"
"""Name of the lock file in an output folder; it exists only while a process is writing there."""

READ_FLAGS = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
"""For `os.open`: never block on a FIFO, never follow a link; Windows has neither flag, but needs O_BINARY."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` and move it there when the block ends without an error.

    A reader sees the old file or the new one, never a part; after a failure the old file is intact
    and the temporary one is gone.

    Raises:
        ArtifactError: the disk refused (full, read-only, no permission).
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    except OSError as error:
        raise ArtifactError(f"cannot write {target}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        if isinstance(error, OSError):
            raise ArtifactError(f"cannot write {target}: {error.strerror or error}") from error
        raise


def display_name(name: str) -> str:
    """A file name as valid Unicode: bytes that are not UTF-8 become ``\\xff``, so that it can be printed and saved."""
    if name.isascii():
        return name
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    return name


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON that every parser reads: UTF-8, NaN and infinity as null."""
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace") + b"\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file of ours; a missing or damaged one is named in an `ArtifactError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read as JSON: {error}") from error


def claim(path: str | Path, *, resume: bool = False, overwrite: bool | None = False) -> Path:
    """Make an output folder ours, or raise `ArtifactError` before anything is written.

    A new or empty folder is fine; one with files needs ``resume`` (and files of ours) or ``overwrite``, which is None
    where starting again is not offered.
    """
    folder = Path(path)
    if resume and overwrite:
        raise ArtifactError("`resume` and `overwrite` exclude each other: go on, or start again?")
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(f"`out` {folder} is a file; name a folder")
    others = sorted(p.name for p in folder.iterdir() if p.name != LOCK) if folder.exists() else []
    if others and not (resume or overwrite):
        raise ArtifactError(
            f"`out` {folder} holds other files ({', '.join(others[:3])}{', …' if len(others) > 3 else ''}); "
            "name a new folder, or give `resume` to go on "
            + ("(--resume)" if overwrite is None else "or `overwrite` to start again (--resume, --overwrite)")
        )
    return folder


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock an output folder for this process; the system releases the lock however the process ends.

    Raises:
        ArtifactError: another process is writing to the folder, or the folder cannot be made.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ArtifactError(f"another process is writing to {folder}; wait for it, or name another folder") from error
    except (OSError, NotImplementedError) as error:
        raise ArtifactError(f"cannot write to `out` {folder}: {getattr(error, 'strerror', None) or error}") from error
    try:
        yield
    finally:
        # On POSIX the file goes before the lock does, so that no other process locks a file that is then removed;
        # Windows refuses to remove an open file, and filelock removes it there.
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
        lock.release()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
