"""Worker processes that do not run the caller's script again and end with it, and the number of cores for them."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Any, TypeVar, cast

T = TypeVar("T")


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _without_main(), _without_interrupts():
            return SpawnProcess._Popen(process_obj)


@contextmanager
def workers(
    number: int,
    *,
    initializer: Callable[..., Any] | None = None,
    arguments: tuple[Any, ...] = (),
    listener: Callable[[Any], None] | None = None,
) -> Iterator[Workers]:
    """Start a pool of spawned processes; they are terminated at once if the block raises.

    Spawned processes of the standard library import the caller's script: without ``if __name__ == "__main__"`` the
    script starts workers of its own, and a script read from a pipe is not found. These processes get only functions of
    this package, so they skip that import.

    Args:
        number: number of processes, at least 1.
        initializer: function called in each process with ``arguments``.
        arguments: arguments of the initializer.
        listener: function called in this process with each message that a process passes to `report`.
    """
    pool = Workers(number, initializer, arguments, listener)
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def available_cores() -> int:
    """Number of cores that this process may use, which a scheduler or a container can limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers(Executor):
    """Processes that call functions, each connected to this one by a pipe of its own.

    The queues of a ProcessPoolExecutor have named semaphores; if this process is killed, they remain, and Python warns
    about them. Pipes end with the process. A process that is killed loses only its own task, whose future raises
    BrokenProcessPool; another process takes its place.
    """

    def __init__(
        self,
        number: int,
        initializer: Callable[..., Any] | None,
        arguments: tuple[Any, ...],
        listener: Callable[[Any], None] | None,
    ) -> None:
        self._initializer, self._arguments, self._listener = initializer, arguments, listener
        self._threads = ThreadPoolExecutor(number)
        self._lock = threading.Lock()
        self._is_closed = False
        self._pipes: dict[SpawnProcess, Connection[Any, Any]] = {}
        self._idle: queue.SimpleQueue[SpawnProcess | None] = queue.SimpleQueue()
        for _ in range(number):
            self._idle.put(None)  # a process starts with its first task

    @property
    def process_ids(self) -> list[int]:
        """The ids of the processes that have started."""
        return [process.pid for process in self._pipes if process.pid is not None]

    def submit(self, function: Callable[..., T], /, *arguments: Any, **options: Any) -> Future[T]:
        """Call a function in the next process that is free; function, arguments and result are pickled."""
        return self._threads.submit(self._call, function, arguments, options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: after all tasks, or at once with ``cancel_futures``."""
        if cancel_futures:
            with self._lock:
                self._is_closed = True
                for process in self._pipes:
                    process.terminate()
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for process in list(self._pipes):
            self._end(process)

    def _call(self, function: Callable[..., T], arguments: tuple[Any, ...], options: dict[str, Any]) -> T:
        """Call a function in a process; runs in a thread of this process."""
        process, is_answered = self._idle.get(), False
        try:
            process = process or self._start()
            result, error = self._answer(process, (function, arguments, options))
            is_answered = True
        except (EOFError, ConnectionError) as error:
            raise BrokenProcessPool("the process of this task was killed") from error
        finally:
            if process is not None and not is_answered:
                process.terminate()
                self._end(process)
            self._idle.put(process if is_answered else None)
        if error is not None:
            raise error
        return cast("T", result)

    def _answer(self, process: SpawnProcess, task: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
        """Send a task to a process, and pass its messages to the listener until its answer arrives."""
        pipe = self._pipes[process]
        pipe.send(task)
        while True:
            kind, value = pipe.recv()
            if kind != "message":
                return (value, None) if kind == "result" else (None, value)
            with self._lock:
                if self._listener is not None:
                    self._listener(value)

    def _start(self) -> SpawnProcess:
        ours, theirs = multiprocessing.Pipe()
        process = _Process(target=_serve, args=(theirs, self._initializer, self._arguments))
        with self._lock, theirs:
            if self._is_closed:
                raise BrokenProcessPool("the processes were ended")
            process.start()
            self._pipes[process] = ours
        return process

    def _end(self, process: SpawnProcess) -> None:
        """Close the pipe of a process, on which it ends, and wait for it."""
        self._pipes.pop(process).close()
        process.join()


_to_parent: list[Connection[Any, Any]] = []
"""In a worker process: its pipe."""


def report(message: Any) -> None:
    """In a worker process, send a message to the listener of the pool."""
    _to_parent[0].send(("message", message))


def _serve(pipe: Connection[Any, Any], initializer: Callable[..., Any] | None, arguments: tuple[Any, ...]) -> None:
    """Call the functions that arrive, until the pipe is closed."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _to_parent.append(pipe)
    if initializer is not None:
        initializer(*arguments)
    while True:
        try:
            function, positional, options = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("result", function(*positional, **options))
        except Exception as error:
            answer = ("error", error)
        pipe.send(answer)


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
    resource_tracker.ensure_running()  # when it starts, it unblocks the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
