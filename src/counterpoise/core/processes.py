"""Worker processes that do not import the caller's script, and live and end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

__all__ = ["workers"]


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _another_main(), _without_interrupts():
            return SpawnProcess._Popen(process_obj)


class _Context(SpawnContext):
    Process = _Process


@contextmanager
def workers(
    number: int, *, initializer: Callable[..., Any] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``number`` fresh processes; leaving with an error ends them at once.

    Python's own spawned workers run the caller's script again to find what is defined there: without an
    ``if __name__ == "__main__"`` it starts workers of its own, and a script read from a pipe is not found at all. Ours
    are sent only what this package defines, so they start without it.

    Args:
        number: of processes, at least 1.
        initializer: called in each with ``arguments``.
        arguments: of the initializer.
    """
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(number, _Context(), initializer=_begin, initargs=(initializer, arguments))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False)  # a cancelled future would be told of the broken pool as well, and complain
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown()


def _begin(initializer: Callable[..., Any] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _end_with_parent() -> None:
    """However the parent ends (kill -9, a scheduler's SIGTERM): nobody is left to write for, nor to keep memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _another_main() -> Iterator[None]:
    """While a process starts, there is no script to run again in it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process inherits which signals are blocked: only the parent hears Ctrl-C, and ends the others."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
