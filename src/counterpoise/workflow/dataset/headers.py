"""Check the headers of the files of a dataset, in several processes where there are many files."""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial

from counterpoise.core.images import MISSING, NO_DIGEST, FileStates, time_of_change
from counterpoise.core.processes import available_cores, workers
from counterpoise.workflow.dataset.decoding import FORMATS, UnreadableImage, examine, extension_of

_CHUNK = 2048
# Starting the processes takes as long as checking about 30,000 files of a warm cache.
_FEWEST_FOR_PROCESSES = 60_000
_MOST_PROCESSES = 8


@dataclass
class Headers:
    """What the headers of N files say; all but ``states`` is about the rows that are not in ``faults``."""

    states: FileStates
    faults: dict[int, str] = field(default_factory=dict)
    other_formats: dict[int, str] = field(default_factory=dict)
    modes: Counter[str] = field(default_factory=Counter)


def check_headers(root: str, paths: Sequence[str]) -> Headers:
    """Check the header and the end of each file; ``paths`` are relative to ``root``.

    ``faults`` has the reason for each row that cannot be used, ``other_formats`` the format of each file whose
    extension stands for another one, and ``modes`` the number of files per colour mode. ``states`` has the SHA-256 of
    the files that were read whole, which are those of at most 16 KiB.
    """
    all_headers = Headers(FileStates.unknown(len(paths)))
    for start, headers in zip(range(0, len(paths), _CHUNK), _checked(root, paths), strict=True):
        all_headers.states[start : start + _CHUNK] = headers.states
        all_headers.faults |= {start + i: reason for i, reason in headers.faults.items()}
        all_headers.other_formats |= {start + i: format for i, format in headers.other_formats.items()}
        all_headers.modes.update(headers.modes)
    return all_headers


def _checked(root: str, paths: Sequence[str]) -> Iterator[Headers]:
    """The headers of one chunk of the files after another."""
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    check = partial(_check, root)
    done = 0
    cores = min(_MOST_PROCESSES, available_cores())
    if len(paths) >= _FEWEST_FOR_PROCESSES and cores > 1 and not multiprocessing.current_process().daemon:
        try:
            with workers(cores) as pool:
                for headers in pool.map(check, chunks):
                    done += 1
                    yield headers
        except (BrokenProcessPool, OSError):  # processes are not allowed here, or one was killed: check in this one
            pass
    yield from map(check, chunks[done:])


def _check(root: str, paths: Sequence[str]) -> Headers:
    """The headers of one chunk of the files, read in this process."""
    now = time.time_ns()
    headers = Headers(FileStates.unknown(0))
    modes: list[str] = []
    sizes, changed, digests = [], [], []
    for i, path in enumerate(paths):
        size, change, digest = MISSING, 0, NO_DIGEST
        try:
            header, status, head = examine(f"{root}/{path}")
        except UnreadableImage as error:
            headers.faults[i] = str(error)
        else:
            modes.append(header.mode)
            if FORMATS.get(extension_of(path), header.format) != header.format:
                headers.other_formats[i] = header.format
            size, change = status.st_size, time_of_change(status)
            if len(head) == size:
                digest = hashlib.sha256(head).digest()
        sizes.append(size)
        changed.append(change)
        digests.append(digest)
    headers.modes.update(modes)
    headers.states = FileStates.of(sizes, changed, digests, now)
    return headers
