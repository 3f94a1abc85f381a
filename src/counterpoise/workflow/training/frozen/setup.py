"""The setup of a comparison on frozen features: the features of every image in place of the decoded images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise.core.errors import ArgumentError, WeightsUnavailableError
from counterpoise.core.images import SPLITS, LabeledImages, Split
from counterpoise.workflow.dataset.folds import draw_folds
from counterpoise.workflow.training.devices import distributed_state, used_device
from counterpoise.workflow.training.frozen.extraction import Progress as ExtractionProgress
from counterpoise.workflow.training.frozen.extraction import extract_features
from counterpoise.workflow.training.frozen.features import Features, load_features
from counterpoise.workflow.training.frozen.settings import resolve_frozen
from counterpoise.workflow.training.frozen.stack import FeatureTensors
from counterpoise.workflow.training.progress import WorkPlan
from counterpoise.workflow.training.settings import Settings
from counterpoise.workflow.training.setup import TrainingSetup, dataset_rows

CACHE = "counterpoise-features"
"""Name of the folder beside the output in which features are kept."""


@dataclass(frozen=True)
class FrozenSetup(TrainingSetup):
    """The dataset, the resolved settings and the features of each split.

    Attributes:
        features: features of the images of every split.
    """

    features: Features = field(kw_only=True)

    @classmethod
    def extract(
        cls,
        data: LabeledImages,
        settings: Settings,
        *,
        device: torch.device | None = None,
        cache: Path | None = None,
        progress: ExtractionProgress | None = None,
    ) -> FrozenSetup:
        """Resolve the settings, and compute or read the features; images that cannot be decoded are quarantined.

        Args:
            data: the dataset.
            settings: the settings, with ``frozen``.
            device: where to compute; None for the choice of accelerate.
            cache: folder that keeps the features for later calls; None for none.
            progress: as for `extract_features`.
        """
        resolved = resolve_frozen(settings, data)
        file = None if settings.weights is None else str(settings.weights)
        if settings.features is not None:
            features = load_features(settings.features, data)
        else:
            with _naming_frozen(resolved.model, implied=not settings.pretrained):
                features = extract_features(
                    data, model=resolved.model, pretrained=resolved.pretrained, weights=file,
                    image_size=resolved.image_size, resize=resolved.resize, views=resolved.views, cache=cache,
                    augment=tuple(map(str, resolved.augment)), device=used_device(device), progress=progress,
                    precision="auto" if resolved.precision == "no" else resolved.precision,
                )  # fmt: skip
        if any(features.faults.values()):
            data = data.quarantine(dataset_rows(data, features.faults))
            features = features.without_faults()
            resolved = resolve_frozen(replace(settings, image_size=resolved.image_size), data)
        return cls(data, resolved, {}, settings.tree, device, features=features)

    def with_folds(self, number: int, settings: Settings) -> FrozenSetup:
        """The same features, divided into folds; every fold has the budget of the one with the fewest images."""
        folds = draw_folds(self.data, number)
        smallest = min((folds.split(self.data, fold) for fold in range(number)), key=lambda data: data.counts().total)
        resolved = resolve_frozen(replace(settings, image_size=self.settings.image_size), smallest)
        return replace(self, settings=resolved, folds=folds)

    def fold(self, fold: int) -> FrozenSetup:
        """The setup in which the images of one fold are the validation split."""
        assert self.folds is not None, "with_folds has divided the images"
        setup = self.with_validation_of(self.folds.ids == fold, self.folds.split(self.data, fold))
        setup = replace(setup, settings=self.settings, folds=None)
        vars(setup)["content"] = self.content  # of the same images, which need not be read again
        return setup

    @property
    def settings_record(self) -> dict[str, Any]:
        """The settings as run.json records them, with what determines the features."""
        return {**self.settings.to_dict(), "features": self.features.source}

    def plan(self, runs: int, *, steps: int) -> WorkPlan:
        """What the progress reports, with what is frozen and how many pairs of the grid there are."""
        file = str(self.features.source.get("file", ""))
        return replace(super().plan(runs, steps=steps), frozen=True, pairs=len(self.settings.pairs), features=file)

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that have images."""
        return tuple(split for split in SPLITS if len(self.data.subset(split)))

    @property
    def views(self) -> int:
        """V, the number of augmented views of a training image."""
        return int(self.features.values["train"].shape[1]) - 1

    @property
    def width(self) -> int:
        """D, the number of features."""
        return self.features.width

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every feature over the training images without augmentation."""
        values, total, squares = self.features.values["train"], 0.0, 0.0
        for start in range(0, len(values), _CHUNK):
            part = np.asarray(values[start : start + _CHUNK, 0], dtype=np.float64)
            total, squares = total + part.sum(0), squares + np.square(part).sum(0)
        mean = total / len(values)
        deviation = np.sqrt(np.maximum(squares / len(values) - np.square(mean), 0.0))
        # A feature that is constant on the training images would otherwise be divided by 0 or by rounding errors.
        constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1.0)
        return torch.from_numpy(mean).float(), torch.from_numpy(np.where(constant, 1.0, deviation)).float()

    @property
    def mean(self) -> Tensor:
        """``(D,)`` float32, subtracted from the features."""
        return self._statistics[0]

    @property
    def scale(self) -> Tensor:
        """``(D,)`` float32, by which the features are then divided."""
        return self._statistics[1]

    @cached_property
    def _tensors(self) -> dict[tuple[Any, ...], FeatureTensors]:
        return {}

    def tensors(self, split: Split, dtype: torch.dtype = torch.float32) -> FeatureTensors:
        """The standardised features of a split; in memory if they need no more than a third of ``cache_gib``."""
        if (split, dtype) not in self._tensors:
            labels, values = self.data.subset(split).labels, self.features.values[split]
            in_memory = values.size * dtype.itemsize <= self.settings.cache_gib * 2**30 / len(SPLITS)
            self._tensors[split, dtype] = FeatureTensors(
                values, labels, mean=self.mean, scale=self.scale, dtype=dtype, device=used_device(self.device),
                in_memory=in_memory,
            )  # fmt: skip
        return self._tensors[split, dtype]

    def with_validation_of(self, held_out: NDArray[np.bool_], data: LabeledImages) -> FrozenSetup:
        """The setup in which some training images are the validation images.

        Args:
            held_out: ``(N,)``, which training images.
            data: the dataset with these splits.
        """
        train = self.features.values["train"]
        values = {**self.features.values, "train": train[~held_out], "val": train[held_out][:, :1]}
        present = {split: values[split] for split in SPLITS if len(data.subset(split))}
        images = int((~held_out).sum())
        batch = min(self.settings.batch_size, images)
        settings = replace(self.settings, batch_size=batch, steps_per_epoch=-(-images // batch))
        return replace(self, data=data, settings=settings, features=replace(self.features, values=present))


_CHUNK = 4096


@contextmanager
def _naming_frozen(model: str, *, implied: bool) -> Iterator[None]:
    """Say of weights that cannot be had that `frozen` needs them, where ``pretrained`` is only ``implied`` by it."""
    try:
        yield
    except WeightsUnavailableError as error:
        if not implied:
            raise
        raise ArgumentError(
            f"`frozen` needs pretrained weights, and {error.reason}; give a file of weights of {model} as `weights` "
            "(--weights), or features that were computed elsewhere as `features` (--features)"
        ) from error


def prepared(
    data: LabeledImages,
    settings: Settings,
    *,
    device: torch.device | None,
    out: str | Path,
    tracker: str | None = None,
    progress: ExtractionProgress | None = None,
) -> TrainingSetup:
    """The setup of trainings of the whole network, or of heads on frozen features.

    Features are kept in the folder `CACHE` beside ``out``, for later trainings.
    """
    if not settings.frozen:
        return replace(TrainingSetup.prepare(data, settings, device=device), tracker=tracker)
    if tracker is not None:
        raise ArgumentError("`tracker` has no effect with `frozen`: all heads are trained together; leave it out")
    if distributed_state().num_processes > 1:
        raise ArgumentError("`frozen` uses one process; start the training without `accelerate launch` or `torchrun`")
    cache = Path(out).absolute().parent / CACHE
    return FrozenSetup.extract(data, settings, device=device, cache=cache, progress=progress)
