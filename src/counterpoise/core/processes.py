"""A pool of worker processes that do not run the caller's script again and end with the process that started them."""

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


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _without_main(), _without_interrupts():
            return SpawnProcess._Popen(process_obj)


class _Context(SpawnContext):
    Process = _Process


@contextmanager
def workers(
    number: int, *, initializer: Callable[..., Any] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Start a pool of spawned processes; they are terminated at once if the block raises.

    Spawned processes of the standard library import the caller's script: without ``if __name__ == "__main__"`` the
    script starts workers of its own, and a script read from a pipe is not found. These processes get only functions of
    this package, so they skip that import.

    Args:
        number: number of processes, at least 1.
        initializer: function called in each process with ``arguments``.
        arguments: arguments of the initializer.
    """
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(number, _Context(), initializer=_initialize, initargs=(initializer, arguments))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False)  # without cancel_futures: cancelled futures print errors when the pool breaks
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown()


def _initialize(initializer: Callable[..., Any] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _exit_with_parent() -> None:
    """Exit when the parent process has ended, for whatever reason (SIGKILL, SIGTERM of a scheduler)."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the caller's script while a process starts, so that the process does not import it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C in the processes started here, which inherit the blocked signals; the parent terminates them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
