"""The setup of a training run: the decoded images and the resolved settings, prepared once and shared by many runs."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise import hierarchy
from counterpoise.core.artifacts import ConfusionMatrix, Predictions, Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.core.images import SPLITS, LabeledImages, Split, content_fingerprint
from counterpoise.core.text import listed
from counterpoise.hierarchy import ClassTree
from counterpoise.models import WeightFile, build_model, check_model, inspect_model, load_weights
from counterpoise.workflow.dataset.folds import Folds, draw_folds
from counterpoise.workflow.training.augmentation import check_augmentation
from counterpoise.workflow.training.data import ImageTensors
from counterpoise.workflow.training.devices import device_text, used_device
from counterpoise.workflow.training.frozen.arms import check_available
from counterpoise.workflow.training.posthoc import build_posthoc, fitted_on_validation
from counterpoise.workflow.training.progress import WorkPlan
from counterpoise.workflow.training.recipe import (
    ClassPrior,
    build_class_prior,
    check_components,
    double_correction_advice,
)
from counterpoise.workflow.training.settings import ResolvedSettings, Settings


@dataclass(frozen=True)
class TrainingSetup:
    """The dataset, the resolved settings and the decoded images of each split.

    ``tree_source`` is the setting ``tree``: a keyword or a file. ``device`` is where to train; None for the choice of
    accelerate. ``tracker`` names what records the epochs besides history.csv. With ``folds``, all images but those of
    the test split are training images, and `fold` divides them.
    """

    data: LabeledImages
    settings: ResolvedSettings
    images: dict[Split, ImageTensors]
    tree_source: str = "auto"
    device: torch.device | None = None
    folds: Folds | None = None
    tracker: str | None = None

    @classmethod
    def prepare(cls, data: LabeledImages, settings: Settings, *, device: torch.device | None = None) -> TrainingSetup:
        """Resolve the settings, check the model, and decode all images; images that cannot be are quarantined."""
        resolved = _with_model(settings, data)
        images = decoded_images(data, resolved)
        faults = {split: tensors.faults for split, tensors in images.items() if tensors.faults}
        if faults:
            data = data.quarantine(dataset_rows(data, faults))
            # The splits without faults are decoded at this size; without the faulty images another could be derived.
            again = replace(settings, image_size=resolved.image_size).resolve(data)
            resolved = replace(again, custom=resolved.custom, weights=resolved.weights)
            images |= decoded_images(data, resolved, splits=tuple(faults))
        check_augmentation(resolved.augment, images["train"].__getitems__([0])["images"][0])
        images = {split: tensors for split, tensors in images.items() if len(tensors)}
        return cls(data, resolved, images, settings.tree, device)

    def with_folds(self, number: int, settings: Settings) -> TrainingSetup:
        """The same images, divided into folds; every fold has the budget of the one with the fewest training images."""
        folds = draw_folds(self.data, number)
        smallest = min((folds.split(self.data, fold) for fold in range(number)), key=lambda data: data.counts().total)
        again = replace(settings, image_size=self.settings.image_size).resolve(smallest)
        whole = self.settings
        return replace(self, settings=replace(again, custom=whole.custom, weights=whole.weights), folds=folds)

    def fold(self, fold: int) -> TrainingSetup:
        """The setup in which the images of one fold are the validation split; the decoded images are shared."""
        assert self.folds is not None, "with_folds has divided the images"
        data, whole = self.folds.split(self.data, fold), self.images["train"]
        held_out = self.folds.ids == fold
        images = {
            **self.images,
            "train": whole.select(np.flatnonzero(~held_out), data.subset("train")),
            "val": whole.select(np.flatnonzero(held_out), data.subset("val")),
        }
        setup = replace(self, data=data, images=images, folds=None)
        vars(setup)["content"] = self.content  # of the same images, which need not be read again
        return setup

    @cached_property
    def content(self) -> str:
        """Fingerprint of the images themselves; all runs share it."""
        return content_fingerprint(self.data)

    def check_head(self, strategy: Strategy) -> None:
        """Raise `ArgumentError` if a strategy needs a linear classifier, and the caller's model has none."""
        custom = self.settings.custom
        if custom is None or custom.classifier is not None or strategy.separate:
            return
        needs = {"cosine": "a cosine head", "hierarchical": "a head for the class tree"}.get(strategy.head)
        needs = needs or ("to train its linear classifier again" if strategy.retraining else None)
        needs = needs or ("the weights of its linear classifier" if strategy.posthoc == "tau_normalize" else None)
        if needs is not None:
            raise ArgumentError(
                f"strategy {strategy.name!r} needs {needs}, and the output of `model` {custom.name} is not that of a "
                "torch.nn.Linear with one row per class; end its forward in such a layer, or leave the strategy out"
            )

    @property
    def settings_record(self) -> dict[str, Any]:
        """The settings as run.json records them."""
        return self.settings.to_dict()

    def plan(self, runs: int, *, steps: int) -> WorkPlan:
        """What the progress reports before ``runs`` runs with ``steps`` optimiser steps together."""
        settings, device = self.settings, device_text(used_device(self.device))
        return WorkPlan(settings.model, settings.image_size, device, runs, settings.epochs, steps)

    def initial_weights(self, strategy: Strategy, seed: int) -> dict[str, Tensor] | None:
        """The state dict from which a training starts; None for the initial weights of `build_model`."""
        return None

    @property
    def counts(self) -> ClassCounts:
        """Training images per class."""
        return self.data.counts("train")

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """Class ids ``(N,)`` of the training images."""
        return self.data.subset("train").labels

    def class_tree(self, strategy: Strategy) -> ClassTree | None:
        """The class tree of a hierarchical strategy; None for the others."""
        return build_class_tree(self.tree_source, self.counts) if strategy.head == "hierarchical" else None

    def double_correction_advice(self, strategy: Strategy) -> str | None:
        """Advice on a strategy that compensates the class imbalance more than once; None if it does not."""
        return double_correction_advice(strategy, self.class_prior(strategy))

    def class_prior(self, strategy: Strategy) -> ClassPrior:
        """The class prior of a strategy, in training and in the logits afterwards."""
        return build_class_prior(strategy, self.train_labels, self.counts, epochs=self.settings.epochs)

    def channel_statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over up to 1,000 training images, in [0, 1]."""
        train = self.images["train"]
        rows = np.linspace(0, len(train) - 1, num=min(len(train), 1000)).astype(int).tolist()
        images = train.__getitems__(rows)["images"].double() / 255
        return images.mean((0, 2, 3)).tolist(), images.std((0, 2, 3)).clamp(min=1e-3).tolist()

    def predictions(self, split: Split, logits: NDArray[np.floating[Any]]) -> Predictions:
        """Logits with their images and labels."""
        images = self.data.subset(split)
        classes = np.array(images.classes, dtype=np.str_)
        return Predictions(logits, images.labels, np.array(images.paths, dtype=np.str_), classes)


def _with_model(settings: Settings, data: LabeledImages) -> ResolvedSettings:
    """The resolved settings, if their model can be built; what does not fit is refused before any work."""
    classes = data.counts("train").num_classes
    file = None if settings.weights is None else WeightFile.of(Path(settings.weights))
    if isinstance(settings.model, str):
        check_model("resnet20" if settings.model == "auto" else settings.model)
    resolved = replace(settings.resolve(data), weights=file)
    if not isinstance(settings.model, str):
        custom = inspect_model(settings.model, classes, image_size=resolved.image_size)
        resolved = replace(resolved, custom=custom)
    else:
        check_model(resolved.model, pretrained=resolved.pretrained)
    if file is not None or (resolved.pretrained and resolved.custom is None):
        # Downloads or reads the weights once for all runs, or fails before any work.
        model = build_model(resolved.custom or resolved.model, classes, pretrained=resolved.pretrained)
        if file is not None and (advice := load_weights(model, file).advice(file)):
            warnings.warn(advice, UserWarning, stacklevel=4)
    return resolved


def decoded_images(
    data: LabeledImages, settings: ResolvedSettings, splits: tuple[Split, ...] = SPLITS
) -> dict[Split, ImageTensors]:
    """The images of each split, as the models get them; those that cannot be decoded are in its ``faults``."""
    budget = settings.cache_gib * 2**30 / len(SPLITS)
    options: dict[str, Any] = {"size": settings.image_size, "resize": settings.resize, "cache_bytes": budget}
    return {split: ImageTensors(data.subset(split), **options) for split in splits}


def dataset_rows(data: LabeledImages, faults: dict[Split, dict[int, str]]) -> dict[int, str]:
    """Indices within a split → indices within the whole dataset."""
    rows = {split: np.flatnonzero(data.splits == split) for split in faults}
    return {int(rows[split][i]): reason for split, reasons in faults.items() for i, reason in reasons.items()}


def check_strategy(strategy: Strategy, data: LabeledImages, settings: Settings) -> None:
    """Raise `ArgumentError` if a strategy needs what the data or the settings do not have, before any work."""
    check_components(strategy)
    if settings.frozen:
        check_available(strategy, views=settings.views)
    counts = data.counts("train")
    present = [name for name, n in zip(counts.names, counts.counts, strict=True) if n]
    if len(present) < 2:
        raise ArgumentError(
            f"{data.name} has training images of one class only ({listed(present)}); a classifier needs two, so add "
            "images of another class to the train split"
        )
    method = fitted_on_validation(strategy)
    if method and not len(data.subset("val")):
        raise ArgumentError(
            f"strategy {strategy.name!r} fits {method} on validation images, and {data.name} has none; add a val "
            "split, or set one aside automatically with `val_fraction`"
        )
    if settings.selects_epochs:
        _check_epoch_selection(strategy, data, settings)
    if strategy.head == "hierarchical":
        build_class_tree(settings.tree, counts)
    if strategy.retraining is not None and settings.num_epochs < 2:
        raise ArgumentError(f"strategy {strategy.name!r} trains in two stages: `epochs` must be at least 2")
    # Only to raise for a method that the loss or the head rules out; the method itself needs the trained head.
    head = (np.empty((0, 0)), np.empty(0)) if strategy.head == "linear" else None
    prior = build_class_prior(strategy, data.subset("train").labels, counts, epochs=settings.num_epochs)
    build_posthoc(strategy, prior, head)


def _check_epoch_selection(strategy: Strategy, data: LabeledImages, settings: Settings) -> None:
    """Raise `ArgumentError` where no epoch can be chosen on validation."""
    name = f"`keep` {settings.keep!r}" if settings.keep == "best" else "`patience`"
    if not len(data.subset("val")):
        raise ArgumentError(
            f"{name} chooses an epoch on validation images, and {data.name} has none; add a val split, or set one "
            "aside automatically with `val_fraction`"
        )
    if strategy.separate:
        raise ArgumentError(
            f"{name} has no meaning for strategy {strategy.name!r}: it trains one model per node of the class tree, "
            "and there are no predictions of the classes to choose by before the last one is trained; leave it out, "
            "or use the strategy 'hierarchical'"
        )


def _tree_from_predictions(path: Path, *, classes: tuple[str, ...]) -> ClassTree:
    """A class tree from the confusion matrix of saved predictions."""
    predictions = Predictions.load(path)
    if tuple(predictions.classes.tolist()) != classes:
        raise ArgumentError(f"{path} has other classes than the dataset, or the same in another order")
    matrix = ConfusionMatrix.from_predictions(
        predictions.labels, predictions.logits.argmax(1), num_classes=len(classes)
    )
    return hierarchy.from_confusion(matrix, classes)


_TREE_READERS: dict[str, Callable[..., ClassTree]] = {
    ".yaml": hierarchy.from_yaml,
    ".yml": hierarchy.from_yaml,
    ".json": hierarchy.from_json,
    ".csv": hierarchy.from_csv,
    ".npz": _tree_from_predictions,
}


def build_class_tree(source: str, counts: ClassCounts) -> ClassTree:
    """The class tree that the setting ``tree`` names, with the classes in the order of the dataset."""
    nested = any("/" in name for name in counts.names)
    if source == "folders" and not nested:
        raise ArgumentError(
            "`tree` is 'folders', but no class name has a slash, such as animal/dog; load the dataset with `nested` "
            "(--nested), or use tree='balanced'"
        )
    if source == "folders" or (source == "auto" and nested):
        return hierarchy.from_paths(counts.names)
    if source in ("auto", "balanced"):
        return hierarchy.balanced(counts)
    path = Path(source)
    if path.suffix not in _TREE_READERS:
        raise ArgumentError(
            f"`tree` must be auto, folders, balanced, or a file ending in {', '.join(_TREE_READERS)}; got {source!r}"
        )
    _check_is_file(path)
    try:
        return _TREE_READERS[path.suffix](path, classes=counts.names)
    except ArgumentError as error:
        raise ArgumentError(f"`tree` {error}") from error


def _check_is_file(path: Path) -> None:
    """Raise `ArgumentError` for a path that is missing, a folder or a pipe, or that the file system cannot have."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ArgumentError(f"`tree` {path} does not exist") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"`tree` {path} cannot be read: {reason}; name another file") from error
    if not stat.S_ISREG(mode):
        raise ArgumentError(f"`tree` {path} is not a file; name a file ending in {', '.join(_TREE_READERS)}")
