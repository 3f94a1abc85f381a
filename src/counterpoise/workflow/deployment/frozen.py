"""The network of a run on frozen features: its backbone, the standardisation of the features, and its head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from counterpoise.core.artifacts import Run
from counterpoise.core.errors import UnsupportedError
from counterpoise.hierarchy import ClassTree
from counterpoise.models import (
    CustomModel,
    FeatureExtractor,
    FrozenClassifier,
    Standardize,
    build_extractor,
    build_head,
    folded,
)
from counterpoise.workflow.training.frozen.features import read_backbone


def refuse_own_features(run: Run, folder: Path) -> None:
    """Raise `UnsupportedError` for a run on features that were computed elsewhere."""
    source = run.settings.get("features")
    if not isinstance(source, dict) or "file" not in source:
        return
    weight = "`head.weight`" + ("" if run.strategy.head == "cosine" else " and `head.bias`")
    raise UnsupportedError(
        f"{folder} was trained on the features in {source['file']} (SHA-256 {source['sha256'][:12]}…), which were "
        "computed elsewhere, so the network that computes them is not in the folder. Compute the features of new "
        "images in the same way and apply the head yourself: model.safetensors has `standardize.mean`, "
        f"`standardize.scale` and {weight}; standardize with (features − mean) / scale, multiply by the head, and "
        "apply the `transforms` of run.json with counterpoise.posthoc.apply_transforms"
    )


def frozen_network(
    run: Run, tensors: dict[str, Tensor], folder: Path, tree: ClassTree | None, model: str | CustomModel
) -> FrozenClassifier:
    """The network of a run with these tensors of the head; those of the backbone are in a file beside them.

    Raises:
        ArtifactError: the backbone is missing, damaged, or not the one whose features the head was trained on.
        KeyError, RuntimeError: the tensors do not fit the record.
    """
    source = run.settings["features"]
    mean, scale = (tensors[f"standardize.{name}"] for name in ("mean", "scale"))
    head = build_head(run.strategy.head, len(mean), len(run.classes), tree=tree)
    # As in the extraction, so that the features are the same bits.
    backbone = folded(_backbone(model, source, folder), image_size=source["image_size"])
    network = FrozenClassifier(backbone, Standardize(mean, scale), head)
    expected = {name for name in network.state_dict() if not name.startswith("backbone.")}
    if tensors.keys() != expected:
        raise KeyError(f"it has the tensors {sorted(tensors)}, and {sorted(expected)} are needed")
    network.load_state_dict(tensors, strict=False)
    return network


def _backbone(model: str | CustomModel, source: dict[str, Any], folder: Path) -> FeatureExtractor:
    tensors = read_backbone(folder, source)
    backbone = build_extractor(model)
    backbone.load_state_dict(tensors)
    return backbone
