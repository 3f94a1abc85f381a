"""Build a classifier by name: a built-in residual network, or any model of timm or torchvision."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from counterpoise.core.checks import checked_choice
from counterpoise.core.errors import ArgumentError, WeightsUnavailableError
from counterpoise.core.names import did_you_mean
from counterpoise.hierarchy import ClassTree
from counterpoise.models.factory import CustomModel
from counterpoise.models.heads import CosineHead, HierarchicalHead
from counterpoise.models.published import check_torchvision, timm_options
from counterpoise.models.resnet import CifarResNet

Head = Literal["linear", "cosine", "hierarchical"]
BUILTIN = {"resnet20": 20, "resnet32": 32, "resnet44": 44, "resnet56": 56}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Classifier(nn.Module):
    """A backbone and a head: images in [0, 1] ``(N, 3, H, W)`` → normalised images → features → logits ``(N, C)``.

    The mean and standard deviation are in the state dict, so a saved model takes images that are not normalised.

    Args:
        backbone: images → features ``(N, D)``.
        head: features → logits.
        mean: per channel, of images in [0, 1].
        std: standard deviation per channel.
        channels_last: whether the backbone takes images in this memory format; if not, they get the default one.

    Example:
        >>> net = Classifier(nn.Flatten(), nn.Linear(12, 2), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
        >>> net(torch.zeros(4, 3, 2, 2)).shape
        torch.Size([4, 2])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        if self.memory_format is torch.contiguous_format:
            images = images.contiguous()
        logits: Tensor = self.head(self.backbone((images - self.mean) / self.std))
        return logits


def set_memory_format(module: nn.Module) -> None:
    """Convert a module to the memory format channels_last, and each part that has a ``memory_format`` to its own."""
    module.to(memory_format=torch.channels_last)
    for part in module.modules():
        if isinstance(own := getattr(part, "memory_format", None), torch.memory_format):
            part.to(memory_format=own)


def build_model(
    name: str | CustomModel,
    num_classes: int,
    *,
    pretrained: bool = False,
    head: Head = "linear",
    tree: ClassTree | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Classifier:
    """Build a classifier.

    Args:
        name: ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56`` (for small images), ``timm:NAME`` or
            ``torchvision:NAME``; or a function of the caller that `inspect_model` has looked at.
        num_classes: C.
        pretrained: start from published ImageNet weights (timm and torchvision only).
        head: ``"linear"``, ``"cosine"`` for losses with margins, or ``"hierarchical"`` for edge logits of ``tree``.
        tree: the class tree of the hierarchical head.
        mean: per channel, of images in [0, 1].
        std: standard deviation per channel.

    Returns:
        A module that maps images ``(N, 3, H, W)`` in [0, 1] to logits ``(N, C)``, or to edge logits ``(N, E)``.

    Raises:
        ArgumentError: the model is unknown, or its pretrained weights cannot be loaded.

    Example:
        >>> build_model("resnet20", 10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    checked_choice("head", head, get_args(Head))
    if head == "hierarchical" and (tree is None or tree.num_classes != num_classes):
        raise ArgumentError(f"`tree` must be a class tree of {num_classes} classes for the hierarchical head")
    if isinstance(name, CustomModel):
        return _build_custom(name, num_classes, head, tree, mean, std)
    check_model(name, pretrained=pretrained)
    library, _, architecture = name.rpartition(":")
    backbone = _backbone(library, architecture, pretrained) if library else CifarResNet(BUILTIN[name])
    # timm: head_hidden_size is the width of a model without classifier if it differs from num_features.
    width = int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]
    return Classifier(backbone, build_head(head, width, num_classes, tree=tree), mean, std)


def build_head(head: Head, width: int, num_classes: int, *, tree: ClassTree | None = None) -> nn.Module:
    """Build a head by name: features ``(N, D)`` → logits, with D = ``width``; other arguments as in `build_model`."""
    if head == "hierarchical" and tree is not None:
        return HierarchicalHead(width, tree)
    layer = CosineHead if head == "cosine" else nn.Linear
    return layer(width, num_classes)


def _build_custom(
    model: CustomModel,
    num_classes: int,
    head: Head,
    tree: ClassTree | None,
    mean: Sequence[float],
    std: Sequence[float],
) -> Classifier:
    """A model of the caller; its own classifier is the linear head."""
    if model.classifier is not None:
        backbone, own = model.split(num_classes)
        keep = head == "linear" and own.bias is not None
        layer = own if keep else build_head(head, own.in_features, num_classes, tree=tree)
        return Classifier(backbone, layer, mean, std, channels_last=model.channels_last)
    if head != "linear":
        raise ArgumentError(
            f"`head` {head!r}: `model` {model.name} has no linear classifier to replace; end its forward in a "
            "torch.nn.Linear"
        )
    return Classifier(model.build(num_classes), nn.Identity(), mean, std, channels_last=model.channels_last)


def check_model(name: str, *, pretrained: bool = False) -> None:
    """Raise `ArgumentError` for a model that `build_model` cannot build.

    Args:
        name: as for `build_model`.
        pretrained: whether published weights are asked for.

    Example:
        >>> check_model("resnet32")
    """
    library, colon, architecture = name.rpartition(":")
    if not colon:
        if name not in BUILTIN:
            raise ArgumentError(
                f"`model` {name!r} is unknown; {did_you_mean(name, BUILTIN)} (or timm:NAME, torchvision:NAME)"
            )
        if pretrained:
            raise WeightsUnavailableError(f"no weights are published for {name!r}", "use timm:NAME or torchvision:NAME")
        return
    if library not in ("timm", "torchvision"):
        raise ArgumentError(
            f"`model` {name!r}: {library!r} is not a supported library; use timm:NAME or torchvision:NAME"
        )
    names = _architectures(library)
    if architecture.split(".")[0] not in names:
        near = did_you_mean(architecture, difflib.get_close_matches(architecture, names, n=3) or sorted(names)[:4])
        raise ArgumentError(f"`model` {name!r} is unknown to {library}; {near}")


def _architectures(library: str) -> set[str]:
    if library == "timm":
        import timm

        return set(timm.list_models())
    import torchvision

    return set(torchvision.models.list_models(module=torchvision.models))


def _backbone(library: str, architecture: str, pretrained: bool) -> nn.Module:
    """A model of a library without its classifier."""
    model: nn.Module
    try:
        if library == "timm":
            import timm

            model = timm.create_model(architecture, num_classes=0, **(timm_options(architecture) if pretrained else {}))
        else:
            import torchvision

            if pretrained:
                check_torchvision(architecture)
            model = torchvision.models.get_model(architecture, weights="DEFAULT" if pretrained else None)
    except ArgumentError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        if not pretrained:
            raise ArgumentError(f"`model` {library}:{architecture} could not be built: {reason}") from error
        raise WeightsUnavailableError(
            f"the weights of {library}:{architecture} could not be loaded ({reason})",
            "train without `pretrained`, or download the file and name it as `weights` (--weights FILE)",
        ) from error
    if library == "torchvision":
        _remove_classifier(model, architecture)
    return model


def _remove_classifier(model: nn.Module, architecture: str) -> None:
    """Replace the last linear layer by an identity, and set ``num_features`` to its width."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ArgumentError(f"`model` torchvision:{architecture} has no linear classifier to replace; use timm:NAME")
    path, _, attribute = linear[-1].rpartition(".")
    parent = model.get_submodule(path)
    model.num_features = getattr(parent, attribute).in_features
    setattr(parent, attribute, nn.Identity())
