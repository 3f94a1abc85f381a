"""Models with a frozen backbone: the backbone with its normalisation, and a head on its standardised features."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from counterpoise.core.errors import ArgumentError
from counterpoise.models.build import IMAGENET_MEAN, IMAGENET_STD, Classifier, build_model
from counterpoise.models.factory import CustomModel
from counterpoise.models.weight_files import WeightFile, load_weights

_SAME = 1e-4


class FeatureExtractor(nn.Module):
    """A backbone with its normalisation: images in [0, 1] ``(N, 3, H, W)`` → features ``(N, D)``.

    Args:
        backbone: normalised images → features.
        mean: per channel, of images in [0, 1].
        std: standard deviation per channel.
        channels_last: as in `Classifier`.

    Example:
        >>> FeatureExtractor(nn.Flatten(), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))(torch.zeros(4, 3, 2, 2)).shape
        torch.Size([4, 12])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, mean: Sequence[float], std: Sequence[float], *, channels_last: bool = True
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        if self.memory_format is torch.contiguous_format:
            images = images.contiguous()
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


def build_extractor(
    name: str | CustomModel, *, pretrained: bool = False, weights: WeightFile | None = None, seed: int = 0
) -> FeatureExtractor:
    """Build a backbone that computes features of images, in eval mode and without gradients.

    Mean and standard deviation are those with which timm's weights were trained, or those of ImageNet; of a file that
    Counterpoise has written, those in the file.

    Args:
        name, pretrained: as for `build_model`.
        weights: file of weights of the backbone; a warning names tensors of it that are not used.
        seed: of the initial weights, where none are loaded.

    Raises:
        ArgumentError: as `build_model` and `load_weights`; or the file lacks tensors of the backbone.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = build_model(name, 1, pretrained=pretrained)
    published = getattr(model.backbone, "pretrained_cfg", None) or {}
    for buffer, name, default in ((model.mean, "mean", IMAGENET_MEAN), (model.std, "std", IMAGENET_STD)):
        buffer.copy_(torch.tensor(published.get(name, default)).view_as(buffer))
    if weights is not None:
        _load_all(model, weights)
    channels_last = model.memory_format is torch.channels_last
    mean, std = (buffer.flatten().tolist() for buffer in (model.mean, model.std))
    extractor = FeatureExtractor(model.backbone, mean, std, channels_last=channels_last)
    return extractor.eval().requires_grad_(False)


def _load_all(model: Classifier, file: WeightFile) -> None:
    """Load weights into a backbone that is not trained afterwards, so that each of its tensors must be in the file."""
    matched = load_weights(model, file)
    advice = matched.advice(file)
    if any(not name.endswith("num_batches_tracked") for name in matched.missing):
        raise ArgumentError(f"{advice}, because frozen features would come from layers with random weights")
    if matched.unexpected:
        warnings.warn(str(advice), UserWarning, stacklevel=4)


def folded(extractor: FeatureExtractor, *, image_size: int) -> FeatureExtractor:
    """A copy that computes the same features faster: batch normalisations are part of the convolutions before them.

    In eval mode a batch normalisation is an affine map per channel, so that its factors can be multiplied into the
    weights of the convolution. The features change by rounding only (measured: 2e-6 of the largest); a network in which
    that is not so, because it uses the output of a convolution in another place too, is returned as it is.

    Args:
        extractor: in eval mode, on the CPU.
        image_size: of the images that are used to find which convolution is before which normalisation.
    """
    if not any(map(_is_batch_norm, extractor.modules())):
        return extractor
    images = torch.linspace(0, 1, 2 * 3 * image_size**2).view(2, 3, image_size, image_size)
    copied = copy.deepcopy(extractor)
    for convolution, norm_name in _foldable(copied, images):
        norm: Any = copied.get_submodule(norm_name)
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        convolution.weight, convolution.bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)
        # timm's normalisations contain the activation that follows.
        rest = nn.Identity() if type(norm) is nn.BatchNorm2d else nn.Sequential(norm.drop, norm.act)
        copied.set_submodule(norm_name, rest)
    copied.requires_grad_(False)
    with torch.inference_mode():
        expected, found = extractor(images), copied(images)
    return copied if (expected - found).abs().max() <= _SAME * expected.abs().max() else extractor


def _foldable(extractor: FeatureExtractor, images: Tensor) -> list[tuple[Any, str]]:
    """Each convolution whose output is the input of a batch normalisation, with the name of the latter."""
    outputs: dict[int, tuple[Any, Tensor]] = {}
    pairs: list[tuple[Any, str]] = []
    calls: Counter[nn.Module] = Counter()

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls[module] += 1
        if _is_convolution(module):
            outputs[id(output)] = (module, output)  # the output is kept, so that its id stays its own
        elif id(inputs[0]) in outputs:
            pairs.append((outputs[id(inputs[0])][0], name))

    handles = [
        module.register_forward_hook(partial(note, name))
        for name, module in extractor.named_modules()
        if _is_convolution(module) or _is_batch_norm(module)
    ]
    with torch.inference_mode():
        extractor(images)
    for handle in handles:
        handle.remove()
    return [(conv, name) for conv, name in pairs if calls[conv] == calls[extractor.get_submodule(name)] == 1]


def _is_batch_norm(module: nn.Module) -> bool:
    """Whether a module is a batch normalisation with running statistics, of torch or of timm."""
    known = type(module) is nn.BatchNorm2d or type(module).__name__ == "BatchNormAct2d"
    return known and getattr(module, "running_mean", None) is not None


def _is_convolution(module: nn.Module) -> bool:
    """Whether a module applies its weight as it is: timm has other subclasses, which standardise it first."""
    return type(module) is nn.Conv2d or type(module).__name__ == "Conv2dSame"
