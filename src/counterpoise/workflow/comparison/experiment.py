"""Training of several strategies with several seeds on one dataset, and their comparison."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from counterpoise import metrics
from counterpoise.core.artifacts import AuditResult, Comparison, Run, Strategy
from counterpoise.core.checks import checked_choice, checked_number
from counterpoise.core.errors import ArgumentError, TrainingError, WriteError
from counterpoise.core.files import claim, output_folder
from counterpoise.core.images import SPLITS, LabeledImages, Split
from counterpoise.core.text import plural
from counterpoise.workflow.audit import audit
from counterpoise.workflow.comparison.engine import Progress, Task, default_jobs, failed, run_tasks, validation_value
from counterpoise.workflow.comparison.next_step import command, final_training, has_own_features, next_step, typed
from counterpoise.workflow.comparison.notes import notes_on
from counterpoise.workflow.comparison.results import Results
from counterpoise.workflow.comparison.verdict import verdict
from counterpoise.workflow.dataset import as_dataset, check_output
from counterpoise.workflow.dataset.folds import draw_folds, with_validation
from counterpoise.workflow.report import render
from counterpoise.workflow.strategy import as_strategy, plan, split_strategies, strategy_named
from counterpoise.workflow.training import (
    ProgressReport,
    RunFolder,
    Settings,
    TrainingSetup,
    WorkPlan,
    build_class_tree,
    check_device,
    check_strategy,
    check_tracker,
    open_run,
    prepared,
    run_posthoc,
)
from counterpoise.workflow.training.frozen.arms import reason_unavailable
from counterpoise.workflow.training.frozen.runs import WORK, HeadTask, train_heads
from counterpoise.workflow.training.frozen.setup import FrozenSetup
from counterpoise.workflow.training.progress import as_report
from counterpoise.workflow.training.run_folder import FILES

BASELINE = "baseline"
_FILES = ("comparison-arrays-*.npz", "comparison.json", "report.html", *(f"runs/*-seed*/{name}" for name in FILES))


def compare(  # noqa: PLR0913  one argument per decision of the user
    data: LabeledImages | str | Path,
    *,
    strategies: Sequence[Strategy | str] | str | None = None,
    seeds: int | Sequence[int] = 3,
    folds: int | None = None,
    select_by: str = "balanced_accuracy",
    max_accuracy_drop: float | None = None,
    out: str | Path = "comparison",
    resume: bool = False,
    overwrite: bool = False,
    jobs: int | None = 1,
    device: str | torch.device = "auto",
    images: bool = True,
    tracker: str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Comparison:
    """Train every strategy with every seed under one budget, and report which to use and what it costs.

    The strategy is chosen on the validation split. The test split is evaluated once per run, after its training.
    `baseline` always runs, because every other strategy is compared with it.

    Args:
        data: a dataset, or a source that `counterpoise.load` takes.
        strategies: `Strategy` values, catalog names, aliases or names with overrides (``"focal:gamma=1"``), or several
            names in one comma-separated string; default: the advice of `counterpoise.plan` for the training counts.
        seeds: the number of seeds, or the seeds themselves.
        folds: K, at least 2, for K-fold cross-validation in place of one validation split: the images of train and val
            together are divided into K folds, stratified by class, and copies of one image stay together. Every
            strategy is trained K times per seed, each time without one fold, whose images are its validation images;
            their predictions are pooled. That is K × strategies × seeds trainings. Classes with fewer images than folds
            are validated where they can be; the only image of a class is always a training image.
        select_by: the metric on validation that chooses the strategy and decides which ones are tied with it:
            "balanced_accuracy", "macro_f1", "accuracy", "geometric_mean" or "worst_recall" (the smallest recall of a
            class that has validation images).
        max_accuracy_drop: percentage points, at least 0. Strategies whose mean accuracy on validation is further below
            that of `baseline` are not recommended; None for no limit.
        out: a new or empty folder for comparison.json, report.html and runs/<strategy>-seed<k>/, with folds
            runs/<strategy>-seed<k>-fold<j>/; with more than 100 classes also for comparison-arrays-<digest>.npz, with
            the confusion matrices of comparison.json.
        resume: keep the finished runs in ``out`` and continue the others.
        overwrite: replace the comparison in ``out`` when the new one is done. Until then the old one stays, and the new
            one is in the sub folder ``.counterpoise-new``, where ``resume`` continues it; delete it to keep the old.
        jobs: the number of runs at the same time, each in its own process; None chooses by the machine. A script that
            asks for more than one needs the usual ``if __name__ == "__main__":``.
        device: "cpu", "cuda", "cuda:1", "mps", …; "auto" for a GPU if there is one, or what accelerate was told to use.
        images: whether report.html shows small images of the data: the most confident mistakes, what the selected
            strategy fixes and breaks, copies with several labels; at most 3 MB in all.
        tracker: "tensorboard" writes the epochs of every run to the sub folder ``tensorboard`` of the run.
        progress: called with a description of the running task, the steps done, and the number of all steps; once for
            a run that was finished before. Or a `counterpoise.workflow.training.ProgressReport`, which also gets the
            plan, the epochs and the finished runs.
        **settings: fields of `counterpoise.workflow.training.Settings`: ``model``, ``epochs``, ….

    Returns:
        The `Comparison`. A run that failed is contained as failed, with its error.

    Raises:
        ArgumentError: an unknown strategy, model, metric or setting; no test images, or no validation images without
            ``folds``; fewer than two folds, or more than every class has images; ``out`` inside the folder of the data.
        ArtifactError: ``out`` holds other files or other runs, or cannot be written to.

    Example:
        >>> import tempfile
        >>> result = compare("digits", strategies=["focal"], seeds=1, out=tempfile.mkdtemp())  # doctest: +SKIP
        >>> print(result.verdict.headline)  # doctest: +SKIP
    """
    clock = time.monotonic()
    _check_choice(select_by, max_accuracy_drop, jobs)
    checked = Settings.from_options(
        {**settings, "select_by": select_by}, arguments=inspect.signature(compare).parameters
    )
    seed_list = _checked_seeds(seeds)
    chosen = None if strategies is None else _with_requirements(strategies)
    used = check_device(checked.precision, device)
    check_tracker(tracker)
    dataset = as_dataset(data)
    _check_splits(dataset, SPLITS if folds is None else ("train", "test"))
    divided = dataset if folds is None else with_validation(dataset)
    one_fold = dataset if folds is None else draw_folds(divided, folds).split(divided, 0)
    for strategy in chosen or (strategy_named(BASELINE),):
        check_strategy(strategy, one_fold, checked)
    claim(out, resume=resume, overwrite=overwrite)
    check_output(dataset, out)
    report = as_report(progress, named=True)
    setup = prepared(divided, checked, device=used, tracker=tracker, out=out, progress=report.features)
    setup = setup if folds is None else setup.with_folds(folds, checked)
    audited = audit(setup.data)
    _warn_of_errors(audited)
    with output_folder(out, _FILES, resume=resume, overwrite=overwrite) as folder:
        experiment = _Experiment(setup, seed_list, folder, chosen or _advised(audited, setup))
        experiment.check_folders()
        runs = experiment.run_all(jobs, report, select_by)
        comparison = _comparison(experiment, audited, runs, select_by, max_accuracy_drop)
        comparison = _with_next_step(comparison, out, as_planned=chosen is None, default_settings=not settings)
        comparison = replace(comparison, seconds=None if resume else time.monotonic() - clock)
        comparison.save(folder / "comparison.json")
        render(comparison, folder / "report.html", data=setup.data, images=images)
    return comparison


def _advised(audited: AuditResult, setup: TrainingSetup) -> list[Strategy]:
    """The strategies that `plan` recommends, with the class tree that the settings name."""
    source = setup.tree_source
    advised = plan(audited, tree=None if source == "auto" else build_class_tree(source, setup.counts))
    if not setup.settings.frozen:
        return advised
    return [strategy for strategy in advised if reason_unavailable(strategy, views=setup.settings.views) is None]


@dataclass(frozen=True)
class _Experiment:
    """The runs of a comparison: first the strategies that train, then those that reuse their models."""

    setup: TrainingSetup
    seeds: tuple[int, ...]
    folder: Path
    strategies: list[Strategy]

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

    def check_folders(self) -> None:
        """Refuse folders that hold other runs, before any training."""
        for task in (*self.tasks(trains=True), *self.tasks(trains=False)):
            self.setup.check_head(task.strategy)
            open_run(task.setup(self.setup), task.strategy, task.seed, RunFolder(task.folder))

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
            done = run_tasks(self.setup, tasks, jobs=jobs, progress=report, metric=metric)
        for task in reusing:
            run = self.reuse(task)
            report.finish(str(task), run, validation_value(run, metric))
            done.append(run)
        return {s.name: [run for run in done if run.strategy.name == s.name] for s in self.strategies}

    def _plan(self, trainings: int, reusing: int, metric: str) -> WorkPlan:
        """What is to be done."""
        detail = "" if self.setup.folds is None else self._cost(trainings)
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


def _comparison(
    experiment: _Experiment, audited: AuditResult, runs: dict[str, list[Run]], metric: str, most: float | None
) -> Comparison:
    setup = experiment.setup
    tree = next((setup.class_tree(s) for s in experiment.strategies if s.head == "hierarchical"), None)
    results = Results(experiment.folder, experiment.seeds, len(experiment.folds), setup.counts, tree)
    arms = tuple(results.arm(strategy, runs[strategy.name]) for strategy in experiment.strategies)
    units = None if setup.folds is None else setup.folds.units_by_path(setup.data)
    measured = results.differences(arms, baseline=BASELINE, metric=metric, most=most, units=units)
    folds = None if setup.folds is None else setup.folds.number
    judged = verdict(arms, measured, baseline=BASELINE, metric=metric, max_accuracy_drop=most, folds=folds)
    return Comparison(
        audit=audited,
        baseline=BASELINE,
        metric=metric,
        seeds=experiment.seeds,
        arms=arms,
        differences=tuple(measured),
        verdict=replace(judged, notes=(*judged.notes, *notes_on(setup, arms))),
        settings=setup.settings_record,
        environment=runs[BASELINE][0].environment,
        tree={} if tree is None else tree.to_dict(),
        max_accuracy_drop=most,
        folds=folds,
    )


def _warn_of_errors(audited: AuditResult) -> None:
    """Say before the training that the data have faults, which the comparison does not remove."""
    faults = [finding for finding in audited.findings if finding.severity == "error"]
    if faults:
        more = f" (and {plural(len(faults) - 1, 'more error')})" if len(faults) > 1 else ""
        advice = "`counterpoise audit` lists all findings"
        if any(finding.kind.startswith("same-image") for finding in faults):
            advice += ", and `exclude_duplicates=True` (--exclude-duplicates) leaves copies of images out"
        warnings.warn(
            f"the comparison goes on although the audit found an error in the data: {faults[0].reason.rstrip('.')}"
            f"{more}; {advice}",
            UserWarning,
            stacklevel=3,
        )


def _with_next_step(comparison: Comparison, out: str | Path, *, as_planned: bool, default_settings: bool) -> Comparison:
    """Add what to do now to the verdict; an ellipsis stands for options that are not known here."""
    source, folds = comparison.audit.source, comparison.folds
    again = command(source, out, defaults=as_planned and default_settings, folds=folds)
    train = f"counterpoise train {typed(source)}{'' if default_settings else ' …'}"
    final, seeds, own = final_training(comparison, train), len(comparison.seeds), has_own_features(comparison)
    step = next_step(comparison.verdict, again=again, folder=typed(out), seeds=seeds, final=final, own_features=own)
    return replace(comparison, verdict=replace(comparison.verdict, next_step=step))


def _with_requirements(strategies: Sequence[Strategy | str] | str) -> list[Strategy]:
    """The strategies asked for, after the baseline and after the strategies whose models they reuse."""
    if isinstance(strategies, str):
        strategies = split_strategies(strategies)
    if not strategies:
        raise ArgumentError("`strategies` is empty; name at least one, or leave it out for the advice of `plan`")
    named = [as_strategy(s, argument="strategies") for s in strategies]
    found: dict[str, Strategy] = {BASELINE: strategy_named(BASELINE)}
    for strategy in named:
        if strategy.reuses:
            found.setdefault(strategy.reuses, strategy_named(strategy.reuses))
        if found.setdefault(strategy.name, strategy) != strategy and strategy.name != BASELINE:
            raise ArgumentError(f"`strategies` has two different strategies named {strategy.name!r}; rename one")
    return list(found.values())


def _checked_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise ArgumentError(
            f"`seeds` must be a number of at least 1, or distinct whole numbers from 0 on; got {seeds!r}"
        )
    return numbers


def _check_choice(select_by: str, max_accuracy_drop: float | None, jobs: int | None) -> None:
    if jobs is not None and jobs < 1:
        raise ArgumentError(f"`jobs` must be at least 1; got {jobs}")
    checked_choice("select_by", select_by, tuple(metrics.METRICS))
    if max_accuracy_drop is not None:
        checked_number("max_accuracy_drop", max_accuracy_drop, minimum=0.0)


def _check_splits(data: LabeledImages, splits: Sequence[Split]) -> None:
    for split in splits:
        if not len(data.subset(split)):
            raise ArgumentError(
                f"{data.name} has no {split} images, and a comparison needs {', '.join(splits[:-1])} and test images; "
                f"add a {split} split, or give class folders without splits, which are then split automatically"
            )
