"""A model by name: our small residual networks, any of timm's, any of torchvision's."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from counterpoise.core.errors import ArgumentError
from counterpoise.hierarchy import ClassTree
from counterpoise.models.heads import CosineHead
from counterpoise.models.hierarchical import HierarchicalHead
from counterpoise.models.resnet import CifarResNet

__all__ = ["BUILTIN", "IMAGENET_MEAN", "IMAGENET_STD", "Classifier", "build_model", "check_model"]

BUILTIN = {"resnet20": 20, "resnet32": 32, "resnet44": 44, "resnet56": 56}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Classifier(nn.Module):
    """Images in [0, 1] ``(N, 3, H, W)`` → logits ``(N, C)``: normalise, extract features, apply the head.

    The mean and standard deviation travel in the state dict, so a saved model takes plain images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone((images - self.mean) / self.std))
        return logits


def build_model(
    name: str,
    num_classes: int,
    *,
    pretrained: bool = False,
    head: Literal["linear", "cosine", "hierarchical"] = "linear",
    tree: ClassTree | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Classifier:
    """Build a classifier.

    Args:
        name: ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56`` (for small images), ``timm:NAME`` or
            ``torchvision:NAME``.
        num_classes: C.
        pretrained: start from published ImageNet weights (timm and torchvision only).
        head: ``"linear"``, ``"cosine"`` for losses with margins, or ``"hierarchical"``: edge logits of ``tree``.
        tree: the class tree, for the hierarchical head.
        mean, std: per channel, of images in [0, 1].

    Raises:
        ArgumentError: the model is unknown, or its pretrained weights cannot be had; says what to do.

    Example:
        >>> build_model("resnet20", 10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    check_model(name, pretrained=pretrained)
    library, _, architecture = name.rpartition(":")
    if not library:
        backbone: nn.Module = CifarResNet(BUILTIN[name])
    else:
        backbone = _LIBRARIES[library](architecture, pretrained)
    width = _num_features(backbone)
    return Classifier(backbone, _head(head, width, num_classes, tree), mean, std)


def _head(kind: str, width: int, num_classes: int, tree: ClassTree | None) -> nn.Module:
    if kind == "hierarchical":
        if tree is None or tree.num_classes != num_classes:
            raise ArgumentError(f"`tree` must be a class tree of {num_classes} classes for the hierarchical head")
        return HierarchicalHead(width, tree)
    return CosineHead(width, num_classes) if kind == "cosine" else nn.Linear(width, num_classes)


def check_model(name: str, *, pretrained: bool = False) -> None:
    """Raise `ArgumentError` for a model that cannot be built, before any data is read."""
    library, colon, architecture = name.rpartition(":")
    if not colon:
        if name not in BUILTIN:
            raise ArgumentError(
                f"`model` {name!r} is unknown; {_nearest(name, BUILTIN)} (or timm:NAME, torchvision:NAME)"
            )
        if pretrained:
            raise ArgumentError(
                f"`pretrained`: no weights are published for {name!r}; take timm:NAME or torchvision:NAME"
            )
        return
    if library not in _LIBRARIES:
        raise ArgumentError(f"`model` {name!r}: {library!r} is no source of models; use timm:NAME or torchvision:NAME")
    known = _KNOWN[library]()
    if architecture.split(".")[0] not in known:
        raise ArgumentError(f"`model` {name!r} is unknown to {library}; {_nearest(architecture, known)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3) or names[:4]
    return f"did you mean {' or '.join(close)}?"


def _timm_names() -> set[str]:
    import timm

    return set(timm.list_models())


def _torchvision_names() -> set[str]:
    import torchvision

    return set(torchvision.models.list_models(module=torchvision.models))


def _timm(architecture: str, pretrained: bool) -> nn.Module:
    import timm

    try:
        model: nn.Module = timm.create_model(architecture, pretrained=pretrained, num_classes=0)
    except Exception as error:
        raise _no_weights(f"timm:{architecture}", pretrained, error) from error
    return model


def _torchvision(architecture: str, pretrained: bool) -> nn.Module:
    import torchvision

    try:
        model: nn.Module = torchvision.models.get_model(architecture, weights="DEFAULT" if pretrained else None)
    except Exception as error:
        raise _no_weights(f"torchvision:{architecture}", pretrained, error) from error
    parent, attribute = _last_linear(model, architecture)
    setattr(parent, attribute, nn.Identity())
    return model


def _no_weights(name: str, pretrained: bool, error: Exception) -> ArgumentError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    if pretrained:
        return ArgumentError(
            f"`pretrained`: the weights of {name} could not be had ({first}); connect to the network or fill the "
            "library's cache once, or train from scratch without `pretrained`"
        )
    return ArgumentError(f"`model` {name} could not be built: {first}")


def _last_linear(model: nn.Module, architecture: str) -> tuple[nn.Module, str]:
    """Where torchvision keeps the classifier: the last linear layer, with its width noted on the model."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ArgumentError(f"`model` torchvision:{architecture} has no linear classifier to replace; use a timm model")
    path, _, attribute = linear[-1].rpartition(".")
    parent = model.get_submodule(path)
    model.num_features = getattr(parent, attribute).in_features
    return parent, attribute


def _num_features(backbone: nn.Module) -> int:
    # timm: head_hidden_size is what a model without classifier returns, where it differs from num_features.
    width = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    return int(width)  # type: ignore[arg-type]


_LIBRARIES = {"timm": _timm, "torchvision": _torchvision}
_KNOWN = {"timm": _timm_names, "torchvision": _torchvision_names}
