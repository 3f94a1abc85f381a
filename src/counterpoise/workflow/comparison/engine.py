"""Execution of the runs of a comparison: one after another, or in parallel processes of this machine."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from counterpoise.core.artifacts import Run, Strategy
from counterpoise.core.errors import CounterpoiseError, WriteError
from counterpoise.core.processes import Workers, report, workers
from counterpoise.workflow.training import RunFolder, TrainingSetup, open_run, run_training, used_device
from counterpoise.workflow.training.run_folder import error_text

Progress = Callable[[str, int, int], None]
"""Called with a description of the running task, the steps done, and the number of all steps."""


@dataclass(frozen=True)
class Task:
    """One training: a strategy with a seed, its folder, and with folds the one that is held out."""

    strategy: Strategy
    seed: int
    folder: Path
    fold: int | None = None

    def __str__(self) -> str:
        return f"{self.strategy.name}, seed {self.seed}" + ("" if self.fold is None else f", fold {self.fold}")

    def setup(self, setup: TrainingSetup) -> TrainingSetup:
        """The setup of this training, given that of all."""
        return setup if self.fold is None else setup.fold(self.fold)


def run_tasks(setup: TrainingSetup, tasks: Sequence[Task], *, jobs: int, progress: Progress) -> list[Run]:
    """Do every task; a failure is recorded in the folder of its run.

    Args:
        setup: the data and the settings, shared by all tasks.
        tasks: the trainings.
        jobs: the number of tasks at the same time, at least 1; above 1 each runs in its own process with its share of
            the cores.
        progress: called after every step.
    """
    steps = _Steps(setup, tasks, progress)
    jobs = min(jobs, len(tasks))
    if jobs > 1 and (local := setup.settings.not_picklable()):
        warnings.warn(
            f"the runs are done one after another, because {local} cannot be sent to other processes; define it at the "
            "top level of a module that is imported, and not in the script itself or as a lambda",
            UserWarning,
            stacklevel=2,
        )
        jobs = 1
    if jobs <= 1:
        return [_attempt(setup, task, steps.of(i)) for i, task in enumerate(tasks)]
    return _in_processes(setup, tasks, jobs, steps)


def default_jobs(setup: TrainingSetup, tasks: int) -> int:
    """One run per core for small images on a CPU, where a step gains little from a second core; otherwise one."""
    small = setup.settings.image_size <= 64 and used_device(setup.device).type == "cpu"
    return max(1, min(tasks, os.cpu_count() or 1)) if small and not setup.settings.not_picklable() else 1


def failed(setup: TrainingSetup, task: Task, error: BaseException) -> Run:
    """Record a task that did not finish in its folder."""
    files = RunFolder(task.folder)
    run = replace(
        open_run(task.setup(setup), task.strategy, task.seed, files), status="failed", error=error_text(error)
    )
    files.write_run(run)
    return replace(run, directory=str(task.folder))


def _attempt(setup: TrainingSetup, task: Task, progress: Callable[[int], None]) -> Run:
    try:
        own = task.setup(setup)
        return run_training(own, task.strategy, seed=task.seed, folder=RunFolder(task.folder), progress=progress)
    except WriteError:
        raise  # a full disk, for example: no other run could be saved either
    except Exception as error:
        return failed(setup, task, error)


class _Steps:
    """Sum of the steps of all tasks."""

    def __init__(self, setup: TrainingSetup, tasks: Sequence[Task], progress: Progress) -> None:
        self.done = [0] * len(tasks)
        self.total, self.names, self.progress = setup.settings.steps * len(tasks), [str(t) for t in tasks], progress

    def update(self, index: int, done: int) -> None:
        self.done[index] = done
        self.progress(self.names[index], sum(self.done), self.total)

    def of(self, index: int) -> Callable[[int], None]:
        return lambda done: self.update(index, done)


def _in_processes(setup: TrainingSetup, tasks: Sequence[Task], jobs: int, steps: _Steps) -> list[Run]:
    for images in setup.images.values():
        images.share_memory()
    results: list[Run | None] = [None] * len(tasks)
    with _pool(setup, jobs, steps) as pool:
        futures = [pool.submit(_in_worker, i, task) for i, task in enumerate(tasks)]
        lost = [i for i, future in enumerate(futures) if not _collect(results, i, future)]
    # The task of a process that was killed is tried once more, alone: memory may have run out.
    for i in lost:
        with _pool(setup, 1, steps) as pool:
            if not _collect(results, i, pool.submit(_in_worker, i, tasks[i])):
                killed = CounterpoiseError("its process was killed, perhaps because memory ran out; try fewer `jobs`")
                results[i] = failed(setup, tasks[i], killed)
    return [run for run in results if run is not None]


def _collect(results: list[Run | None], index: int, future: Future[Run]) -> bool:
    try:
        results[index] = future.result()
    except BrokenProcessPool:
        return False
    return True


_worker: dict[str, TrainingSetup] = {}
"""In a worker process: its setup."""


def _pool(setup: TrainingSetup, jobs: int, steps: _Steps) -> AbstractContextManager[Workers]:
    # Never more threads than this process may use, so that OMP_NUM_THREADS is respected.
    threads = max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // jobs))
    return workers(
        jobs, initializer=_start_worker, arguments=(setup, threads), listener=lambda done: steps.update(*done)
    )


def _start_worker(setup: TrainingSetup, threads: int) -> None:
    torch.set_num_threads(threads)
    _worker["setup"] = setup


def _in_worker(index: int, task: Task) -> Run:
    return _attempt(_worker["setup"], task, lambda done: report((index, done)))
