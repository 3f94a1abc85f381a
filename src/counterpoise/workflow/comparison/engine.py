"""Execution of the runs of a comparison: one after another, or in parallel processes of this machine."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from counterpoise import metrics
from counterpoise.core.artifacts import Run, Strategy
from counterpoise.core.errors import CounterpoiseError, WriteError
from counterpoise.core.processes import Workers, report, workers
from counterpoise.workflow.training import (
    ProgressReport,
    RunFolder,
    TrainingSetup,
    open_run,
    run_training,
    used_device,
)
from counterpoise.workflow.training.progress import as_report
from counterpoise.workflow.training.run_folder import error_text

Progress = ProgressReport | Callable[[str, int, int], None]
"""A report, or a function that gets the name of the running task, the steps done, and the number of all steps."""
Send = Callable[..., None]
"""Called with the name of a method of `_Reports` and its arguments after the task."""


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


def run_tasks(
    setup: TrainingSetup, tasks: Sequence[Task], *, jobs: int, progress: Progress, metric: str = "balanced_accuracy"
) -> list[Run]:
    """Do every task; a failure is recorded in the folder of its run.

    Args:
        setup: the data and the settings, shared by all tasks.
        tasks: the trainings.
        jobs: the number of tasks at the same time, at least 1; above 1 each runs in its own process with its share of
            the cores.
        progress: called after every step, and a report also after every epoch and every task.
        metric: the metric on validation that is reported.
    """
    reports = _Reports(setup, tasks, as_report(progress, named=True))
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
        return [_attempt(setup, task, metric, partial(reports.send, i)) for i, task in enumerate(tasks)]
    return _in_processes(setup, tasks, jobs, metric, reports)


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


def validation_value(run: Run, metric: str) -> float | None:
    """A metric of a finished run on its validation images; None if there are none, or for a failed run."""
    saved = RunFolder(run.directory).read_predictions("val") if run.status == "done" else None
    if saved is None or not len(saved.labels):
        return None
    matrix = metrics.confusion_matrix(saved.labels, saved.logits.argmax(1), num_classes=len(saved.classes))
    return metrics.METRICS[metric].of_confusion(matrix)


def _attempt(setup: TrainingSetup, task: Task, metric: str, send: Send) -> Run:
    folder = RunFolder(task.folder)
    try:
        run = run_training(
            task.setup(setup), task.strategy, seed=task.seed, folder=folder,
            progress=partial(send, "step"), on_epoch=partial(send, "epoch"),
        )  # fmt: skip
    except WriteError:
        raise  # a full disk, for example: no other run could be saved either
    except Exception as error:
        run = failed(setup, task, error)
    send("finish", run, validation_value(run, metric))
    return run


class _Reports:
    """Passes on what the tasks report, with the sum of the steps of all tasks."""

    def __init__(self, setup: TrainingSetup, tasks: Sequence[Task], report: ProgressReport) -> None:
        self.done, self.steps = [0] * len(tasks), setup.settings.steps
        self.names, self.report = [str(task) for task in tasks], report

    def send(self, index: int, method: str, *arguments: Any) -> None:
        """Call the method of that name for the task of that index."""
        methods: dict[str, Callable[..., None]] = {"step": self.step, "epoch": self.epoch, "finish": self.finish}
        methods[method](index, *arguments)

    def step(self, index: int, done: int) -> None:
        self.done[index] = done
        self.report.step(self.names[index], sum(self.done), self.steps * len(self.done))

    def epoch(self, index: int, row: Mapping[str, float | None]) -> None:
        self.report.epoch(self.names[index], row)

    def finish(self, index: int, run: Run, value: float | None) -> None:
        if self.done[index] < self.steps:  # it was finished before, has failed or stopped early
            self.step(index, self.steps)
        self.report.finish(self.names[index], run, value)


def _in_processes(setup: TrainingSetup, tasks: Sequence[Task], jobs: int, metric: str, reports: _Reports) -> list[Run]:
    for images in setup.images.values():
        images.share_memory()
    results: list[Run | None] = [None] * len(tasks)
    with _pool(setup, jobs, metric, reports) as pool:
        futures = [pool.submit(_in_worker, i, task) for i, task in enumerate(tasks)]
        lost = [i for i, future in enumerate(futures) if not _collect(results, i, future)]
    # The task of a process that was killed is tried once more, alone: memory may have run out.
    for i in lost:
        with _pool(setup, 1, metric, reports) as pool:
            if not _collect(results, i, pool.submit(_in_worker, i, tasks[i])):
                killed = CounterpoiseError("its process was killed, perhaps because memory ran out; try fewer `jobs`")
                results[i] = lost_run = failed(setup, tasks[i], killed)
                reports.finish(i, lost_run, None)
    return [run for run in results if run is not None]


def _collect(results: list[Run | None], index: int, future: Future[Run]) -> bool:
    try:
        results[index] = future.result()
    except BrokenProcessPool:
        return False
    return True


_worker: dict[str, Any] = {}
"""In a worker process: its setup, and the metric on validation that it reports."""


def _pool(setup: TrainingSetup, jobs: int, metric: str, reports: _Reports) -> AbstractContextManager[Workers]:
    # Never more threads than this process may use, so that OMP_NUM_THREADS is respected.
    threads = max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // jobs))
    return workers(
        jobs,
        initializer=_start_worker,
        arguments=(setup, metric, threads),
        listener=lambda message: reports.send(*message),
    )


def _start_worker(setup: TrainingSetup, metric: str, threads: int) -> None:
    torch.set_num_threads(threads)
    _worker.update(setup=setup, metric=metric)


def _in_worker(index: int, task: Task) -> Run:
    return _attempt(_worker["setup"], task, _worker["metric"], lambda *message: report((index, *message)))
