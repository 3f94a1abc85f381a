"""The training of one model per inner node of the class tree, with checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise.core.artifacts import LogitTransform, Predictions, Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.images import Split
from counterpoise.hierarchy import ClassTree
from counterpoise.posthoc import apply_transforms
from counterpoise.workflow.training.loop import Progress, TrainingLoop
from counterpoise.workflow.training.posthoc import HistoryRow, validation_metrics
from counterpoise.workflow.training.recipe import ClassPrior, build_recipe
from counterpoise.workflow.training.run_folder import RunFolder
from counterpoise.workflow.training.selection import EpochSelection
from counterpoise.workflow.training.setup import TrainingSetup
from counterpoise.workflow.training.trainer import (
    class_logits,
    final_predictions,
    history_until,
    new_model,
    position,
)


@final
@dataclass
class SeparateTrainer:
    """Trains a model for each inner node, on the images below it with its children as classes.

    Together the models take as many steps as any other strategy, each in proportion to its images. Each
    node is one epoch of the training loop: after each a checkpoint is written, and the history has a row, whose "epoch"
    is the number of models trained so far.
    """

    setup: TrainingSetup
    strategy: Strategy
    seed: int
    tree: ClassTree
    prior: ClassPrior
    steps: list[int]
    nodes: list[int]
    logits: dict[Split, NDArray[np.float32]]
    model_states: dict[str, Tensor] = field(default_factory=dict)
    history: list[HistoryRow] = field(default_factory=list)
    trained: int = 0
    linear_head: None = None

    @classmethod
    def create_or_resume(
        cls, setup: TrainingSetup, strategy: Strategy, seed: int, folder: RunFolder
    ) -> SeparateTrainer:
        """A trainer at the first node, or after the last one in the checkpoint."""
        tree = setup.class_tree(strategy)
        assert tree is not None, "a separate strategy has the hierarchical head"
        images = tree.node_counts(setup.counts.counts)
        nodes = [int(node) for node in tree.parents[tree.starts + 1] if _is_branching(tree, images, int(node))]
        steps = _steps_per_node(setup.settings.steps, [int(images[node]) for node in nodes])
        logits = {
            split: np.zeros((len(tensors), tree.num_edges), dtype=np.float32) for split, tensors in setup.images.items()
        }
        prior = replace(setup.class_prior(strategy), logit_prior=None)
        trainer = cls(setup, strategy, seed, tree, prior, steps, nodes, logits)
        folder.load_checkpoint(partial(trainer._load, folder))
        return trainer

    @property
    def step(self) -> int:
        """Number of optimiser steps done, over all nodes."""
        return sum(self.steps[: self.trained])

    @property
    def finished(self) -> bool:
        """Whether the models of all nodes are trained."""
        return self.trained == len(self.nodes)

    def run_epoch(self, progress: Progress) -> None:
        """Train the model of the next node, and keep its logits for all images."""
        node, before = self.nodes[self.trained], self.step
        torch.manual_seed(self.seed * 1_000_003 + node)
        loop = self._loop(node)
        row = loop.run_epoch(lambda step: progress(before + step))
        edges = self.tree.children(node) - 1
        for split, logits in self.logits.items():
            logits[:, edges] = loop.predict(self.setup.images[split])
        state = loop.accelerator.unwrap_model(loop.model).state_dict()
        # Copies, because the checkpoint is written later.
        self.model_states |= {f"node{node}.{name}": value.detach().cpu().clone() for name, value in state.items()}
        self.trained += 1
        # Before the last node is trained, there are no predictions of the classes.
        final = final_predictions(self, ["val"])[0].get("val") if self.finished else None
        self.history.append({**row, "epoch": self.trained, "step": self.step, **validation_metrics(final)})

    def keep_epoch(self) -> EpochSelection:
        """Nothing to choose: each model is trained in one epoch of the loop."""
        return EpochSelection(self.setup.settings, epoch=self.setup.settings.epochs)

    def model_state(self) -> dict[str, Tensor]:
        """The weights of all models, with the number of the node as prefix."""
        return self.model_states

    def save(self, folder: RunFolder) -> None:
        """Write history and checkpoint."""
        folder.write_history(self.history)
        logits = {f"logits.{split}": torch.from_numpy(value) for split, value in self.logits.items()}
        folder.write_checkpoint({**self.model_states, **logits}, {"trained": str(self.trained)})

    def raw_predictions(self, split: Split) -> Predictions:
        """Log-probabilities of the classes from the logits of the nodes."""
        return self.setup.predictions(split, apply_transforms(self.logits[split], self.transforms))

    @property
    def transforms(self) -> tuple[LogitTransform, ...]:
        """The steps from the logits of the nodes to logits of the classes."""
        return class_logits(self.setup.counts, self.tree)

    def _load(self, folder: RunFolder, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Restore a checkpoint; raises ValueError before anything is changed if it does not fit this run."""
        ends = list(range(1, len(self.nodes) + 1))
        trained = ends[position(metadata, "trained", ends)]
        history = history_until(folder, np.cumsum(self.steps)[:trained].tolist())
        states = {name: value for name, value in tensors.items() if name.startswith("node")}
        logits = {name.removeprefix("logits."): value.numpy() for name, value in tensors.items() if name not in states}
        shapes = {split: value.shape for split, value in self.logits.items()}
        if {split: value.shape for split, value in logits.items()} != shapes:
            raise ValueError("its logits have other shapes")
        if {name.partition(".")[0] for name in states} != {f"node{node}" for node in self.nodes[:trained]}:
            raise ValueError("it has the weights of other nodes")
        self.trained, self.history, self.model_states = trained, history, states
        self.logits = {split: logits[split] for split in self.logits}

    def _loop(self, node: int) -> TrainingLoop:
        """The training loop of the model of one node."""
        children = self.tree.children(node)
        child_of_class = np.full(self.tree.num_classes, -1)
        for c, leaf in enumerate(self.tree.leaves):
            path = self.tree.ancestors(int(leaf))
            child_of_class[c] = next((k for k, child in enumerate(children) if child in path), -1)
        labels = child_of_class[self.setup.train_labels]
        rows = np.flatnonzero(labels >= 0)
        counts = ClassCounts.from_labels(labels[rows], num_classes=len(children))
        flat = replace(self.strategy, head="linear", separate=False)
        symmetries = frozenset(self.setup.data.symmetries)
        recipe = build_recipe(flat, labels[rows], counts, symmetries=symmetries, seed=self.seed, epochs=1)
        size = min(self.setup.settings.batch_size, len(rows))
        settings = replace(self.setup.settings, epochs=1, steps_per_epoch=self.steps[self.trained], batch_size=size)
        images = self.setup.images["train"].with_labels(labels)
        model, foreground = new_model(self.setup, flat, len(children)), recipe.transform.foreground
        transform = replace(recipe.transform, foreground=None if foreground is None else foreground.within(rows))
        return TrainingLoop(model, recipe.loss, settings, self.seed, images, recipe.order.within(rows), transform)


def _is_branching(tree: ClassTree, images: NDArray[Any], node: int) -> bool:
    """Whether at least two children of a node have training images."""
    return int((images[tree.children(node)] > 0).sum()) > 1


def _steps_per_node(steps: int, images: list[int]) -> list[int]:
    """Divide the steps among the nodes in proportion to their images, at least one each."""
    ends = np.round(np.cumsum(images) / sum(images) * max(0, steps - len(images))).astype(int)
    return [int(n) + 1 for n in np.diff(ends, prepend=0)]
