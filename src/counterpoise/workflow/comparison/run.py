"""compare: strategies × seeds on one dataset at equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from counterpoise.core.artifacts import Arm, AuditResult, Comparison, Evaluation, Predictions, Run, Strategy, Verdict
from counterpoise.core.errors import ArgumentError, TrainingError
from counterpoise.core.files import claim, locked
from counterpoise.core.images import SPLITS, LabeledImages
from counterpoise.hierarchy import ClassTree
from counterpoise.workflow.audit import audit
from counterpoise.workflow.comparison.by_tree import tree_score
from counterpoise.workflow.comparison.engine import Progress, Task, failed, run_tasks, sensible_jobs
from counterpoise.workflow.comparison.statistics import arm_scores, differences
from counterpoise.workflow.comparison.verdict import verdict
from counterpoise.workflow.dataset import load
from counterpoise.workflow.evaluation import evaluate
from counterpoise.workflow.report import render
from counterpoise.workflow.strategy import plan, strategy_named
from counterpoise.workflow.training import Job, Resolved, RunFolder, Settings, check_strategy, recorded, rescore

__all__ = ["compare"]

METRIC = "balanced_accuracy"
SHORT = 200
"""Below this many steps the verdict warns."""
BASELINE = "baseline"


def compare(
    data: LabeledImages | str | Path,
    *,
    strategies: Sequence[Strategy | str] | None = None,
    seeds: int | Sequence[int] = 3,
    out: str | Path = "comparison",
    resume: bool = False,
    overwrite: bool = False,
    jobs: int | None = 1,
    progress: Progress | None = None,
    **settings: Any,
) -> Comparison:
    """Train every strategy with every seed under one budget, and say which to use and what it costs.

    The strategy is chosen on the validation split; the test split is scored once a run, after its training.
    `baseline` always runs, because everything is measured against it.

    Args:
        data: a dataset, or what `counterpoise.load` takes.
        strategies: catalog names or `Strategy` values; default: what `counterpoise.plan` advises for these counts.
        seeds: how many, or which.
        out: a new or empty folder; gets comparison.json, report.html and runs/<strategy>-seed<k>/.
        resume: keep what is done in ``out`` and go on.
        overwrite: replace the comparison in ``out``.
        jobs: runs at a time, each in a process of its own; None: as many as help. A script that asks for more than one
            needs the usual ``if __name__ == "__main__":``.
        progress: called with what is running, the steps done, and all steps.
        **settings: fields of `counterpoise.workflow.training.Settings`: ``model``, ``epochs``, ….

    Returns:
        The `Comparison`. A run that failed is in it as failed, with its error.

    Raises:
        ArgumentError: an unknown strategy, model or setting; no validation or test images.
        ArtifactError: ``out`` holds other files, or other runs.
    """
    if jobs is not None and jobs < 1:
        raise ArgumentError(f"`jobs` must be at least 1; got {jobs}")
    numbers, checked = _seeds(seeds), Settings.of(settings)
    asked = _chosen(strategies) if strategies is not None else None
    dataset = load(data) if isinstance(data, str | Path) else data
    _need_splits(dataset)
    for strategy in asked or (strategy_named(BASELINE),):
        check_strategy(strategy, dataset, checked)
    folder = claim(out, resume=resume, overwrite=overwrite)
    job = Job.prepare(dataset, checked)
    facts = audit(job.data)
    with locked(folder):
        if overwrite:
            _clear(folder)
        bench = _Bench(job, numbers, folder, asked or plan(facts))
        bench.check()
        runs = bench.run_all(jobs, progress or (lambda what, done, total: None))
        comparison = _comparison(bench, facts, runs)
        comparison.save(folder / "comparison.json")
        render(comparison, folder / "report.html")
    return comparison


@dataclass(frozen=True)
class _Bench:
    """The runs of a comparison: strategies that train, then those that reuse their scores."""

    job: Job
    seeds: tuple[int, ...]
    folder: Path
    arms: list[Strategy]

    def tasks(self, *, trains: bool) -> list[Task]:
        """Every seed of the strategies that train, or of those that do not."""
        return [self.task(s.name, seed) for s in self.arms if (s.reuses is None) == trains for seed in self.seeds]

    def task(self, name: str, seed: int) -> Task:
        strategy = next(s for s in self.arms if s.name == name)
        return Task(strategy, seed, self.folder / "runs" / f"{strategy.folder_name}-seed{seed}")

    def check(self) -> None:
        """Refuse, before any work, folders that hold other runs."""
        for task in (*self.tasks(trains=True), *self.tasks(trains=False)):
            recorded(self.job, task.strategy, task.seed, RunFolder(task.folder))

    def run_all(self, jobs: int | None, progress: Progress) -> dict[str, list[Run]]:
        """Runs by strategy, in the order of the seeds."""
        tasks = self.tasks(trains=True)
        done = run_tasks(
            self.job, tasks, jobs=sensible_jobs(self.job, len(tasks)) if jobs is None else jobs, progress=progress
        )
        done += [self.reuse(task) for task in self.tasks(trains=False)]
        return {s.name: [run for run in done if run.strategy.name == s.name] for s in self.arms}

    def reuse(self, task: Task) -> Run:
        base = RunFolder(self.task(str(task.strategy.reuses), task.seed).folder).read_run()
        try:
            if base is None or base.status != "done":
                raise TrainingError(f"{task.strategy.reuses}, whose run it reuses, did not finish")
            return rescore(self.job, task.strategy, base, seed=task.seed, folder=RunFolder(task.folder))
        except Exception as error:
            return failed(self.job, task, error)


def _comparison(bench: _Bench, facts: AuditResult, runs: dict[str, list[Run]]) -> Comparison:
    counts = bench.job.counts
    tree = next((bench.job.tree_of(s) for s in bench.arms if s.head == "hierarchical"), None)
    arms = tuple(_arm(strategy, runs[strategy.name], bench, tree) for strategy in bench.arms)
    predictions = {
        split: {arm.strategy.name: _predictions(bench, arm, split) for arm in arms if arm.status == "done"}
        for split in ("val", "test")
    }
    found = differences(arms, predictions, baseline=BASELINE, metric=METRIC, train_counts=counts)
    return Comparison(
        audit=facts,
        baseline=BASELINE,
        metric=METRIC,
        seeds=bench.seeds,
        arms=arms,
        differences=tuple(found),
        verdict=_with_doubts(verdict(arms, found, baseline=BASELINE, metric=METRIC), bench.job, arms),
        settings=bench.job.settings.to_dict(),
        environment=runs[BASELINE][0].environment,
        tree={} if tree is None else tree.to_dict(),
    )


def _with_doubts(said: Verdict, job: Job, arms: tuple[Arm, ...]) -> Verdict:
    """What whoever reads the verdict should know: priors corrected twice, and a training of few steps."""
    notes = [advice for arm in arms for advice in job.doubts(arm.strategy)]
    return replace(said, notes=(*said.notes, *notes, *_on_length(job.settings)))


def _on_length(settings: Resolved) -> tuple[str, ...]:
    """A training of few steps is dominated by its start."""
    if settings.steps >= SHORT:
        return ()
    words = (
        f"each training took {settings.steps} steps, too few to tell strategies apart by what they learn; "
        f"{SHORT} or more would need `epochs` of {-(-SHORT // settings.steps_per_epoch)}"
    )
    return (words,)


def _predictions(bench: _Bench, arm: Arm, split: str) -> list[Predictions]:
    return [Predictions.load(bench.folder / path / f"predictions-{split}.npz") for path in arm.directories]


def _arm(strategy: Strategy, runs: list[Run], bench: _Bench, tree: ClassTree | None) -> Arm:
    names = tuple(f"runs/{strategy.folder_name}-seed{run.seed}" for run in runs)
    seconds = tuple(run.seconds for run in runs)
    failed = [f"seed {run.seed}: {run.error}" for run in runs if run.status != "done"]
    if failed:
        return Arm(strategy, "failed", bench.seeds, names, seconds, error="; ".join(failed))
    validation, test = (tuple(_evaluation(bench, run, split) for run in runs) for split in ("val", "test"))
    history = tuple(tuple(RunFolder(run.directory).read_history()) for run in runs)
    scores = arm_scores(validation, test)
    weights = tuple(tuple(map(tuple, RunFolder(run.directory).read_weights())) for run in runs)
    by_tree = None if tree is None else tree_score(test, tree, bench.job.counts)
    return Arm(strategy, "done", bench.seeds, names, seconds, validation, test, scores, history, weights, by_tree)


def _evaluation(bench: _Bench, run: Run, split: str) -> Evaluation:
    path = Path(run.directory) / f"predictions-{split}.npz"
    return evaluate(path, split=split, train_counts=bench.job.counts, train_recall=run.train_recall or None)


def _chosen(strategies: Sequence[Strategy | str]) -> list[Strategy]:
    """The strategies by name, the baseline first, and whatever one reuses before it."""
    asked = [strategy_named(s) if isinstance(s, str) else s for s in strategies]
    found: dict[str, Strategy] = {BASELINE: strategy_named(BASELINE)}
    for strategy in asked:
        if strategy.reuses:
            found.setdefault(strategy.reuses, strategy_named(strategy.reuses))
        if found.setdefault(strategy.name, strategy) != strategy and strategy.name != BASELINE:
            raise ArgumentError(f"`strategies` has two different ones named {strategy.name!r}; rename one")
    return list(found.values())


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise ArgumentError(f"`seeds` must be at least 1, or distinct whole numbers from 0 up; got {seeds!r}")
    return numbers


def _need_splits(data: LabeledImages) -> None:
    for split in SPLITS:
        if not len(data.subset(split)):
            raise ArgumentError(
                f"{data.name} has no {split} images, and a comparison needs train, val and test; "
                f"add a {split} split, or load class folders alone so that all three are drawn"
            )


def _clear(folder: Path) -> None:
    """Remove what an earlier comparison left; what others put here stays."""
    for name in ("comparison.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    for run in (folder / "runs").glob("*-seed*"):
        RunFolder(run).clear()
