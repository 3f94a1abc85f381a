"""fit: the steps of one run, and what it leaves in its folder."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from counterpoise import metrics
from counterpoise.core.artifacts import Predictions, Run, Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.core.images import SPLITS, LabeledImages, Split
from counterpoise.models import build_model, check_model
from counterpoise.models.build import IMAGENET_MEAN, IMAGENET_STD
from counterpoise.workflow.evaluation import Fitted, cross_fitted
from counterpoise.workflow.training.build import (
    Known,
    Recipe,
    build,
    build_posthoc,
    corrections,
    needs_validation,
)
from counterpoise.workflow.training.environment import environment
from counterpoise.workflow.training.folder import RunFolder
from counterpoise.workflow.training.loop import Loop, Progress, validation_loss
from counterpoise.workflow.training.pixels import Pixels
from counterpoise.workflow.training.settings import Resolved, Settings

__all__ = ["Job", "check_validation", "fit", "recorded", "rescore"]

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

    def recipe(self, strategy: Strategy, seed: int) -> Recipe:
        """The strategy as functions, for the training images."""
        labels = self.data.subset("train").labels
        symmetries = frozenset(self.data.symmetries)
        epochs = self.settings.epochs
        return build(strategy, labels, self.counts, symmetries=symmetries, seed=seed, epochs=epochs)

    def doubts(self, strategy: Strategy) -> tuple[str, ...]:
        """What to tell about a strategy before it runs: that it corrects the prior more than once."""
        told = corrections(strategy, self.counts, self.recipe(strategy, 0).order.prior)
        return () if told is None else (told,)

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
        training = _Training.begin(job, strategy, seed, folder)
        loop = training.loop
        run = replace(run, status="running", error=None, starts=(*run.starts, loop.step), directory=str(folder.path))
        writes = loop.accelerator.is_main_process
        if writes:
            folder.write_run(run)
        while loop.epoch < job.settings.epochs:
            training.run_epoch(progress)
            if writes:
                training.save(folder)
        raw = {split: training.raw(split) for split in SPLITS if split in job.pixels}
    predictions, fitted = corrected(strategy, training.known, raw)
    seconds = run.seconds + time.monotonic() - clock
    run = replace(run, status="done", steps=loop.step, seconds=seconds, train_recall=_recall(predictions["train"]))
    run = replace(run, prior=_prior_left(strategy, training.known), fitted=fitted.parameters)
    if writes:
        model = loop.accelerator.unwrap_model(loop.model)
        folder.write_tensors("model.safetensors", model.state_dict(), {"model": job.settings.model})
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


def corrected(
    strategy: Strategy, known: Known, raw: dict[Split, Predictions]
) -> tuple[dict[Split, Predictions], Fitted]:
    """The final scores of each split, with the strategy's correction, and what was fitted for it on validation.

    Where something was, each validation image is corrected by a fit to the others: numbers on validation then mean
    what they mean for strategies that fit nothing there.
    """
    fit = build_posthoc(strategy, known)
    val = raw.get("val")
    scores, labels = (np.empty((0, 0)), np.empty(0, np.int64)) if val is None else (val.logits, val.labels)
    fitted = fit(scores, labels)
    final = {split: replace(here, logits=fitted.apply(here.logits)) for split, here in raw.items()}
    if val is not None and needs_validation(strategy):
        final["val"] = replace(val, logits=cross_fitted(fit, scores, labels))
    return final, fitted


def check_validation(strategy: Strategy, data: LabeledImages) -> None:
    """Raise `ArgumentError` where a strategy fits something on validation images and there are none."""
    what = needs_validation(strategy)
    if what and not len(data.subset("val")):
        raise ArgumentError(
            f"strategy {strategy.name!r} fits {what} on validation images, and {data.name} has none; add a val split, "
            "or let one be drawn with `val_fraction`"
        )


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


@dataclass
class _Training:
    """One training in progress: the loop, what changes between its epochs, and what it has logged."""

    job: Job
    strategy: Strategy
    recipe: Recipe
    loop: Loop
    history: list[Row]
    weights: list[list[float]]

    @classmethod
    def begin(cls, job: Job, strategy: Strategy, seed: int, folder: RunFolder) -> _Training:
        """At the first step, or where the checkpoint left it."""
        torch.manual_seed(seed)
        recipe = job.recipe(strategy, seed)
        model = _model(job, strategy)
        loop = Loop(model, recipe.loss, job.settings, seed, job.pixels["train"], recipe.order, recipe.treatment)
        saved = folder.read_tensors("checkpoint.safetensors")
        if saved is None:
            return cls(job, strategy, recipe, loop, [], [])
        tensors, step = saved[0], int(saved[1]["step"])
        loop.load_state(tensors, step=step)
        if recipe.reweighting is not None:
            prefix = "reweighting."
            state = {k.removeprefix(prefix): v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
            recipe.reweighting.load_state_dict(state)
        done = loop.epoch
        return cls(job, strategy, recipe, loop, folder.read_history()[:done], folder.read_weights()[:done])

    @property
    def known(self) -> Known:
        return self.recipe.known

    def run_epoch(self, progress: Progress) -> None:
        """Train and validate once; weights that change do so in between."""
        reweighting = self.recipe.reweighting
        if reweighting is not None:
            weight = reweighting.weight_at(self.loop.epoch)
            self.loop.loss.reweight(weight)
            self.weights.append(weight.tolist())
        row = self.loop.run_epoch(progress)
        labels, scores = self._validation()
        if reweighting is not None and len(labels):
            reweighting.observe(labels, scores.argmax(1))
        self.history.append({**row, **_validated(labels, scores)})

    def save(self, folder: RunFolder) -> None:
        # History first: after an interruption between the two, its surplus row is dropped and made again.
        folder.write_history(self.history)
        if self.weights:
            folder.write_weights(self.job.counts.names, self.weights)
        state = {} if self.recipe.reweighting is None else self.recipe.reweighting.state_dict()
        tensors = {f"reweighting.{name}": torch.from_numpy(value) for name, value in state.items()}
        folder.write_tensors("checkpoint.safetensors", {**self.loop.state(), **tensors}, {"step": str(self.loop.step)})

    def raw(self, split: Split) -> Predictions:
        """The model's scores before any correction; a class without training images is never predicted."""
        images = self.job.data.subset(split)
        logits = self.loop.predict(self.job.pixels[split])
        if self.strategy.scores == "sigmoid":
            # log σ(z): its softmax shares out the classes' own probabilities, so that calibration has a meaning.
            logits = -np.logaddexp(0, -logits)
        logits[:, self.job.counts.counts == 0] = -np.inf
        classes = np.array(images.classes, dtype=np.str_)
        return Predictions(logits, images.labels, np.array(images.paths, dtype=np.str_), classes)

    def _validation(self) -> tuple[NDArray[np.int64], NDArray[np.floating[Any]]]:
        if "val" not in self.job.pixels:
            return np.empty(0, np.int64), np.empty((0, self.job.counts.num_classes))
        final = corrected(self.strategy, self.known, {"val": self.raw("val")})[0]["val"]
        return final.labels, final.logits


def _model(job: Job, strategy: Strategy) -> torch.nn.Module:
    settings = job.settings
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if settings.pretrained else job.colours()
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
    return model


def _finish(folder: RunFolder, run: Run, predictions: dict[Split, Predictions]) -> None:
    """run.json last: a run that says "done" has all its files."""
    for split, scores in predictions.items():
        if split != "train" or scores.logits.size <= LARGEST_TRAIN_SCORES:
            folder.write_predictions(split, scores)
    folder.write_run(run)
    folder.forget_checkpoint()


def _validated(labels: NDArray[np.int64], scores: NDArray[np.floating[Any]]) -> Row:
    if not len(labels):
        return {"val_loss": None, "val_accuracy": None, "val_balanced_accuracy": None}
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
