"""The training of one independent model per inner node of the class tree."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise.core.artifacts import Predictions, Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.images import SPLITS, Split
from counterpoise.hierarchy import ClassTree
from counterpoise.workflow.training.data import RelabeledImages
from counterpoise.workflow.training.loop import Progress, TrainingLoop
from counterpoise.workflow.training.posthoc import HistoryRow, apply_posthoc, validation_metrics
from counterpoise.workflow.training.recipe import ClassPrior, build_recipe, class_prior
from counterpoise.workflow.training.run_folder import RunFolder
from counterpoise.workflow.training.setup import TrainingSetup
from counterpoise.workflow.training.trainer import leaf_log_probabilities, new_model

__all__ = ["SeparateTrainer"]


@final
@dataclass
class SeparateTrainer:
    """Trains a model for each inner node, on the images below it with its children as classes.

    Together the models take as many steps as any other strategy, each in proportion to its images. A node takes the
    place of an epoch: checkpoints are written after each.
    """

    setup: TrainingSetup
    strategy: Strategy
    seed: int
    tree: ClassTree
    prior: ClassPrior
    steps: list[int]
    nodes: list[int]
    logits: dict[Split, NDArray[np.float32]]
    weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[HistoryRow] = field(default_factory=list)
    trained: int = 0
    linear_head: None = None

    @classmethod
    def start(cls, setup: TrainingSetup, strategy: Strategy, seed: int, folder: RunFolder) -> SeparateTrainer:
        """A trainer at the first node, or after the last one in the checkpoint."""
        tree = setup.class_tree(strategy)
        assert tree is not None, "a separate strategy has the hierarchical head"
        images = tree.node_counts(setup.counts.counts)
        nodes = [int(node) for node in tree.parents[tree.starts + 1] if _is_branching(tree, images, int(node))]
        steps = _steps_per_node(setup.settings.steps, [int(images[node]) for node in nodes])
        logits = {
            split: np.zeros((len(tensors), tree.num_edges), dtype=np.float32) for split, tensors in setup.images.items()
        }
        prior = class_prior(strategy, setup.train_labels, setup.counts, epochs=setup.settings.epochs)
        trainer = cls(setup, strategy, seed, tree, replace(prior, remaining=None), steps, nodes, logits)
        trainer._load(folder)
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
        self.weights |= {f"node{node}.{name}": value.detach().cpu().clone() for name, value in state.items()}
        self.trained += 1
        self.history.append({**row, "epoch": self.trained, "step": self.step, **validation_metrics(self._validation())})

    def model_state(self) -> dict[str, Tensor]:
        """The weights of all models, with the number of the node as prefix."""
        return self.weights

    def save(self, folder: RunFolder) -> None:
        """Write history and checkpoint."""
        folder.write_history(self.history)
        logits = {f"logits.{split}": torch.from_numpy(value) for split, value in self.logits.items()}
        folder.write_tensors("checkpoint.safetensors", {**self.weights, **logits}, {"trained": str(self.trained)})

    def raw_predictions(self, split: Split) -> Predictions:
        """Log-probabilities of the classes from the logits of the nodes."""
        logits = leaf_log_probabilities(self.logits[split], self.tree, self.setup.counts)
        return self.setup.predictions(split, logits)

    def _load(self, folder: RunFolder) -> None:
        """Restore the checkpoint, if there is one."""
        saved = folder.read_tensors("checkpoint.safetensors")
        if saved is None:
            return
        tensors, self.trained = saved[0], int(saved[1]["trained"])
        self.logits = {split: tensors[f"logits.{split}"].numpy() for split in SPLITS if f"logits.{split}" in tensors}
        self.weights = {name: value for name, value in tensors.items() if name.startswith("node")}
        self.history = folder.read_history()[: self.trained]

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
        images = RelabeledImages(self.setup.images["train"], rows, labels[rows])
        model = new_model(self.setup, flat, len(children))
        return TrainingLoop(model, recipe.loss, settings, self.seed, images, recipe.order, recipe.transform)

    def _validation(self) -> Predictions | None:
        """Final predictions on validation; None before the last node is trained, and without validation images."""
        if not self.finished or "val" not in self.setup.images:
            return None
        return apply_posthoc(self.strategy, self.prior, {"val": self.raw_predictions("val")})[0]["val"]


def _is_branching(tree: ClassTree, images: NDArray[Any], node: int) -> bool:
    """Whether at least two children of a node have training images."""
    return int((images[tree.children(node)] > 0).sum()) > 1


def _steps_per_node(steps: int, images: list[int]) -> list[int]:
    """Divide the steps among the nodes in proportion to their images, at least one each."""
    ends = np.round(np.cumsum(images) / sum(images) * max(0, steps - len(images))).astype(int)
    return [int(n) + 1 for n in np.diff(ends, prepend=0)]
