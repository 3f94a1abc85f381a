"""A training in progress: one model after another, each for one inner node of the class tree."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise.core.artifacts import Predictions, Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.images import SPLITS, Split
from counterpoise.hierarchy import ClassTree
from counterpoise.workflow.training.build import Known, build, known_of
from counterpoise.workflow.training.correcting import Row, corrected, validated
from counterpoise.workflow.training.folder import RunFolder
from counterpoise.workflow.training.job import Job
from counterpoise.workflow.training.joint import leaf_scores, new_model, scored
from counterpoise.workflow.training.loop import Loop, Progress
from counterpoise.workflow.training.pixels import Part

__all__ = ["SeparateTraining"]


@dataclass
class SeparateTraining:
    """An independent model for each inner node, on the images below it with its children as classes.

    All of them together take as many steps as any other strategy, each its share of the images; the unit that can be
    interrupted and gone on with is the node.
    """

    job: Job
    strategy: Strategy
    seed: int
    tree: ClassTree
    known: Known
    steps: list[int]
    nodes: list[int]
    logits: dict[Split, NDArray[np.float32]]
    weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    trained: int = 0

    @classmethod
    def begin(cls, job: Job, strategy: Strategy, seed: int, folder: RunFolder) -> SeparateTraining:
        """At the first node, or after the last one that the checkpoint has."""
        tree = job.tree_of(strategy)
        assert tree is not None, "a separate strategy has the hierarchical head"
        images = tree.node_counts(job.counts.counts)
        nodes = [int(node) for node in tree.parents[tree.starts + 1] if _splits(tree, images, int(node))]
        steps = _shares(job.settings.steps, [int(images[node]) for node in nodes])
        logits = {
            split: np.zeros((len(pixels), tree.num_edges), dtype=np.float32) for split, pixels in job.pixels.items()
        }
        known = replace(known_of(strategy, job.counts, None), left=None, tree=tree)
        training = cls(job, strategy, seed, tree, known, steps, nodes, logits)
        training._load(folder)
        return training

    @property
    def step(self) -> int:
        """Optimiser steps done, over all nodes."""
        return sum(self.steps[: self.trained])

    @property
    def done(self) -> bool:
        """Is there no node left?"""
        return self.trained == len(self.nodes)

    def run_epoch(self, progress: Progress) -> None:
        """Train the model of the next node, and note its scores for all images."""
        node, before = self.nodes[self.trained], self.step
        torch.manual_seed(self.seed * 1_000_003 + node)
        loop = self._loop(node)
        row = loop.run_epoch(lambda step: progress(before + step))
        edges = self.tree.children(node) - 1
        for split, scores in self.logits.items():
            scores[:, edges] = loop.predict(self.job.pixels[split])
        state = loop.accelerator.unwrap_model(loop.model).state_dict()
        # A copy: the next model would share the memory of none of these, but a checkpoint is written later.
        self.weights |= {f"node{node}.{name}": value.detach().cpu().clone() for name, value in state.items()}
        self.trained += 1
        self.history.append({**row, "epoch": self.trained, "step": self.step, **self._validated()})

    def model_state(self) -> dict[str, Tensor]:
        """The weights of all models, each with the number of its node before it."""
        return self.weights

    def save(self, folder: RunFolder) -> None:
        """Leave what a continuation needs."""
        folder.write_history(self.history)
        scores = {f"logits.{split}": torch.from_numpy(value) for split, value in self.logits.items()}
        folder.write_tensors("checkpoint.safetensors", {**self.weights, **scores}, {"trained": str(self.trained)})

    def raw(self, split: Split) -> Predictions:
        """Log-probabilities of the classes from the nodes' scores."""
        return scored(self.job, split, leaf_scores(self.logits[split], self.tree, self.job.counts))

    def _load(self, folder: RunFolder) -> None:
        saved = folder.read_tensors("checkpoint.safetensors")
        if saved is None:
            return
        tensors, self.trained = saved[0], int(saved[1]["trained"])
        self.logits = {split: tensors[f"logits.{split}"].numpy() for split in SPLITS if f"logits.{split}" in tensors}
        self.weights = {name: value for name, value in tensors.items() if name.startswith("node")}
        self.history = folder.read_history()[: self.trained]

    def _loop(self, node: int) -> Loop:
        children = self.tree.children(node)
        child_of = np.full(self.tree.num_classes, -1)
        for c, leaf in enumerate(self.tree.leaves):
            path = self.tree.ancestors(int(leaf))
            child_of[c] = next((k for k, child in enumerate(children) if child in path), -1)
        labels = child_of[self.job.data.subset("train").labels]
        rows = np.flatnonzero(labels >= 0)
        counts = ClassCounts.from_labels(labels[rows], num_classes=len(children))
        flat = replace(self.strategy, head="linear", separate=False)
        recipe = build(
            flat,
            labels[rows],
            counts,
            symmetries=frozenset(self.job.data.symmetries),
            seed=self.seed,
            epochs=1,
        )
        steps = self.steps[self.trained]
        size = min(self.job.settings.batch_size, len(rows))
        settings = replace(self.job.settings, epochs=1, steps_per_epoch=steps, batch_size=size)
        part = Part(self.job.pixels["train"], rows, labels[rows])
        model = new_model(self.job, flat, len(children))
        return Loop(model, recipe.loss, settings, self.seed, part, recipe.order, recipe.treatment)

    def _validated(self) -> Row:
        """Numbers on validation once the last node is trained: before, there is no whole classifier."""
        if not self.done or "val" not in self.job.pixels:
            return validated(np.empty(0, np.int64), np.empty((0, self.tree.num_classes)))
        final = corrected(self.strategy, self.known, {"val": self.raw("val")})[0]["val"]
        return validated(final.labels, final.logits)


def _splits(tree: ClassTree, images: NDArray[Any], node: int) -> bool:
    """Is there anything to decide at a node: at least two children with images?"""
    return int((images[tree.children(node)] > 0).sum()) > 1


def _shares(steps: int, images: list[int]) -> list[int]:
    """All steps, dealt out by images, at least one to each."""
    ends = np.round(np.cumsum(images) / sum(images) * max(0, steps - len(images))).astype(int)
    return [int(n) + 1 for n in np.diff(ends, prepend=0)]
