"""fit: the steps of one run, and what it leaves in its folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from counterpoise import metrics
from counterpoise.core.artifacts import Predictions, Run, Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArtifactError
from counterpoise.core.images import SPLITS, LabeledImages, Split
from counterpoise.models import build_model, check_model
from counterpoise.models.build import IMAGENET_MEAN, IMAGENET_STD
from counterpoise.workflow.training.build import build_loss, build_order, build_posthoc
from counterpoise.workflow.training.environment import environment
from counterpoise.workflow.training.folder import RunFolder
from counterpoise.workflow.training.loop import Loop, Progress, validation_loss
from counterpoise.workflow.training.pixels import Pixels
from counterpoise.workflow.training.settings import Resolved, Settings

__all__ = ["Job", "fit", "recorded", "rescore"]

Row = dict[str, float | None]
LARGEST_TRAIN_SCORES = 64_000_000
"""Scores of the training images are kept (for corrections afterwards) up to this many numbers."""


@dataclass(frozen=True)
class Job:
    """What one run needs, prepared once and shared by all runs of a comparison."""

    data: LabeledImages
    settings: Resolved
    pixels: dict[Split, Pixels]

    @classmethod
    def prepare(cls, data: LabeledImages, settings: Settings) -> Job:
        """Decide the settings, check the model, and decode all images; those that cannot be are quarantined."""
        check_model(settings.model if settings.model != "auto" else "resnet20")
        resolved = settings.resolve(data)
        check_model(resolved.model, pretrained=resolved.pretrained)
        if resolved.pretrained:
            # Fetches the weights once for all runs, or says now that they cannot be had.
            build_model(resolved.model, data.counts("train").num_classes, pretrained=True)
        pixels = _pixels(data, resolved)
        faults = {split: here.faults for split, here in pixels.items() if here.faults}
        if faults:
            data = data.quarantine(_rows(data, faults))
            resolved = settings.resolve(data)
            pixels |= _pixels(data, resolved, splits=tuple(faults))
        return cls(data, resolved, {split: here for split, here in pixels.items() if len(here)})

    @property
    def counts(self) -> ClassCounts:
        """Training images per class."""
        return self.data.counts("train")

    def colours(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over up to 1,000 training images, in [0, 1]."""
        pixels = self.pixels["train"]
        rows = np.linspace(0, len(pixels) - 1, num=min(len(pixels), 1000)).astype(int).tolist()
        images = pixels.__getitems__(rows)["images"].double() / 255
        return images.mean((0, 2, 3)).tolist(), images.std((0, 2, 3)).clamp(min=1e-3).tolist()


def _pixels(data: LabeledImages, settings: Resolved, splits: tuple[Split, ...] = SPLITS) -> dict[Split, Pixels]:
    budget = settings.cache_gib * 2**30 / len(SPLITS)
    return {split: Pixels(data.subset(split), size=settings.image_size, cache_bytes=budget) for split in splits}


def _rows(data: LabeledImages, faults: dict[Split, dict[int, str]]) -> dict[int, str]:
    """Indices within a split → indices within the whole."""
    rows = {split: np.flatnonzero(data.splits == split) for split in faults}
    return {int(rows[split][i]): why for split, here in faults.items() for i, why in here.items()}


def fit(job: Job, strategy: Strategy, *, seed: int, folder: RunFolder, progress: Progress) -> Run:
    """Train, or go on, or return what is done: what the folder holds decides."""
    run, clock = recorded(job, strategy, seed, folder), time.monotonic()
    if run.status == "done":
        return run
    with torch.random.fork_rng():
        loop, history = _loop(job, strategy, seed, folder)
        run = replace(run, status="running", error=None, starts=(*run.starts, loop.step), directory=str(folder.path))
        writes = loop.accelerator.is_main_process
        if writes:
            folder.write_run(run)
        scorer = _Scorer(job, strategy, build_posthoc(strategy, job.counts), loop)
        while loop.epoch < job.settings.epochs:
            history.append({**loop.run_epoch(progress), **scorer.validate()})
            if writes:
                _checkpoint(folder, loop, history)
        predictions = {split: scorer.predictions(split) for split in SPLITS if split in job.pixels}
    seconds = run.seconds + time.monotonic() - clock
    run = replace(run, status="done", steps=loop.step, seconds=seconds, train_recall=_recall(predictions["train"]))
    if writes:
        model = loop.accelerator.unwrap_model(loop.model)
        folder.write_tensors("model.safetensors", model.state_dict(), {"model": job.settings.model})
        folder.write_history(history)
        _finish(folder, run, predictions)
    return run


def rescore(job: Job, strategy: Strategy, base: Run, *, seed: int, folder: RunFolder) -> Run:
    """A run of a strategy that reuses ``base``: its saved scores, corrected; nothing is trained."""
    run, clock = recorded(job, strategy, seed, folder), time.monotonic()
    if run.status == "done":
        return run
    source, adjust = RunFolder(base.directory), build_posthoc(strategy, job.counts)
    predictions = {
        split: replace(saved, logits=adjust(saved.logits))
        for split in SPLITS
        if (saved := source.read_predictions(split)) is not None
    }
    recall = _recall(predictions["train"]) if "train" in predictions else ()
    run = replace(run, status="done", seconds=time.monotonic() - clock, train_recall=recall, directory=str(folder.path))
    _finish(folder, run, predictions)
    return run


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
    )
    old = folder.read_run()
    if old is None:
        return new
    for what in ("strategy", "seed", "settings", "data", "classes", "train_counts"):
        before, now = getattr(old, what), getattr(new, what)
        if before != now:
            raise ArtifactError(
                f"{folder.path} holds another run: its {what} {_different(before, now)}; "
                "name another folder, or start again with `overwrite`"
            )
    return old


def _different(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(k for k in {**before, **now} if before.get(k) != now.get(k))
        return f"has {key} = {before.get(key)!r:.60}, asked for was {now.get(key)!r:.60}"
    return f"is {str(before)!r:.80}, asked for was {str(now)!r:.80}"


def _loop(job: Job, strategy: Strategy, seed: int, folder: RunFolder) -> tuple[Loop, list[Row]]:
    """The loop at its first step, or where the checkpoint left it."""
    torch.manual_seed(seed)
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if job.settings.pretrained else job.colours()
    settings = job.settings
    model = build_model(
        settings.model,
        job.counts.num_classes,
        pretrained=settings.pretrained,
        head=strategy.head,
        mean=mean,
        std=std,
    )
    if strategy.scores == "sigmoid" and isinstance(model.head, torch.nn.Linear):
        # Every class starts at probability 1/C (Cui et al. 2019, section 4.3): else the many noes swamp the start.
        torch.nn.init.constant_(model.head.bias, -math.log(max(1, job.counts.num_classes - 1)))
    labels = job.data.subset("train").labels
    order = build_order(strategy, labels, seed)
    loop = Loop(model, build_loss(strategy, job.counts), settings, seed, job.pixels["train"], order)
    saved = folder.read_tensors("checkpoint.safetensors")
    if saved is None:
        return loop, []
    loop.load_state(saved[0], step=int(saved[1]["step"]))
    return loop, folder.read_history()[: loop.epoch]


def _checkpoint(folder: RunFolder, loop: Loop, history: list[Row]) -> None:
    # History first: after an interruption between the two, its surplus row is dropped and made again.
    folder.write_history(history)
    folder.write_tensors("checkpoint.safetensors", loop.state(), {"step": str(loop.step)})


def _finish(folder: RunFolder, run: Run, predictions: dict[Split, Predictions]) -> None:
    """run.json last: a run that says "done" has all its files."""
    for split, scores in predictions.items():
        if split != "train" or scores.logits.size <= LARGEST_TRAIN_SCORES:
            folder.write_predictions(split, scores)
    folder.write_run(run)
    folder.forget_checkpoint()


@dataclass(frozen=True)
class _Scorer:
    """Final scores: the model's logits with the strategy's correction, and no class without training images."""

    job: Job
    strategy: Strategy
    adjust: Callable[[NDArray[np.floating[Any]]], NDArray[np.floating[Any]]]
    loop: Loop

    def scores(self, split: Split) -> NDArray[np.floating[Any]]:
        logits = self.loop.predict(self.job.pixels[split])
        if self.strategy.scores == "sigmoid":
            # log σ(z): its softmax shares out the classes' own probabilities, so that calibration has a meaning.
            logits = -np.logaddexp(0, -logits)
        logits[:, self.job.counts.counts == 0] = -np.inf
        return self.adjust(logits)

    def predictions(self, split: Split) -> Predictions:
        images = self.job.data.subset(split)
        classes = np.array(images.classes, dtype=np.str_)
        return Predictions(self.scores(split), images.labels, np.array(images.paths, dtype=np.str_), classes)

    def validate(self) -> Row:
        if "val" not in self.job.pixels:
            return {"val_loss": None, "val_accuracy": None, "val_balanced_accuracy": None}
        labels, scores = self.job.data.subset("val").labels, self.scores("val")
        predicted = scores.argmax(1)
        return {
            "val_loss": validation_loss(scores, labels),
            "val_accuracy": float((predicted == labels).mean()),
            "val_balanced_accuracy": float(metrics.balanced_accuracy(labels, predicted)),
        }


def _recall(predictions: Predictions) -> tuple[float | None, ...]:
    labels, classes = predictions.labels, len(predictions.classes)
    hits = np.bincount(labels[predictions.logits.argmax(1) == labels], minlength=classes)
    totals = np.bincount(labels, minlength=classes)
    return tuple(float(h / n) if n else None for h, n in zip(hits, totals, strict=True))
