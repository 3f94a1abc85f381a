"""Models with a frozen backbone: the backbone with its normalisation, and a head on its standardised features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from counterpoise.models.build import IMAGENET_MEAN, IMAGENET_STD, build_model


class FeatureExtractor(nn.Module):
    """A backbone with its normalisation: images in [0, 1] ``(N, 3, H, W)`` → features ``(N, D)``.

    Args:
        backbone: normalised images → features.
        mean: per channel, of images in [0, 1].
        std: standard deviation per channel.

    Example:
        >>> FeatureExtractor(nn.Flatten(), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))(torch.zeros(4, 3, 2, 2)).shape
        torch.Size([4, 12])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone((images - self.mean) / self.std)
        return features


class Standardize(nn.Module):
    """Features rounded to float16, minus ``mean``, divided by ``scale``: ``(N, D)`` → float32 ``(N, D)``.

    Heads are trained on features that are stored as float16; with the same rounding here, a model predicts as the head
    did on the stored features.

    Args:
        mean: ``(D,)``, of the features of the training images.
        scale: ``(D,)``, their standard deviation; above 0.

    Example:
        >>> Standardize(torch.ones(2), torch.full((2,), 0.5))(torch.tensor([[2.0, 1.0001]]))
        tensor([[2., 0.]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, features: Tensor) -> Tensor:
        return (round_to_half(features) - self.mean) / self.scale


class FrozenClassifier(nn.Module):
    """A frozen backbone and a head that was trained on its features: images in [0, 1] → logits.

    Args:
        backbone: images → features.
        standardize: the standardisation of the features in the training of the head.
        head: standardised features → logits of classes ``(N, C)`` or of the edges of a tree ``(N, E)``.
    """

    def __init__(self, backbone: FeatureExtractor, standardize: Standardize, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.standardize, self.head = backbone, standardize, head

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.backbone(images))

    def classify(self, features: Tensor) -> Tensor:
        """Features of the backbone → logits, float32."""
        logits: Tensor = self.head(self.standardize(features.float()))
        return logits


def round_to_half(features: Tensor) -> Tensor:
    """Round float32 features to the precision of float16; those beyond its range, ±65504, stay as they are."""
    rounded = features.half().float()
    return torch.where(rounded.isinf(), features, rounded)


def build_extractor(name: str, *, pretrained: bool = False, seed: int = 0) -> FeatureExtractor:
    """Build a backbone that computes features of images, in eval mode and without gradients.

    Mean and standard deviation are those with which timm's weights were trained, or those of ImageNet.

    Args:
        name, pretrained: as for `build_model`.
        seed: of the initial weights, where none are loaded.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        backbone = build_model(name, 1, pretrained=pretrained).backbone
    published = getattr(backbone, "pretrained_cfg", {})
    mean, std = published.get("mean", IMAGENET_MEAN), published.get("std", IMAGENET_STD)
    return FeatureExtractor(backbone, mean, std).eval().requires_grad_(False)
