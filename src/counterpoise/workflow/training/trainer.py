"""The training of the model of a strategy, with checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, cast, final

import numpy as np
import torch
from torch import Tensor

from counterpoise.core.artifacts import LogitTransform, Predictions, Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.images import Split
from counterpoise.hierarchy import ClassTree
from counterpoise.losses.base import Loss
from counterpoise.models import build_model, load_weights
from counterpoise.models.build import IMAGENET_MEAN, IMAGENET_STD, Classifier
from counterpoise.posthoc import apply_transforms
from counterpoise.weights import AdaptiveWeights, DeferredWeights
from counterpoise.workflow.evaluation import FittedMethod
from counterpoise.workflow.training.loop import Progress, TrainingLoop
from counterpoise.workflow.training.optimizers import expected_state, is_group_value, with_current_names
from counterpoise.workflow.training.posthoc import HistoryRow, LinearHead, apply_posthoc, validation_metrics
from counterpoise.workflow.training.recipe import ClassPrior, Recipe, build_recipe
from counterpoise.workflow.training.run_folder import RunFolder, linear_head
from counterpoise.workflow.training.selection import EpochSelection
from counterpoise.workflow.training.setup import TrainingSetup

_BEST = "best."
"""Prefix of the weights of the best epoch in a checkpoint."""


@final
@dataclass
class Trainer:
    """Trains one model: the loop, what changes between its epochs, the best epoch, and the history so far."""

    setup: TrainingSetup
    strategy: Strategy
    recipe: Recipe
    loop: TrainingLoop
    selection: EpochSelection
    history: list[HistoryRow]
    class_weight_history: list[list[float]]

    @classmethod
    def create_or_resume(cls, setup: TrainingSetup, strategy: Strategy, seed: int, folder: RunFolder) -> Trainer:
        """A trainer at the first step, or where the checkpoint in the folder was written."""
        torch.manual_seed(seed)
        settings, tree = setup.settings, setup.class_tree(strategy)
        symmetries = frozenset(setup.data.symmetries)
        recipe = build_recipe(
            strategy, setup.train_labels, setup.counts,
            symmetries=symmetries, seed=seed, epochs=settings.epochs, tree=tree,
        )  # fmt: skip
        start = setup.initial_weights(strategy, seed)
        model = new_model(setup, strategy, setup.counts.num_classes, tree=tree, start=start)
        loop = TrainingLoop(model, recipe.loss, settings, seed, setup.images["train"], recipe.order, recipe.transform)
        trainer = cls(setup, strategy, recipe, loop, EpochSelection.of(recipe, settings), [], [])
        if recipe.retraining is not None:
            loop.schedule = replace(settings, epochs=recipe.retraining.start_epoch).learning_rate_at
        folder.load_checkpoint(partial(trainer._load, folder))
        return trainer

    @property
    def prior(self) -> ClassPrior:
        """The class prior of the strategy."""
        return self.recipe.prior

    @property
    def step(self) -> int:
        """Number of optimiser steps done."""
        return self.loop.step

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the training has stopped early."""
        return self.loop.epoch >= self.setup.settings.epochs or self.selection.stops

    @property
    def linear_head(self) -> LinearHead | None:
        """Weight and bias of the head, if it is linear."""
        return linear_head(self.model_state())

    def model_state(self) -> dict[str, Tensor]:
        """The state dict of the model."""
        state: dict[str, Tensor] = self.loop.accelerator.unwrap_model(self.loop.model).state_dict()
        return state

    def run_epoch(self, progress: Progress) -> None:
        """Train for one epoch and validate; class weights that change do so between epochs."""
        retraining = self.recipe.retraining
        if retraining is not None and self.loop.epoch == retraining.start_epoch:
            self.start_second_stage()
        self._reweight()
        row = self.loop.run_epoch(progress)
        final = final_predictions(self, ["val"])[0].get("val")
        if self._adaptive is not None and final is not None:
            self._adaptive.update(final.labels, final.logits.argmax(1))
        self.history.append({**row, **validation_metrics(final, self.setup.settings.select_by)})
        self.selection.update(self.history[-1], self.model_state)

    def keep_epoch(self) -> EpochSelection:
        """Give the model of a finished training the weights of the epoch to keep."""
        if self.selection.keeps_best:
            self.loop.accelerator.unwrap_model(self.loop.model).load_state_dict(self.selection.weights)
        return self.selection

    @property
    def _adaptive(self) -> AdaptiveWeights | None:
        """The class weights that adapt to validation, if the strategy has them."""
        return self.recipe.reweighting if isinstance(self.recipe.reweighting, AdaptiveWeights) else None

    def _reweight(self) -> None:
        """Set the class weights of the epoch that begins, if the strategy changes them."""
        rule, epochs = self.recipe.reweighting, self.setup.settings.epochs
        if rule is not None:
            epoch = self.loop.epoch
            weight = rule.weight_at(epoch, epochs=epochs) if isinstance(rule, DeferredWeights) else rule.weight
            cast("Loss", self.loop.loss).reweight(weight)
            self.class_weight_history.append(weight.tolist())

    def start_second_stage(self) -> None:
        """Initialise a new head from the seed and freeze the backbone; the learning rate starts anew."""
        retraining, settings, seed = self.recipe.retraining, self.setup.settings, self.loop.seed
        assert retraining is not None, "only a strategy with a second stage starts one"
        model = cast("Classifier", self.loop.unwrapped_model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            cast("torch.nn.Linear", model.head).reset_parameters()
        first_step = retraining.start_epoch * settings.steps_per_epoch
        schedule = replace(settings, epochs=settings.epochs - retraining.start_epoch, warmup=0.0)
        images, recipe = self.setup.images["train"], self.recipe
        self.loop = TrainingLoop(
            model, recipe.loss, settings, seed, images, retraining.order, recipe.transform,
            schedule=schedule.learning_rate_at, first_step=first_step, head_only=True, step=first_step,
        )  # fmt: skip

    def save(self, folder: RunFolder) -> None:
        """Write history and checkpoint."""
        # History first: after an interruption between the two, its surplus row is dropped and written again.
        folder.write_history(self.history)
        if self.class_weight_history:
            folder.write_weights(self.setup.counts.names, self.class_weight_history)
        metadata = {"step": str(self.loop.step)}
        if self.selection.keeps_best:
            metadata["best_epoch"] = str(self.selection.best_epoch)
        folder.write_checkpoint(self._state(), metadata)

    def raw_predictions(self, split: Split) -> Predictions:
        """The logits of the model before any post-hoc method."""
        logits = apply_transforms(self.loop.predict(self.setup.images[split]), self.transforms)
        return self.setup.predictions(split, logits)

    @property
    def transforms(self) -> tuple[LogitTransform, ...]:
        """The steps from the output of the model to logits of the classes."""
        steps = () if self.strategy.scores != "sigmoid" else (LogitTransform("log_sigmoid"),)
        return (*steps, *class_logits(self.setup.counts, self.recipe.tree))

    def _state(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint: the state of the loop, of class weights that adapt, and the best weights."""
        state = {} if self._adaptive is None else self._adaptive.state_dict()
        tensors = {f"reweighting.{name}": torch.from_numpy(value) for name, value in state.items()}
        best = {f"{_BEST}{name}": value for name, value in self.selection.weights.items()}
        return {**self.loop.state_dict(), **tensors, **best}

    def _load(self, folder: RunFolder, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Restore a checkpoint; raises ValueError before anything is changed if it does not fit this run."""
        per_epoch, retraining = self.setup.settings.steps_per_epoch, self.recipe.retraining
        ends = [per_epoch * (epoch + 1) for epoch in range(self.setup.settings.epochs)]
        step = ends[position(metadata, "step", ends)]
        history = history_until(folder, ends[: step // per_epoch])
        weights = [] if self.recipe.reweighting is None else folder.read_weights()[: len(history)]
        if self.recipe.reweighting is not None and len(weights) < len(history):
            raise ValueError("weights.json has fewer epochs")
        second_stage = retraining is not None and step > retraining.start_epoch * per_epoch
        selection = EpochSelection(self.setup.settings, self.selection.before)
        best = {name.removeprefix(_BEST): value for name, value in tensors.items() if name.startswith(_BEST)}
        for row in history:
            selection.update(row, lambda: best)
        if selection.keeps_best and metadata.get("best_epoch") != str(selection.best_epoch):
            raise ValueError("history.csv has another best epoch")
        tensors = with_current_names(tensors)
        self._check_tensors(
            tensors, second_stage=second_stage, has_best=selection.keeps_best and selection.best_epoch > 0
        )
        if second_stage:
            self.start_second_stage()
        self.loop.load_state_dict(tensors, step=step)
        if self._adaptive is not None:
            prefix = "reweighting."
            state = {k.removeprefix(prefix): v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
            self._adaptive.load_state_dict(state)
        self.history, self.class_weight_history, self.selection = history, weights, selection

    def _check_tensors(self, tensors: dict[str, Tensor], *, second_stage: bool, has_best: bool) -> None:
        """Raise ValueError unless a checkpoint has the tensors of this run."""
        model = cast("Classifier", self.loop.unwrapped_model)
        parameters = (model.head if second_stage else model).parameters()
        expected = expected_state(self.setup.settings, parameters)
        expected |= self._state()
        if has_best:
            expected |= {f"{_BEST}{name}": value for name, value in self.model_state().items()}
        for name in sorted(name for name in tensors.keys() | expected.keys() if not is_group_value(name)):
            got, own = tensors.get(name), expected.get(name)
            if got is None or own is None or (got.shape, got.dtype) != (own.shape, own.dtype):
                raise ValueError(f"tensor {name!r} does not fit this run")


class Trained(Protocol):
    """What final predictions are made from: one model, or one per inner node of the class tree."""

    setup: TrainingSetup
    strategy: Strategy

    @property
    def prior(self) -> ClassPrior:
        """The class prior that remains in the logits."""

    @property
    def linear_head(self) -> LinearHead | None:
        """The last layer, if post-hoc methods may scale its rows."""

    def raw_predictions(self, split: Split) -> Predictions:
        """Logits of the classes, before the post-hoc method."""


def position(metadata: dict[str, str], name: str, ends: list[int]) -> int:
    """The index in ``ends`` of a number in the metadata of a checkpoint."""
    texts = [str(end) for end in ends]
    if metadata.get(name) not in texts:
        raise ValueError(f"`{name}` is {str(metadata.get(name))[:20]!r}, which is not the end of an epoch")
    return texts.index(metadata[name])


def history_until(folder: RunFolder, ends: list[int]) -> list[HistoryRow]:
    """The rows of history.csv up to a checkpoint; ``ends`` are the steps at the end of their epochs."""
    rows = folder.read_history()[: len(ends)]
    if [(row["epoch"], row["step"]) for row in rows] != list(enumerate(ends, start=1)):
        raise ValueError("history.csv has other epochs or steps")
    return rows


def final_predictions(trainer: Trained, splits: Sequence[Split]) -> tuple[dict[Split, Predictions], FittedMethod]:
    """Predictions on those of ``splits`` that have images, after the post-hoc method of the strategy."""
    raw = {split: trainer.raw_predictions(split) for split in splits if split in trainer.setup.images}
    return apply_posthoc(trainer.strategy, trainer.prior, raw, trainer.linear_head)


def class_logits(counts: ClassCounts, tree: ClassTree | None) -> tuple[LogitTransform, ...]:
    """The steps to logits of the classes: from edge logits if there is a tree; none without training images wins."""
    steps = []
    if tree is not None:
        images = tree.node_counts(counts.counts)
        empty = np.flatnonzero((images[1:] == 0) & (images[tree.parents[1:]] > 0))
        parameters = {"tree": tree.to_dict(), "empty": empty.tolist()}
        steps.append(LogitTransform("leaf_log_probabilities", parameters))
    if not counts.counts.all():
        steps.append(LogitTransform("exclude", {"classes": np.flatnonzero(counts.counts == 0).tolist()}))
    return tuple(steps)


def new_model(
    setup: TrainingSetup,
    strategy: Strategy,
    num_classes: int,
    *,
    tree: ClassTree | None = None,
    start: dict[str, Tensor] | None = None,
) -> Classifier:
    """The model at the first step, with the head of the strategy for ``num_classes`` or for the edges of a tree.

    ``start`` is its state dict; None for an untrained head, on an untrained or a pretrained backbone.
    """
    settings = setup.settings
    is_transfer = settings.pretrained or settings.weights is not None
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if is_transfer else setup.channel_statistics()
    model = build_model(
        settings.custom or settings.model,
        num_classes,
        pretrained=settings.pretrained and start is None,
        head=strategy.head,
        tree=tree,
        mean=mean,
        std=std,
    )
    if start is not None:
        model.load_state_dict(start)
        return model
    if settings.weights is not None:
        load_weights(model, settings.weights)
    if strategy.scores == "sigmoid" and isinstance(model.head, torch.nn.Linear):
        # Every class starts at probability 1/C (Cui et al. 2019, section 4.3); otherwise the many negatives dominate
        # the first steps.
        torch.nn.init.constant_(model.head.bias, -math.log(max(1, num_classes - 1)))
    return model
