"""The training of one model for one strategy, epoch by epoch, with checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise import hierarchy
from counterpoise.core.artifacts import Predictions, Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.images import Split
from counterpoise.hierarchy import ClassTree
from counterpoise.losses.base import Loss
from counterpoise.models import build_model
from counterpoise.models.build import IMAGENET_MEAN, IMAGENET_STD, Classifier
from counterpoise.workflow.training.loop import Progress, TrainingLoop
from counterpoise.workflow.training.posthoc import HistoryRow, LinearHead, apply_posthoc, validation_metrics
from counterpoise.workflow.training.recipe import ClassPrior, Recipe, build_recipe
from counterpoise.workflow.training.run_folder import RunFolder, linear_head
from counterpoise.workflow.training.setup import TrainingSetup

__all__ = ["Trainer", "leaf_log_probabilities", "new_model"]


@final
@dataclass
class Trainer:
    """Trains one model: the loop, what changes between its epochs, and the history so far."""

    setup: TrainingSetup
    strategy: Strategy
    recipe: Recipe
    loop: TrainingLoop
    history: list[HistoryRow]
    weights: list[list[float]]

    @classmethod
    def start(cls, setup: TrainingSetup, strategy: Strategy, seed: int, folder: RunFolder) -> Trainer:
        """A trainer at the first step, or where the checkpoint in the folder was written."""
        torch.manual_seed(seed)
        settings, tree = setup.settings, setup.class_tree(strategy)
        symmetries = frozenset(setup.data.symmetries)
        recipe = build_recipe(
            strategy,
            setup.train_labels,
            setup.counts,
            symmetries=symmetries,
            seed=seed,
            epochs=settings.epochs,
            tree=tree,
        )
        model = new_model(setup, strategy, setup.counts.num_classes, tree=tree)
        loop = TrainingLoop(model, recipe.loss, settings, seed, setup.images["train"], recipe.order, recipe.transform)
        trainer = cls(setup, strategy, recipe, loop, [], [])
        if recipe.retraining is not None:
            loop.schedule = replace(settings, epochs=recipe.retraining.first)
        trainer._load(folder)
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
        """Whether all epochs are done."""
        return self.loop.epoch >= self.setup.settings.epochs

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
        if retraining is not None and self.loop.epoch == retraining.first:
            self.start_second_stage()
        reweighting = self.recipe.reweighting
        if reweighting is not None:
            weight = reweighting.weight_at(self.loop.epoch)
            cast("Loss", self.loop.loss).reweight(weight)
            self.weights.append(weight.tolist())
        row = self.loop.run_epoch(progress)
        final = self._validation()
        if reweighting is not None and final is not None:
            reweighting.observe(final.labels, final.logits.argmax(1))
        self.history.append({**row, **validation_metrics(final)})

    def start_second_stage(self) -> None:
        """Initialise a new head from the seed and freeze the backbone; the learning rate starts anew."""
        retraining, settings, seed = self.recipe.retraining, self.setup.settings, self.loop.seed
        assert retraining is not None, "only a strategy with a second stage starts one"
        model = cast("Classifier", self.loop.unwrapped_model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            cast("torch.nn.Linear", model.head).reset_parameters()
        first_step = retraining.first * settings.steps_per_epoch
        schedule = replace(settings, epochs=settings.epochs - retraining.first, warmup=0.0)
        images, recipe = self.setup.images["train"], self.recipe
        self.loop = TrainingLoop(
            model, recipe.loss, settings, seed, images, retraining.order, recipe.transform,
            schedule=schedule, first_step=first_step, head_only=True, step=first_step,
        )  # fmt: skip

    def save(self, folder: RunFolder) -> None:
        """Write history and checkpoint."""
        # History first: after an interruption between the two, its surplus row is dropped and written again.
        folder.write_history(self.history)
        if self.weights:
            folder.write_weights(self.setup.counts.names, self.weights)
        state = {} if self.recipe.reweighting is None else self.recipe.reweighting.state_dict()
        tensors = {f"reweighting.{name}": torch.from_numpy(value) for name, value in state.items()}
        folder.write_tensors("checkpoint.safetensors", {**self.loop.state(), **tensors}, {"step": str(self.loop.step)})

    def raw_predictions(self, split: Split) -> Predictions:
        """The logits of the model before any post-hoc method."""
        logits: NDArray[np.floating[Any]] = self.loop.predict(self.setup.images[split])
        if self.strategy.scores == "sigmoid":
            # log σ(z): its softmax divides the probabilities of the classes by their sum, so that calibration is
            # defined.
            logits = -np.logaddexp(0, -logits)
        if self.recipe.tree is not None:
            logits = leaf_log_probabilities(logits, self.recipe.tree, self.setup.counts)
        return self.setup.predictions(split, logits)

    def _load(self, folder: RunFolder) -> None:
        """Restore the checkpoint, if there is one."""
        saved = folder.read_tensors("checkpoint.safetensors")
        if saved is None:
            return
        tensors, step = saved[0], int(saved[1]["step"])
        retraining, reweighting = self.recipe.retraining, self.recipe.reweighting
        if retraining is not None and step > retraining.first * self.setup.settings.steps_per_epoch:
            self.start_second_stage()
        self.loop.load_state(tensors, step=step)
        if reweighting is not None:
            prefix = "reweighting."
            state = {k.removeprefix(prefix): v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
            reweighting.load_state_dict(state)
        done = self.loop.epoch
        self.history, self.weights = folder.read_history()[:done], folder.read_weights()[:done]

    def _validation(self) -> Predictions | None:
        """Final predictions on validation; None without validation images."""
        if "val" not in self.setup.images:
            return None
        raw: dict[Split, Predictions] = {"val": self.raw_predictions("val")}
        return apply_posthoc(self.strategy, self.prior, raw, self.linear_head)[0]["val"]


def leaf_log_probabilities(
    logits: NDArray[np.floating[Any]], tree: ClassTree, counts: ClassCounts
) -> NDArray[np.float32]:
    """Log-probabilities of the classes from edge logits; a child without training images gets probability 0."""
    images = tree.node_counts(counts.counts)
    empty = (images[1:] == 0) & (images[tree.parents[1:]] > 0)
    leaves = hierarchy.leaf_log_probabilities(np.where(empty, -np.inf, logits), tree)
    return leaves.astype(np.float32)


def new_model(
    setup: TrainingSetup, strategy: Strategy, num_classes: int, *, tree: ClassTree | None = None
) -> Classifier:
    """An untrained model with the head of the strategy, for ``num_classes`` or for the edges of a tree."""
    settings = setup.settings
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if settings.pretrained else setup.channel_statistics()
    model = build_model(
        settings.model,
        num_classes,
        pretrained=settings.pretrained,
        head=strategy.head,
        tree=tree,
        mean=mean,
        std=std,
    )
    if strategy.scores == "sigmoid" and isinstance(model.head, torch.nn.Linear):
        # Every class starts at probability 1/C (Cui et al. 2019, section 4.3); otherwise the many negatives dominate
        # the first steps.
        torch.nn.init.constant_(model.head.bias, -math.log(max(1, num_classes - 1)))
    return model
