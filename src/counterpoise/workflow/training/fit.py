"""fit: the steps of one run, and what it leaves in its folder."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from counterpoise.core.artifacts import Predictions, Run, Strategy
from counterpoise.core.errors import ArtifactError
from counterpoise.core.images import SPLITS, Split
from counterpoise.hierarchy import ClassTree
from counterpoise.workflow.training.build import Known
from counterpoise.workflow.training.correcting import corrected
from counterpoise.workflow.training.environment import environment, processes
from counterpoise.workflow.training.folder import RunFolder
from counterpoise.workflow.training.job import Job
from counterpoise.workflow.training.joint import JointTraining
from counterpoise.workflow.training.loop import Progress
from counterpoise.workflow.training.separate import SeparateTraining

__all__ = ["fit", "recorded", "rescore"]

LARGEST_TRAIN_SCORES = 64_000_000
"""Scores of the training images are kept (for corrections afterwards) up to this many numbers."""


def fit(job: Job, strategy: Strategy, *, seed: int, folder: RunFolder, progress: Progress) -> Run:
    """Train, or go on, or return what is done: what the folder holds decides."""
    run, clock = recorded(job, strategy, seed, folder), time.monotonic()
    if run.status == "done":
        return run
    with torch.random.fork_rng():
        training = (SeparateTraining if strategy.separate else JointTraining).begin(job, strategy, seed, folder)
        start = training.step
        run = replace(run, status="running", error=None, starts=(*run.starts, start), directory=str(folder.path))
        writes = processes().is_main_process
        if writes:
            folder.write_run(run)
        while not training.done:
            training.run_epoch(progress)
            if writes:
                training.save(folder)
        raw = {split: training.raw(split) for split in SPLITS if split in job.pixels}
    predictions, fitted = corrected(strategy, training.known, raw)
    seconds = run.seconds + time.monotonic() - clock
    run = replace(run, status="done", steps=training.step, seconds=seconds, train_recall=_recall(predictions["train"]))
    run = replace(run, prior=_prior_left(strategy, training.known), fitted=fitted.parameters)
    if writes:
        folder.write_tensors("model.safetensors", training.model_state(), {"model": job.settings.model})
        folder.write_history(training.history)
        _finish(folder, run, predictions)
    return run


def rescore(job: Job, strategy: Strategy, base: Run, *, seed: int, folder: RunFolder) -> Run:
    """A run of a strategy that reuses ``base``: its saved scores, corrected; nothing is trained."""
    run, clock = recorded(job, strategy, seed, folder), time.monotonic()
    if run.status == "done":
        return run
    source = RunFolder(base.directory)
    raw = {split: saved for split in SPLITS if (saved := source.read_predictions(split)) is not None}
    known = replace(job.recipe(base.strategy, seed).known, head=_linear_head(source))
    predictions, fitted = corrected(strategy, known, raw)
    recall = _recall(predictions["train"]) if "train" in predictions else ()
    run = replace(run, status="done", seconds=time.monotonic() - clock, train_recall=recall, directory=str(folder.path))
    run = replace(run, prior=_prior_left(strategy, known), fitted=fitted.parameters)
    _finish(folder, run, predictions)
    return run


def _prior_left(strategy: Strategy, known: Known) -> tuple[float, ...]:
    """The class prior that is in the final scores, for whoever corrects them next; empty where none is defined."""
    if known.left is None or strategy.posthoc not in (None, "adjust_logits"):
        return ()
    tau = float(strategy.posthoc_options.get("tau", 1.0)) if strategy.posthoc else 0.0
    return tuple(known.tempered(1.0 - tau).tolist())


def _linear_head(source: RunFolder) -> tuple[Any, Any] | None:
    saved = source.read_tensors("model.safetensors")
    if saved is None or not {"head.weight", "head.bias"} <= saved[0].keys():
        return None
    return saved[0]["head.weight"].double().numpy(), saved[0]["head.bias"].double().numpy()


def recorded(job: Job, strategy: Strategy, seed: int, folder: RunFolder) -> Run:
    """The run as the folder records it, if it is this one; a new one where the folder is empty."""
    counts = job.counts
    new = Run(
        strategy=replace(strategy, reason=""),
        seed=seed,
        status="running",
        model=job.settings.model,
        settings=job.settings.to_dict(),
        environment=environment(),
        data=job.data.to_dict(),
        classes=counts.names,
        train_counts=tuple(counts.counts.tolist()),
        notes=job.doubts(strategy),
        tree=_tree_record(job.tree_of(strategy)),
    )
    old = folder.read_run()
    if old is None:
        return new
    for what in ("strategy", "seed", "settings", "data", "classes", "train_counts", "tree"):
        before, now = getattr(old, what), getattr(new, what)
        if before != now:
            raise ArtifactError(
                f"{folder.path} holds another run: its {what} {_different(before, now)}; "
                "name another folder, or start again with `overwrite`"
            )
    return old


def _tree_record(tree: ClassTree | None) -> dict[str, Any]:
    return {} if tree is None else tree.to_dict()


def _different(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(k for k in {**before, **now} if before.get(k) != now.get(k))
        return f"has {key} = {before.get(key)!r:.60}, asked for was {now.get(key)!r:.60}"
    return f"is {str(before)!r:.80}, asked for was {str(now)!r:.80}"


def _finish(folder: RunFolder, run: Run, predictions: dict[Split, Predictions]) -> None:
    """run.json last: a run that says "done" has all its files."""
    for split, scores in predictions.items():
        if split != "train" or scores.logits.size <= LARGEST_TRAIN_SCORES:
            folder.write_predictions(split, scores)
    folder.write_run(run)
    folder.forget_checkpoint()


def _recall(predictions: Predictions) -> tuple[float | None, ...]:
    labels, classes = predictions.labels, len(predictions.classes)
    hits = np.bincount(labels[predictions.logits.argmax(1) == labels], minlength=classes)
    totals = np.bincount(labels, minlength=classes)
    return tuple(float(h / n) if n else None for h, n in zip(hits, totals, strict=True))
