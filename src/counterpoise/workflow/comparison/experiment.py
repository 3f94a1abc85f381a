"""Training of several strategies with several seeds on one dataset, and their comparison."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from counterpoise import metrics
from counterpoise.core.artifacts import AuditResult, Comparison, Run, Strategy
from counterpoise.core.checks import checked_choice, checked_number
from counterpoise.core.errors import ArgumentError
from counterpoise.core.files import claim, output_folder
from counterpoise.core.images import SPLITS, LabeledImages, Split
from counterpoise.workflow.audit import audit, warn_of_errors
from counterpoise.workflow.comparison.engine import Progress
from counterpoise.workflow.comparison.finetuning import finetune_best, further_settings
from counterpoise.workflow.comparison.next_step import command, final_training, has_own_features, next_step, typed
from counterpoise.workflow.comparison.notes import notes_on
from counterpoise.workflow.comparison.runs import Experiment
from counterpoise.workflow.comparison.verdict import verdict
from counterpoise.workflow.dataset import as_dataset, check_output
from counterpoise.workflow.dataset.folds import draw_folds, with_validation
from counterpoise.workflow.report import render
from counterpoise.workflow.strategy import as_strategy, plan, split_strategies, strategy_named
from counterpoise.workflow.training import (
    Settings,
    TrainingSetup,
    build_class_tree,
    check_device,
    check_strategy,
    check_tracker,
    prepared,
)
from counterpoise.workflow.training.frozen.arms import reason_unavailable
from counterpoise.workflow.training.frozen.finetune import check_finetuned
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
    finetune: bool = False,
    finetune_epochs: int | None = None,
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
        finetune: with ``frozen``, train the whole network afterwards with the strategy that the verdict selects, and
            with `baseline` as a control: from the frozen backbone and the trained head, with the ordinary training
            loop and every seed. Their runs, runs/<strategy>-finetuned-seed<k>/, have arms of their own; the best of
            them and the selected head on validation is recommended. Not with ``folds``, nor with ``features`` of yours.
        finetune_epochs: epochs of each such training; None for 5. Its learning rate and batch size are the defaults of
            a training that is ``pretrained``; ``learning_rate``, ``weight_decay`` and ``batch_size`` are of the heads.
        progress: called with a description of the running task, the steps done, and the number of all steps; once for
            a run that was finished before. Or a `counterpoise.workflow.training.ProgressReport`, which also gets the
            plan, the epochs and the finished runs.
        **settings: fields of `counterpoise.workflow.training.Settings`: ``model``, ``epochs``, ….

    Returns:
        The `Comparison`. A run that failed is contained as failed, with its error.

    Raises:
        ArgumentError: an unknown strategy, model, metric or setting; no test images, or no validation images without
            ``folds``; fewer than two folds, or more than every class has images; ``out`` inside the folder of the data;
            ``finetune`` of a strategy with a cosine head, or where there is no network to train.
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
    further = further_settings(checked, folds, finetune=finetune, epochs=finetune_epochs)
    seed_list = _checked_seeds(seeds)
    chosen = None if strategies is None else _with_requirements(strategies)
    used = check_device(checked.precision, device)
    check_tracker(tracker)
    dataset = as_dataset(data)
    _check_splits(dataset, SPLITS if folds is None else ("train", "test"))
    divided = dataset if folds is None else with_validation(dataset)
    one_fold = dataset if folds is None else draw_folds(divided, folds).split(divided, 0)
    _check_strategies(chosen or [strategy_named(BASELINE)], one_fold, checked, further)
    claim(out, resume=resume, overwrite=overwrite)
    check_output(dataset, out)
    report = as_report(progress, named=True)
    setup = prepared(divided, checked, device=used, tracker=tracker, out=out, progress=report.features)
    setup = setup if folds is None else setup.with_folds(folds, checked)
    audited = audit(setup.data)
    warn_of_errors(audited, "the comparison", stacklevel=2)
    with output_folder(out, _FILES, resume=resume, overwrite=overwrite) as folder:
        experiment = Experiment(setup, seed_list, folder, chosen or _advised(audited, setup), further)
        experiment.check_folders()
        comparison = _comparison(
            experiment, audited, experiment.run_all(jobs, report, select_by), select_by, max_accuracy_drop
        )
        comparison = finetune_best(comparison, experiment, jobs, report)
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


def _comparison(
    experiment: Experiment, audited: AuditResult, runs: dict[str, list[Run]], metric: str, most: float | None
) -> Comparison:
    setup, results = experiment.setup, experiment.results
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
        tree={} if results.tree is None else results.tree.to_dict(),
        max_accuracy_drop=most,
        folds=folds,
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


def _check_strategies(
    strategies: Sequence[Strategy], data: LabeledImages, settings: Settings, further: Settings | None
) -> None:
    """Raise `ArgumentError` for a strategy that cannot be trained, or not be finetuned, before any work."""
    for strategy in strategies:
        check_strategy(strategy, data, settings)
        if further is not None:
            check_finetuned(strategy, data, further)


def _check_splits(data: LabeledImages, splits: Sequence[Split]) -> None:
    for split in splits:
        if not len(data.subset(split)):
            raise ArgumentError(
                f"{data.name} has no {split} images, and a comparison needs {', '.join(splits[:-1])} and test images; "
                f"add a {split} split, or give class folders without splits, which are then split automatically"
            )
