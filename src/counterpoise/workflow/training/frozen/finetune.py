"""Finetuning: train the whole network further, from the frozen backbone and a head that was trained on its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from counterpoise.core.artifacts import Strategy
from counterpoise.core.checks import checked_count
from counterpoise.core.errors import ArgumentError, ArtifactError, DatasetError
from counterpoise.core.images import LabeledImages, Split
from counterpoise.workflow.training.augmentation import check_augmentation
from counterpoise.workflow.training.frozen.features import read_backbone
from counterpoise.workflow.training.frozen.setup import FrozenSetup
from counterpoise.workflow.training.run_folder import RunFolder
from counterpoise.workflow.training.settings import Settings
from counterpoise.workflow.training.setup import TrainingSetup, check_strategy, decoded_images

EPOCHS = 5
"""The default number of epochs."""
SUFFIX = "-finetuned"
"""End of the names of finetuned strategies."""


@dataclass(frozen=True)
class FinetuneSetup(TrainingSetup):
    """The setup of trainings that continue those of heads on frozen features.

    Attributes:
        runs: the folder of the runs on frozen features; the finetuned ones are written beside them.
        source: what determines the features.
    """

    runs: Path = field(kw_only=True)
    source: dict[str, Any] = field(kw_only=True)

    @classmethod
    def of(cls, setup: FrozenSetup, settings: Settings, runs: Path) -> FinetuneSetup:
        """The setup after ``setup``, with the settings of `finetune_settings`; the images are not decoded yet."""
        of_features = setup.settings
        same = replace(settings, model=of_features.model, image_size=of_features.image_size)
        resolved = replace(same.resolve(setup.data), weights=of_features.weights)
        made = cls(setup.data, resolved, {}, setup.tree_source, setup.device, runs=runs, source=setup.features.source)
        vars(made)["content"] = setup.content  # of the same images, which need not be read again
        return made

    def with_images(self) -> FinetuneSetup:
        """The setup with decoded images.

        Raises:
            DatasetError: an image cannot be decoded any more.
        """
        images = decoded_images(self.data, self.settings)
        for split, tensors in images.items():
            for row, reason in tensors.faults.items():
                raise DatasetError(
                    f"{self.data.subset(split).paths[row]} has changed since its features were computed: {reason}; "
                    "restore it, or compare again"
                )
        present: dict[Split, Any] = {split: tensors for split, tensors in images.items() if len(tensors)}
        check_augmentation(self.settings.augment, present["train"].__getitems__([0])["images"][0])
        made = replace(self, images=present)
        vars(made)["content"] = self.content
        return made

    @property
    def settings_record(self) -> dict[str, Any]:
        """The settings as run.json records them, with what determines the features that the training starts from."""
        return {**self.settings.to_dict(), "finetuned_from": self.source}

    def initial_weights(self, strategy: Strategy, seed: int) -> dict[str, Tensor]:
        """The state dict of the network of the run on frozen features, with a linear head on its features.

        Raises:
            ArtifactError: the files of that run are missing or damaged.
        """
        folder = RunFolder(self.runs / f"{strategy.folder_name.removesuffix(SUFFIX)}-seed{seed}")
        head = folder.read_tensors("model.safetensors")
        if head is None:
            raise ArtifactError(f"{folder.path / 'model.safetensors'} does not exist; delete {folder.path} and resume")
        return {**read_backbone(folder.path, self.source), **unstandardized(head[0])}


def unstandardized(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A linear head on standardised features as a head on the features: W / scale, and b − W (mean / scale)."""
    mean, scale = (tensors[f"standardize.{name}"].double() for name in ("mean", "scale"))
    weight = tensors["head.weight"].double() / scale
    bias = tensors["head.bias"].double() - weight @ mean
    return {"head.weight": weight.float(), "head.bias": bias.float()}


def finetuned(strategy: Strategy) -> Strategy:
    """The strategy under the name that it has when the whole network is trained with it."""
    reuses = None if strategy.reuses is None else strategy.reuses + SUFFIX
    summary = f"{strategy.summary}; the whole network, from the head on frozen features".removeprefix("; ")
    return replace(strategy, name=strategy.name + SUFFIX, summary=summary, reuses=reuses)


def finetune_settings(settings: Settings, epochs: int | None) -> Settings:
    """The settings of the finetuning after a training of heads; what belongs to heads has its default again.

    Raises:
        ArgumentError: there is no backbone to train.
    """
    if not settings.frozen:
        raise ArgumentError(
            "`finetune` needs `frozen` (--frozen): it trains the network of the best head further; without `frozen`, "
            "the whole network is trained anyway"
        )
    if settings.features is not None:
        raise ArgumentError(
            "`finetune` trains the network that computes the features, and `features` were computed elsewhere; leave "
            "`finetune` out, or give the network as `model` with `weights`"
        )
    return replace(
        settings,
        frozen=False,
        views=0,
        epochs=EPOCHS if epochs is None else checked_count("finetune_epochs", epochs),
        batch_size=None,
        learning_rate=None,
        weight_decay=None,
        pretrained=settings.weights is None,
    )


def check_finetuned(strategy: Strategy, data: LabeledImages, settings: Settings) -> None:
    """Raise `ArgumentError`, with the reason, for a strategy whose head cannot be trained further."""
    if strategy.name.endswith(SUFFIX):
        raise ArgumentError(f"strategy {strategy.name!r}: `finetune` gives names that end in {SUFFIX}; rename it")
    if strategy.head == "cosine":
        raise ArgumentError(
            f"strategy {strategy.name!r} cannot be finetuned: its cosine head was trained on standardised features, "
            "and there is no cosine head on the features themselves that predicts the same; leave the strategy or "
            "`finetune` out"
        )
    check_strategy(strategy, data, settings)
