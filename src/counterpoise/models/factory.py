"""Models that a function of the caller makes: how it is called, and which of its layers is the classifier."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from counterpoise.core.errors import ArgumentError
from counterpoise.core.text import described


@dataclass(frozen=True)
class CustomModel:
    """A function that makes models, and what is known about them; made by `inspect_model`.

    Attributes:
        factory: the number of classes → a new module, images ``(N, 3, H, W)`` → logits ``(N, C)``.
        name: its qualified name.
        digest: SHA-256 of the names, shapes and dtypes of the parameters and buffers.
        classifier: path of the linear layer whose output is that of the module, such as "fc"; None if there is none.
        channels_last: whether the module takes images in this memory format.
    """

    factory: Callable[..., Any]
    name: str
    digest: str
    classifier: str | None
    channels_last: bool

    def build(self, num_classes: int) -> nn.Module:
        """A new module."""
        return _call(self.factory, num_classes)

    def split(self, num_classes: int) -> tuple[nn.Module, nn.Linear]:
        """A new module that returns the input of its classifier, and the classifier."""
        module = self.build(num_classes)
        assert self.classifier is not None, "the caller has checked it"
        return module, _remove(module, self.classifier)


def inspect_model(factory: Callable[..., Any], num_classes: int, *, image_size: int) -> CustomModel:
    """Make two models and try them on two images, so that what does not fit is refused before any training.

    Args:
        factory: called with ``num_classes=`` if it takes that, otherwise with the number as its only argument.
        num_classes: C.
        image_size: height and width of the images.

    Raises:
        ArgumentError: the function raises an error, or returns the same module twice; or its module cannot process the
            images, or does not return logits ``(N, C)``.

    Example:
        >>> def small(num_classes):
        ...     return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))
        >>> inspect_model(small, 5, image_size=2).classifier
        '1'
    """
    name = described(factory)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, other = _call(factory, num_classes), _call(factory, num_classes)
        _check_new(name, module, other)
        images = torch.rand(2, 3, image_size, image_size)
        expected = _logits(name, module.eval(), images, num_classes)
        channels_last = _takes_channels_last(other, images)
        classifier = _classifier(module, images, expected)
        _logits(name, other.to(memory_format=torch.contiguous_format).train(), images, num_classes)
    return CustomModel(factory, name, _digest(other), classifier, channels_last)


def _call(factory: Callable[..., Any], num_classes: int) -> nn.Module:
    """Call a factory with the number of classes, by keyword where it takes ``num_classes``."""
    name = described(factory)
    positional, by_keyword = _arguments(factory)
    if not positional and not by_keyword:
        raise ArgumentError(
            f"`model` {name} takes no argument; it must take the number of classes, such as "
            "model=lambda num_classes: Net(num_classes)"
        )
    try:
        module = factory(num_classes=num_classes) if by_keyword else factory(num_classes)
    except Exception as error:  # a function of the caller can raise anything
        raise ArgumentError(
            f"`model` {name} raised {type(error).__name__} for {num_classes} classes: {error}; it must make a module "
            "from the number of classes, such as functools.partial(timm.create_model, 'resnet18')"
        ) from error
    if not isinstance(module, nn.Module):
        raise ArgumentError(f"`model` {name} must return a torch.nn.Module; it returned {type(module).__name__}")
    return module


def _arguments(factory: Callable[..., Any]) -> tuple[bool, bool]:
    """Whether a function takes a positional argument, and whether it takes the number of classes by keyword."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some built-in callables have no signature
        return True, False
    kinds = inspect.Parameter
    positional = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    if any(p.name == "num_classes" and p.kind != kinds.POSITIONAL_ONLY for p in parameters):
        return bool(positional), True
    required = any(p.default is kinds.empty for p in positional)
    by_keyword = not required and any(p.kind is kinds.VAR_KEYWORD for p in parameters)
    return bool(positional) or any(p.kind is kinds.VAR_POSITIONAL for p in parameters), by_keyword


def _check_new(name: str, module: nn.Module, other: nn.Module) -> None:
    if any(nn.parameter.is_lazy(p) for p in module.parameters()):
        raise ArgumentError(f"`model` {name} has lazy layers, whose sizes are not known; give their sizes")
    if module is other or {id(p) for p in module.parameters()} & {id(p) for p in other.parameters()}:
        raise ArgumentError(
            f"`model` {name} returns the same module or shares parameters between calls; make a new module each "
            "time, because every run starts from new weights"
        )


def _logits(name: str, module: nn.Module, images: Tensor, num_classes: int) -> Tensor:
    """The output of a module for two images, if it is logits of the classes."""
    mode = "training" if module.training else "eval"
    try:
        with torch.no_grad():
            logits = module(images)
    except Exception as error:  # a module of the caller can raise anything
        raise ArgumentError(
            f"`model` {name} cannot process images {tuple(images.shape)} in {mode} mode ({type(error).__name__}: "
            f"{error}); choose another `image_size`, or correct its forward"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (len(images), num_classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ArgumentError(
            f"`model` {name} must return logits (N, C), here ({len(images)}, {num_classes}); in {mode} mode it "
            f"returned {got}"
        )
    return logits


def _takes_channels_last(module: nn.Module, images: Tensor) -> bool:
    """Whether a module works in this memory format; ``x.view(len(x), -1)`` does not."""
    try:
        with torch.no_grad():
            module.eval().to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return False
    return True


def _classifier(module: nn.Module, images: Tensor, expected: Tensor) -> str | None:
    """The path of the linear layer that the module ends in: without it, its input must be what the module returns."""
    for path in list(_candidates(module)):
        if getattr(module.get_submodule(path), "out_features", None) != expected.shape[1]:
            continue
        layer = _remove(module, path)
        try:
            with torch.no_grad():
                features: Tensor = module(images)
                fits = features.shape == (len(images), layer.in_features) and torch.equal(layer(features), expected)
        except (RuntimeError, AttributeError, TypeError):
            fits = False
        if fits:
            return path
        parent, _, attribute = path.rpartition(".")
        setattr(module.get_submodule(parent), attribute, layer)
    return None


def _candidates(module: nn.Module) -> Iterator[str]:
    """Paths of layers that may be the classifier: what timm names, then the linear layers, the last one first."""
    if hasattr(module, "get_classifier"):
        named = cast("Any", module).get_classifier()
        linear = isinstance(named, nn.Linear)
        yield from (path for path, layer in module.named_modules() if linear and layer is named and path)
    yield from reversed([path for path, layer in module.named_modules() if isinstance(layer, nn.Linear) and path])


def _remove(module: nn.Module, path: str) -> nn.Linear:
    """Replace a linear layer by an identity, and return it."""
    layer = module.get_submodule(path)
    assert isinstance(layer, nn.Linear), "it is the classifier"
    parent, _, attribute = path.rpartition(".")
    setattr(module.get_submodule(parent), attribute, nn.Identity())
    return layer


def _digest(module: nn.Module) -> str:
    """SHA-256 of the names, shapes and dtypes of the parameters and buffers."""
    entries = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in module.state_dict().items()]
    return hashlib.sha256(repr(entries).encode()).hexdigest()
