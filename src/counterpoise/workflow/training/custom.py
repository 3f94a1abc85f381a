"""What the caller may pass in place of a name: functions that make the model or the optimiser, and augmentations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from multiprocessing.reduction import ForkingPickler
from typing import Any, Literal, cast

from counterpoise.core.checks import checked_choice
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.images import SYMMETRIES
from counterpoise.core.text import described

ModelFactory = Callable[..., Any]
"""The number of classes → a new `torch.nn.Module` from images to logits."""
OptimizerFactory = Callable[..., Any]
"""The parameters, and ``lr`` if it takes one → a `torch.optim.Optimizer`."""
Augmentation = str | Callable[..., Any]
"""The name of an augmentation, or a function of one image."""
BASE_AUGMENTATIONS = ("crop", *SYMMETRIES)
OPTIMIZERS = ("sgd", "adamw")


def checked_model(model: Any) -> str | ModelFactory:
    """Return a model's name or the function that makes it.

    Raises:
        ArgumentTypeError: a module, because every run needs a new one; or something else.
    """
    if _is_instance(model, "torch.nn", "Module"):
        name = type(model).__name__
        raise ArgumentTypeError(
            f"`model` is a module ({name}), and every run needs a new one; pass a function that makes it from the "
            f"number of classes, such as model=lambda num_classes: {name}(num_classes), or the class {name}"
        )
    if not isinstance(model, str) and not callable(model):
        raise ArgumentTypeError(
            "`model` must be a name, such as 'timm:resnet18', or a function that makes a torch.nn.Module from the "
            f"number of classes; got {type(model).__name__}"
        )
    return cast("str | ModelFactory", model)


def checked_optimizer(optimizer: Any) -> str | OptimizerFactory:
    """Return the name of an optimiser or the function that makes it.

    Raises:
        ArgumentTypeError: an optimiser, because every run needs its own; or something else.
        ArgumentError: an unknown name.
    """
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ArgumentError(
                f"`optimizer` must be one of {', '.join(map(repr, OPTIMIZERS))}; got {optimizer!r}. In Python, a class "
                "or a function of the parameters works too, such as optimizer=torch.optim.Adam"
            )
        return optimizer
    if _is_instance(optimizer, "torch.optim", "Optimizer") or not callable(optimizer):
        name = type(optimizer).__name__
        raise ArgumentTypeError(
            f"`optimizer` must be {' or '.join(map(repr, OPTIMIZERS))}, or a function that makes it from the "
            f"parameters, such as torch.optim.Adam or lambda params, lr: torch.optim.Adam(params, lr=lr); got {name}"
        )
    return cast("OptimizerFactory", optimizer)


def checked_augment(augment: Any) -> tuple[Augmentation, ...] | Literal["auto"]:
    """Return "auto", or names and functions; a string may have several names: ``"crop,hflip"``.

    Raises:
        ArgumentTypeError: something else than a string, a function, or a list of these.
        ArgumentError: an unknown name.

    Example:
        >>> checked_augment("crop, hflip"), checked_augment("none")
        (('crop', 'hflip'), ())
    """
    if isinstance(augment, str):
        if augment in ("auto", "none"):
            return "auto" if augment == "auto" else ()
        names = (name.strip() for name in augment.split(","))
        return tuple(_checked_name(name) for name in names if name)
    if callable(augment):
        return (augment,)
    if not isinstance(augment, list | tuple):
        raise ArgumentTypeError(
            "`augment` must be a string, such as 'crop,hflip', 'none' or 'auto', a function of one image, or a list "
            f"of names and functions; got {type(augment).__name__}"
        )
    return tuple(step if callable(step) else _checked_name(step) for step in augment)


def not_picklable(functions: Iterable[tuple[str, Any]]) -> str | None:
    """The first (argument, function) that another process cannot get, as text; None if all can be sent."""
    for argument, function in functions:
        try:
            sent = bytes(ForkingPickler.dumps(function))
        except Exception:  # an object of the caller can raise anything
            return f"`{argument}` {described(function)}"
        # The processes of a comparison do not import the script of the caller.
        if b"__main__" in sent:
            return f"`{argument}` {described(function)}"
    return None


def _checked_name(name: Any) -> str:
    if name in ("auto", "none"):
        raise ArgumentError(f"`augment` {name!r} stands alone; got it together with other augmentations: leave it out")
    return checked_choice("augment", name, BASE_AUGMENTATIONS)


def _is_instance(value: Any, module: str, name: str) -> bool:
    """Whether a value is an instance of a class of torch, which this module does not import."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))
