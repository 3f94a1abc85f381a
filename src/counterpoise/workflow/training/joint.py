"""A training in progress: one model, epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

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
from counterpoise.workflow.training.build import Known, Recipe
from counterpoise.workflow.training.correcting import Row, corrected, validated
from counterpoise.workflow.training.folder import RunFolder
from counterpoise.workflow.training.job import Job
from counterpoise.workflow.training.loop import Loop, Progress

__all__ = ["JointTraining", "leaf_scores", "new_model", "scored"]


@dataclass
class JointTraining:
    """The loop, what changes between its epochs, and what it has logged."""

    job: Job
    strategy: Strategy
    recipe: Recipe
    loop: Loop
    history: list[Row]
    weights: list[list[float]]

    @classmethod
    def begin(cls, job: Job, strategy: Strategy, seed: int, folder: RunFolder) -> JointTraining:
        """At the first step, or where the checkpoint left it."""
        torch.manual_seed(seed)
        recipe = job.recipe(strategy, seed)
        model = new_model(job, strategy, job.counts.num_classes, tree=recipe.known.tree)
        loop = Loop(model, recipe.loss, job.settings, seed, job.pixels["train"], recipe.order, recipe.treatment)
        training = cls(job, strategy, recipe, loop, [], [])
        if recipe.retraining is not None:
            loop.schedule = replace(job.settings, epochs=recipe.retraining.first)
        saved = folder.read_tensors("checkpoint.safetensors")
        if saved is None:
            return training
        tensors, step = saved[0], int(saved[1]["step"])
        if recipe.retraining is not None and step > recipe.retraining.first * job.settings.steps_per_epoch:
            training.begin_second_stage()
        training.loop.load_state(tensors, step=step)
        if recipe.reweighting is not None:
            prefix = "reweighting."
            state = {k.removeprefix(prefix): v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
            recipe.reweighting.load_state_dict(state)
        done = training.loop.epoch
        training.history, training.weights = folder.read_history()[:done], folder.read_weights()[:done]
        return training

    @property
    def known(self) -> Known:
        """What a correction afterwards may know."""
        return self.recipe.known

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self.loop.step

    @property
    def done(self) -> bool:
        """Is there no epoch left?"""
        return self.loop.epoch >= self.job.settings.epochs

    def model_state(self) -> dict[str, Tensor]:
        """The weights of the model."""
        state: dict[str, Tensor] = self.loop.accelerator.unwrap_model(self.loop.model).state_dict()
        return state

    def run_epoch(self, progress: Progress) -> None:
        """Train and validate once; weights that change do so in between."""
        retraining = self.recipe.retraining
        if retraining is not None and self.loop.epoch == retraining.first:
            self.begin_second_stage()
        reweighting = self.recipe.reweighting
        if reweighting is not None:
            weight = reweighting.weight_at(self.loop.epoch)
            cast("Loss", self.loop.loss).reweight(weight)
            self.weights.append(weight.tolist())
        row = self.loop.run_epoch(progress)
        labels, scores = self._validation()
        if reweighting is not None and len(labels):
            reweighting.observe(labels, scores.argmax(1))
        self.history.append({**row, **validated(labels, scores)})

    def begin_second_stage(self) -> None:
        """A new head, drawn from the seed, and a schedule of its own; the backbone learns no more."""
        retraining, settings, seed = self.recipe.retraining, self.job.settings, self.loop.seed
        assert retraining is not None, "only a strategy with a second stage begins one"
        model = cast("Classifier", self.loop.bare)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            cast("torch.nn.Linear", model.head).reset_parameters()
        begins = retraining.first * settings.steps_per_epoch
        schedule = replace(settings, epochs=settings.epochs - retraining.first, warmup=0.0)
        pixels, recipe = self.job.pixels["train"], self.recipe
        self.loop = Loop(
            model, recipe.loss, settings, seed, pixels, retraining.order, recipe.treatment,
            schedule=schedule, begins=begins, only_head=True, step=begins,
        )  # fmt: skip

    def save(self, folder: RunFolder) -> None:
        """Leave what a continuation needs."""
        # History first: after an interruption between the two, its surplus row is dropped and made again.
        folder.write_history(self.history)
        if self.weights:
            folder.write_weights(self.job.counts.names, self.weights)
        state = {} if self.recipe.reweighting is None else self.recipe.reweighting.state_dict()
        tensors = {f"reweighting.{name}": torch.from_numpy(value) for name, value in state.items()}
        folder.write_tensors("checkpoint.safetensors", {**self.loop.state(), **tensors}, {"step": str(self.loop.step)})

    def raw(self, split: Split) -> Predictions:
        """The model's scores before any correction; a class without training images is never predicted."""
        logits: NDArray[np.floating[Any]] = self.loop.predict(self.job.pixels[split])
        if self.strategy.scores == "sigmoid":
            # log σ(z): its softmax shares out the classes' own probabilities, so that calibration has a meaning.
            logits = -np.logaddexp(0, -logits)
        if self.known.tree is not None:
            logits = leaf_scores(logits, self.known.tree, self.job.counts)
        return scored(self.job, split, logits)

    def _validation(self) -> tuple[NDArray[np.int64], NDArray[np.floating[Any]]]:
        if "val" not in self.job.pixels:
            return np.empty(0, np.int64), np.empty((0, self.job.counts.num_classes))
        final = corrected(self.strategy, self.known, {"val": self.raw("val")})[0]["val"]
        return final.labels, final.logits


def scored(job: Job, split: Split, logits: NDArray[np.floating[Any]]) -> Predictions:
    """Scores with their images; a class without training images is never predicted."""
    images = job.data.subset(split)
    logits[:, job.counts.counts == 0] = -np.inf
    classes = np.array(images.classes, dtype=np.str_)
    return Predictions(logits, images.labels, np.array(images.paths, dtype=np.str_), classes)


def leaf_scores(logits: NDArray[np.floating[Any]], tree: ClassTree, counts: ClassCounts) -> NDArray[np.float32]:
    """Log-probabilities of the classes from edge logits; a child without training images gets none of its node."""
    images = tree.node_counts(counts.counts)
    lost = (images[1:] == 0) & (images[tree.parents[1:]] > 0)
    leaves = hierarchy.leaf_log_probabilities(np.where(lost, -np.inf, logits), tree)
    return leaves.astype(np.float32)


def new_model(job: Job, strategy: Strategy, outputs: int, *, tree: ClassTree | None = None) -> Classifier:
    """The model of a job with the head of a strategy: ``outputs`` classes, or the edges of a tree."""
    settings = job.settings
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if settings.pretrained else job.colours()
    model = build_model(
        settings.model,
        outputs,
        pretrained=settings.pretrained,
        head=strategy.head,
        tree=tree,
        mean=mean,
        std=std,
    )
    if strategy.scores == "sigmoid" and isinstance(model.head, torch.nn.Linear):
        # Every class starts at probability 1/C (Cui et al. 2019, section 4.3): else the many noes swamp the start.
        torch.nn.init.constant_(model.head.bias, -math.log(max(1, outputs - 1)))
    return model
