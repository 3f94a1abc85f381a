"""The runs of a comparison: which there are, and how all of them are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from counterpoise.core.artifacts import Run, Strategy
from counterpoise.core.errors import TrainingError, WriteError
from counterpoise.core.text import plural
from counterpoise.workflow.comparison.engine import Task, default_jobs, failed, run_tasks, validation_value
from counterpoise.workflow.comparison.results import Results
from counterpoise.workflow.training import (
    ProgressReport,
    ResolvedSettings,
    RunFolder,
    Settings,
    TrainingSetup,
    WorkPlan,
    open_run,
    run_posthoc,
)
from counterpoise.workflow.training.frozen.finetune import FinetuneSetup, finetuned
from counterpoise.workflow.training.frozen.runs import WORK, HeadTask, train_heads
from counterpoise.workflow.training.frozen.setup import FrozenSetup


@dataclass(frozen=True)
class Experiment:
    """The runs of a comparison: first the strategies that train, then those that reuse their models."""

    setup: TrainingSetup
    seeds: tuple[int, ...]
    folder: Path
    strategies: list[Strategy]
    further: Settings | None = None
    """Those of the finetuning afterwards, if there is one."""

    def finetuning(self, strategies: Sequence[Strategy]) -> Experiment:
        """The runs of the finetuning, of strategies by their new names; the images are not decoded yet."""
        assert isinstance(self.setup, FrozenSetup), "checked with the settings"
        assert self.further is not None, "asked for"
        setup = FinetuneSetup.of(self.setup, self.further, self.folder / "runs")
        return replace(self, setup=setup, strategies=list(strategies), further=None)

    def tasks(self, *, trains: bool) -> list[Task]:
        """The tasks of the strategies that train, or of those that do not: one per seed, or per seed and fold."""
        chosen = [s.name for s in self.strategies if (s.reuses is None) == trains]
        return [self.task(name, seed, fold) for name in chosen for seed in self.seeds for fold in self.folds]

    @property
    def folds(self) -> Sequence[int | None]:
        """The folds; only None if there are none."""
        return (None,) if self.setup.folds is None else range(self.setup.folds.number)

    def task(self, name: str, seed: int, fold: int | None) -> Task:
        """The task of a strategy with a seed and, if there are folds, a fold."""
        strategy = next(s for s in self.strategies if s.name == name)
        run = f"{strategy.folder_name}-seed{seed}" + ("" if fold is None else f"-fold{fold}")
        return Task(strategy, seed, self.folder / "runs" / run, fold)

    @property
    def results(self) -> Results:
        """The reader of the files of the runs."""
        setup = self.setup
        tree = next((setup.class_tree(s) for s in self.strategies if s.head == "hierarchical"), None)
        return Results(self.folder, self.seeds, len(self.folds), setup.counts, tree)

    def check_folders(self) -> None:
        """Refuse folders that hold other runs, before any training."""
        for task in (*self.tasks(trains=True), *self.tasks(trains=False)):
            self.setup.check_head(task.strategy)
            open_run(task.setup(self.setup), task.strategy, task.seed, RunFolder(task.folder))
        if self.further is not None:
            self.finetuning([finetuned(strategy) for strategy in self.strategies]).check_folders()

    def run_all(self, jobs: int | None, report: ProgressReport, metric: str) -> dict[str, list[Run]]:
        """Do all runs, and return them by strategy in the order of the seeds and folds."""
        tasks, reusing = self.tasks(trains=True), self.tasks(trains=False)
        report.start(self._plan(len(tasks), len(reusing), metric))
        jobs = default_jobs(self.setup, len(tasks)) if jobs is None else jobs
        if isinstance(self.setup, FrozenSetup):
            done = self._train_heads(self.setup, tasks, report)
            for task, run in zip(tasks, done, strict=True):
                report.finish(str(task), run, validation_value(run, metric))
        else:
            done = run_tasks(self._with_images(tasks), tasks, jobs=jobs, progress=report, metric=metric)
        for task in reusing:
            run = self.reuse(task)
            report.finish(str(task), run, validation_value(run, metric))
            done.append(run)
        return {s.name: [run for run in done if run.strategy.name == s.name] for s in self.strategies}

    def _with_images(self, tasks: Sequence[Task]) -> TrainingSetup:
        """The setup; that of a finetuning with decoded images, unless all of its tasks are done."""
        recorded = [RunFolder(task.folder).read_run() for task in tasks]
        is_done = all(run is not None and run.status == "done" for run in recorded)
        return self.setup.with_images() if isinstance(self.setup, FinetuneSetup) and not is_done else self.setup

    def _plan(self, trainings: int, reusing: int, metric: str) -> WorkPlan:
        """What is to be done."""
        detail = "" if self.setup.folds is None else self._cost(trainings)
        if self.further is not None:
            detail = _finetuning_cost(self.finetuning([]).setup.settings, len(self.seeds))
        plan = self.setup.plan(trainings + reusing, steps=trainings * self.setup.settings.steps)
        return replace(plan, reusing=reusing, metric=metric, detail=detail)

    def _train_heads(self, setup: FrozenSetup, tasks: Sequence[Task], report: ProgressReport) -> list[Run]:
        """Train the heads of all tasks, those of each fold together."""
        runs: dict[Path, Run] = {}
        for fold in self.folds:
            own = [task for task in tasks if task.fold == fold]
            heads = [HeadTask(task.strategy, task.seed, task.folder) for task in own]
            work = self.folder / (WORK if fold is None else f"{WORK}-fold{fold}")
            done = train_heads(setup if fold is None else setup.fold(fold), heads, work=work, progress=report.step)
            runs |= {task.folder: run for task, run in zip(own, done, strict=True)}
        return [runs[task.folder] for task in tasks]

    def _cost(self, trainings: int) -> str:
        """The number of trainings and how it comes about."""
        strategies = trainings // (len(self.seeds) * len(self.folds))
        factors = (
            f"{len(self.folds)} folds",
            plural(strategies, "strategy", "strategies") + " that train",
            plural(len(self.seeds), "seed"),
        )
        return f"{trainings} trainings: {' × '.join(factors)}"

    def reuse(self, task: Task) -> Run:
        """Correct the logits of the run that a strategy reuses."""
        reused = [self.task(str(task.strategy.reuses), task.seed, fold).folder for fold in self.folds]
        runs = [run for folder in reused if (run := RunFolder(folder).read_run()) and run.status == "done"]
        try:
            if len(runs) < len(reused):
                raise TrainingError(f"it reuses the model of {task.strategy.reuses}, which did not finish")
            return run_posthoc(
                task.setup(self.setup),
                task.strategy,
                runs[task.fold or 0],
                seed=task.seed,
                folder=RunFolder(task.folder),
                folds=() if task.fold is None else runs,
            )
        except WriteError:
            raise
        except Exception as error:
            return failed(self.setup, task, error)


def _finetuning_cost(settings: ResolvedSettings, seeds: int) -> str:
    """What is trained after the heads, for the plan that is printed before the work."""
    return (
        f"then the whole network is finetuned with the best strategy and the baseline, at most {2 * seeds} trainings: "
        f"2 strategies × {plural(seeds, 'seed')}, {plural(settings.epochs, 'epoch')} each"
    )
