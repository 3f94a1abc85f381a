"""Job: the data and the settings of one run or many, prepared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from counterpoise import hierarchy
from counterpoise.core.artifacts import Predictions, Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.core.images import SPLITS, LabeledImages, Split
from counterpoise.hierarchy import ClassTree
from counterpoise.metrics import confusion_matrix
from counterpoise.models import build_model, check_model
from counterpoise.workflow.training.build import Recipe, build, corrections, needs_validation
from counterpoise.workflow.training.pixels import Pixels
from counterpoise.workflow.training.settings import Resolved, Settings

__all__ = ["Job", "check_strategy"]


@dataclass(frozen=True)
class Job:
    """What one run needs, prepared once and shared by all runs of a comparison."""

    data: LabeledImages
    settings: Resolved
    pixels: dict[Split, Pixels]
    tree: str = "auto"

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
        return cls(data, resolved, {split: here for split, here in pixels.items() if len(here)}, settings.tree)

    @property
    def counts(self) -> ClassCounts:
        """Training images per class."""
        return self.data.counts("train")

    def recipe(self, strategy: Strategy, seed: int) -> Recipe:
        """The strategy as functions, for the training images."""
        labels = self.data.subset("train").labels
        symmetries = frozenset(self.data.symmetries)
        epochs, tree = self.settings.epochs, self.tree_of(strategy)
        return build(strategy, labels, self.counts, symmetries=symmetries, seed=seed, epochs=epochs, tree=tree)

    def tree_of(self, strategy: Strategy) -> ClassTree | None:
        """The class tree of a hierarchical strategy; None for the others."""
        return class_tree(self.tree, self.counts) if strategy.head == "hierarchical" else None

    def doubts(self, strategy: Strategy) -> tuple[str, ...]:
        """What to tell about a strategy before it runs: that it corrects the prior more than once."""
        recipe = self.recipe(strategy, 0)
        sampled = recipe.order.prior if recipe.retraining is None else recipe.retraining.order.prior
        told = corrections(strategy, self.counts, sampled)
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


def check_strategy(strategy: Strategy, data: LabeledImages, settings: Settings) -> None:
    """Raise `ArgumentError` for what a strategy needs and the data or the settings do not have, before any work."""
    counts = data.counts("train")
    present = [name for name, n in zip(counts.names, counts.counts, strict=True) if n]
    if len(present) < 2:
        raise ArgumentError(f"{data.name} has training images of one class only, {present}; a classifier needs two")
    what = needs_validation(strategy)
    if what and not len(data.subset("val")):
        raise ArgumentError(
            f"strategy {strategy.name!r} fits {what} on validation images, and {data.name} has none; add a val split, "
            "or let one be drawn with `val_fraction`"
        )
    if strategy.head == "hierarchical":
        class_tree(settings.tree, counts)
    if strategy.retraining is not None and settings.epochs < 2:
        raise ArgumentError(f"strategy {strategy.name!r} trains in two stages: `epochs` must be at least 2")


def class_tree(source: str, counts: ClassCounts) -> ClassTree:
    """The class tree that the setting ``tree`` names, with the classes in the order of the dataset."""
    nested = any("/" in name for name in counts.names)
    if source == "folders" and not nested:
        raise ArgumentError(
            "`tree` folders: no class has a name like animal/dog, so folders make no tree; load them with `nested` "
            "(--nested), or take auto or balanced"
        )
    if source == "folders" or (source == "auto" and nested):
        return hierarchy.from_paths(counts.names)
    if source in ("auto", "balanced"):
        return hierarchy.balanced(counts)
    readers = {
        ".yaml": hierarchy.from_yaml,
        ".yml": hierarchy.from_yaml,
        ".json": hierarchy.from_json,
        ".csv": hierarchy.from_csv,
    }
    path = Path(source)
    if path.suffix != ".npz" and path.suffix not in readers:
        raise ArgumentError(
            f"`tree` must be auto, folders, balanced, or a .yaml, .json, .csv or .npz file; got {source!r}"
        )
    if not path.exists():
        raise ArgumentError(f"`tree` {source} does not exist")
    try:
        if path.suffix == ".npz":
            return _confused(Predictions.load(path), counts)
        return readers[path.suffix](path, classes=counts.names)
    except ArgumentError as error:
        raise ArgumentError(f"`tree` {source}: {error}") from error


def _confused(seen: Predictions, counts: ClassCounts) -> ClassTree:
    if tuple(seen.classes.tolist()) != counts.names:
        raise ArgumentError("`tree`: the predictions are about other classes than the dataset, or in another order")
    matrix = confusion_matrix(seen.labels, seen.logits.argmax(1), num_classes=counts.num_classes)
    return hierarchy.from_confusion(matrix, counts.names)
