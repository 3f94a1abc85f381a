"""Write files whole or not at all, read and write JSON, and check and lock output folders."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from counterpoise.core.errors import ArtifactError, WriteError

LOCK = ".lock"
"""Name of the lock file in an output folder; it exists only while a process is writing there."""

_CHUNK = 1 << 16
_MAX_JSON = 2**30
_LONG_LIST = 100
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode

NEW = ".counterpoise-new"
"""Name of the sub folder of an output folder for files that will replace those above it."""

_MOVING = "moving.json"

READ_FLAGS = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
"""For `os.open`: never block on a FIFO, never follow a link; Windows has neither flag, but needs O_BINARY."""


_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space on this disk, or write to another folder"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check the permissions, or write to another folder"),
}


@contextlib.contextmanager
def writing(target: object) -> Iterator[None]:
    """Raise an OSError of the block as a `WriteError` that names ``target`` and says what to do."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        advice = _ADVICE.get(getattr(error, "errno", None) or 0, "write to another folder")
        raise WriteError(f"cannot write to {target}: {getattr(error, 'strerror', None) or error}; {advice}") from error


@contextlib.contextmanager
def reading(source: object) -> Iterator[None]:
    """Raise an OSError of the block as an `ArtifactError` that names ``source``."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{source} cannot be read: {error.strerror or error}; check its permissions") from error


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path``, and rename it to ``path`` when the block ends without an error.

    A reader sees the old file or the new one, never a part of it. After an error the old file is unchanged and the
    temporary file is removed.

    Raises:
        WriteError: the file cannot be written (disk full, read-only, no permission).
    """
    target = Path(path)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        with writing(target):
            raise


def content_digest(file: BinaryIO) -> bytes:
    """SHA-256 of what is left to read in an open file."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.digest()


def path_exists(path: str | os.PathLike[str]) -> bool:
    """Whether a path exists; `Path.exists` raises OSError for a name that is too long.

    Raises:
        ArtifactError: the folder of the path may not be entered.
    """
    try:
        Path(path).stat()
    except PermissionError:
        with reading(path):
            raise
    except (OSError, ValueError):  # ValueError for a NUL character
        return False
    return True


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
    """Write a JSON file in UTF-8, with null for NaN and infinity, and long lists of numbers or strings on one line."""
    text = _json_text(_finite(value))
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace") + b"\n")


def _json_text(value: Any, indent: str = "\n") -> str:
    """As `json.dumps` with ``indent=1``, except for long lists."""
    is_list, inner = isinstance(value, list), indent + " "
    if not value or not (is_list or isinstance(value, dict)):
        return _encode(value)
    if not is_list:
        items = [f"{_encode(str(key))}: {_json_text(item, inner)}" for key, item in value.items()]
        return f"{{{inner}{f',{inner}'.join(items)}{indent}}}"
    if len(value) > _LONG_LIST and not any(isinstance(item, dict | list) for item in value):
        return _encode(value)
    return f"[{inner}{f',{inner}'.join(_json_text(item, inner) for item in value)}{indent}]"


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; raises `ArtifactError` with its path if it is missing or damaged, or repeats a key."""
    try:
        with Path(path).open("rb") as file:
            if os.fstat(file.fileno()).st_size > _MAX_JSON:
                raise ValueError(f"it has more than {_MAX_JSON:,} bytes")
            text = file.read().decode("utf-8")
        return json.loads(text, object_pairs_hook=distinct_keys, parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"{path} cannot be read as JSON: {reason}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number; write null or a number")


def distinct_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The mapping of these pairs; a parser alone would keep the last value of a repeated key."""
    found = dict(pairs)
    if len(found) < len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it has the key {key!r} twice; keep one of them")
    return found


def claim(path: str | Path, *, resume: bool | None = False, overwrite: bool | None = False) -> Path:
    """Return an output folder that may be written to; nothing is written yet.

    Args:
        path: a new or empty folder; one with files needs ``resume`` or ``overwrite``.
        resume: continue the work in the folder; None if the caller does not offer that.
        overwrite: start again in the folder; None likewise.

    Raises:
        ArtifactError: the path is a file, or the folder has files and neither ``resume`` nor ``overwrite`` is set.
        WriteError: the folder, or the one to make it in, may not be written to.
    """
    folder = Path(path)
    if resume and overwrite:
        raise ArtifactError("`resume` and `overwrite` exclude each other; pass one of them")
    exists = os.path.exists(folder)  # noqa: PTH110 - `Path.exists` raises OSError for a name that is too long
    if exists and not folder.is_dir():
        raise ArtifactError(f"`out` {folder} is a file; name a folder")
    with reading(f"`out` {folder}"):
        existing = sorted(p.name for p in folder.iterdir() if p.name != LOCK) if exists else []
    if existing and not (resume or overwrite):
        offers = {"`resume` to continue (--resume)": resume, "`overwrite` to start again (--overwrite)": overwrite}
        offered = " or ".join(offer for offer, value in offers.items() if value is not None)
        raise ArtifactError(
            f"`out` {folder} holds other files ({', '.join(existing[:3])}{', …' if len(existing) > 3 else ''}); "
            "name a new folder" + (f", or set {offered}" if offered else "")
        )
    with writing(f"`out` {folder}"):
        _check_permission(folder)
    return folder


def _check_permission(folder: Path) -> None:
    """Raise OSError if a folder may not be written to, or cannot be made; without this, it is known after long work."""
    for path in (folder, *folder.absolute().parents):
        try:
            path.stat()
        except FileNotFoundError:
            if path.is_symlink():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            continue
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return


@contextlib.contextmanager
def claimed(path: str | Path, *, resume: bool | None = False, overwrite: bool | None = False) -> Iterator[Path]:
    """Claim and lock an output folder; arguments and errors are those of `claim` and `locked`."""
    folder = claim(path, resume=resume, overwrite=overwrite)
    with locked(folder):
        # Again, because until the lock was taken another process may have written here.
        claim(path, resume=resume, overwrite=overwrite)
        yield folder


@contextlib.contextmanager
def output_folder(
    path: str | Path, patterns: Sequence[str], *, resume: bool | None = False, overwrite: bool = False
) -> Iterator[Path]:
    """Claim and lock an output folder, and yield the folder to write to.

    The files written replace those of an earlier run when the block ends without an error.

    Args:
        path, resume, overwrite: as in `claim`.
        patterns: globs of all files that may be written there; other files stay.
    """
    with claimed(path, resume=resume, overwrite=overwrite) as folder:
        yield _writing_folder(folder, patterns, overwrite=overwrite)
        replace_files(folder, patterns)


def _writing_folder(folder: Path, patterns: Sequence[str], *, overwrite: bool) -> Path:
    """The folder to write to: ``folder``, or its sub folder `NEW`, whose files replace those above when it is done.

    What an interruption left is settled first: a replacement that had begun is completed, and temporary files of
    `atomic_write` are removed. The caller holds the lock of ``folder``.

    ``overwrite`` begins a new sub folder if there are files to replace; without it, one that exists is continued.
    """
    new = folder / NEW
    with writing(f"`out` {folder}"):
        if (new / _MOVING).exists():
            replace_files(folder, patterns)
        temporary = [Path(p).with_name(f".{Path(p).name}.????????.tmp").as_posix() for p in patterns]
        for file in (file for start in (folder, new) for pattern in temporary for file in start.glob(pattern)):
            file.unlink()
        if overwrite:
            if new.exists():
                shutil.rmtree(new)
            if _matching(folder, patterns):
                new.mkdir()
    return new if path_exists(new) else folder


def replace_files(folder: Path, patterns: Sequence[str]) -> None:
    """Move the files that match from the sub folder `NEW`, if there is one, to ``folder``, in place of those there."""
    new, record = folder / NEW, folder / NEW / _MOVING
    if not path_exists(new):
        return
    with writing(f"`out` {folder}"):
        if not record.exists():
            write_json(record, sorted(_matching(new, patterns)))
        names, old, waiting = read_json(record), _matching(folder, patterns), _matching(new, patterns)
        if not isinstance(names, list) or not all(isinstance(n, str) and n in old | waiting for n in names):
            raise ArtifactError(f"{record} is damaged: it must list files of {folder}; delete {new} and start again")
        for name in (name for name in names if name in waiting):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).replace(folder / name)
        # Last, because until it is replaced, an old JSON file needs the file of arrays that it names.
        for name in old - set(names):
            (folder / name).unlink()
        shutil.rmtree(new)


def _matching(folder: Path, patterns: Sequence[str]) -> set[str]:
    return {file.relative_to(folder).as_posix() for pattern in patterns for file in folder.glob(pattern)}


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock an output folder for this process; the system releases the lock however the process ends.

    Raises:
        ArtifactError: another process is writing to the folder.
        WriteError: the folder cannot be made or locked.
    """
    from filelock import FileLock, Timeout

    with writing(f"`out` {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            reason = f"another process is writing to {folder}; wait for it, or name another folder"
            raise ArtifactError(reason) from error
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
