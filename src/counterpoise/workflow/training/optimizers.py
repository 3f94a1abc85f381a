"""The optimiser of a training: made from the settings, and its state as the tensors of a checkpoint."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from counterpoise.core.errors import ArgumentError
from counterpoise.core.text import described
from counterpoise.workflow.training.custom import OptimizerFactory

if TYPE_CHECKING:
    from counterpoise.workflow.training.settings import ResolvedSettings

_STATE, _GROUP = "optimizer.", "optimizer_group."
_NUMBER, _NONE = ":number", ":none"
_OLD_STATE = "momentum."
"""In checkpoints of earlier versions, which had SGD only."""


def make_optimizer(settings: ResolvedSettings, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that the settings name or make."""
    s, listed = settings, list(parameters)
    if s.optimizer == "sgd":
        return torch.optim.SGD(
            listed, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay, nesterov=True
        )
    if s.optimizer == "adamw":
        return torch.optim.AdamW(listed, lr=s.learning_rate, weight_decay=s.weight_decay)
    assert callable(s.optimizer), "the settings are checked"
    return _call(s.optimizer, listed, None if s.own_rate else s.learning_rate)


def learning_rate_of(factory: OptimizerFactory, learning_rate: float | None) -> float:
    """The learning rate given, else the highest of the groups that a function makes; tries it on two small parameters.

    Raises:
        ArgumentError: the function raises an error or returns something else, its optimiser cannot take a step or be
            saved, or it does not take the learning rate that was given.
    """
    name = described(factory)
    if learning_rate is not None and not _takes_rate(factory):
        raise ArgumentError(
            f"`learning_rate` has no effect, because the `optimizer` {name} does not take lr; leave it out, or let the "
            "function take it: lambda params, lr: …"
        )
    parameters = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = _call(factory, parameters, learning_rate)
    highest = max(float(group["lr"]) for group in optimizer.param_groups)
    if not 0 < highest < float("inf"):
        raise ArgumentError(f"`optimizer` {name} has the learning rate {highest:g}; it must be above 0")
    try:
        optimizer.step(None)  # as accelerate calls it
    except Exception as error:  # a function of the caller can raise anything
        raise ArgumentError(
            f"`optimizer` {name} cannot take a step without a closure ({type(error).__name__}: {error}); use one "
            "whose step(closure=None) needs none"
        ) from error
    state_tensors(optimizer, group_values(optimizer))
    return highest if learning_rate is None else learning_rate


def group_values(optimizer: Any) -> list[dict[str, Any]]:
    """The numbers in the parameter groups, without the learning rate, which the schedule sets."""
    return [
        {k: v for k, v in group.items() if isinstance(v, bool | int | float) and k not in ("lr", "initial_lr")}
        for group in optimizer.param_groups
    ]


def state_tensors(optimizer: Any, initial: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors, with the numbers of its groups that differ from ``initial``."""
    tensors = {}
    for i, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            name, tensor = _encoded(f"{_STATE}{i}.{key}", value)
            tensors[name] = tensor
    for g, (now, before) in enumerate(zip(group_values(optimizer), initial, strict=True)):
        changed = {key: value for key, value in now.items() if value != before.get(key)}
        tensors |= dict(_encoded(f"{_GROUP}{g}.{key}", value) for key, value in changed.items())
    return tensors


def load_state_tensors(optimizer: Any, tensors: dict[str, Tensor]) -> None:
    """The inverse of `state_tensors`."""
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_STATE):
            i, key = name.removeprefix(_STATE).split(".", 1)
            state.setdefault(int(i), {}).update([_decoded(key, tensor)])
        elif name.startswith(_GROUP):
            i, key = name.removeprefix(_GROUP).split(".", 1)
            optimizer.param_groups[int(i)].update([_decoded(key, tensor)])
    whole = optimizer.state_dict()
    optimizer.load_state_dict({**whole, "state": state})
    # torch casts what it loads to the dtype of the parameter, and some optimisers keep counters and other dtypes.
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in state.items():
        loaded = optimizer.state[parameters[number]]
        for key, value in values.items():
            if isinstance(value, Tensor) and loaded[key].dtype != value.dtype:
                loaded[key] = value.to(loaded[key].device)


def expected_state(settings: ResolvedSettings, parameters: Iterable[nn.Parameter]) -> dict[str, Tensor]:
    """The tensors that a checkpoint has after the first step of an optimiser for ``parameters``: names and shapes."""
    copies = [nn.Parameter(torch.zeros_like(parameter, device="cpu")) for parameter in parameters]
    for copy in copies:
        copy.grad = torch.zeros_like(copy)
    with torch.random.fork_rng(devices=[]):
        optimizer = make_optimizer(settings, copies)
        optimizer.step(None)
    return state_tensors(optimizer, group_values(optimizer))


def is_group_value(name: str) -> bool:
    """Whether a tensor of a checkpoint is a number of a parameter group, which only some optimisers change."""
    return name.startswith(_GROUP)


def with_current_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint with the names of this version: earlier ones knew only the momentum of SGD."""

    def renamed(name: str) -> str:
        if not name.startswith(_OLD_STATE):
            return name
        return f"{_STATE}{name.removeprefix(_OLD_STATE)}.momentum_buffer"

    return {renamed(name): tensor for name, tensor in tensors.items()}


def _call(
    factory: OptimizerFactory, parameters: list[nn.Parameter], learning_rate: float | None
) -> torch.optim.Optimizer:
    name = described(factory)
    options = {"lr": learning_rate} if learning_rate is not None and _takes_rate(factory) else {}
    try:
        optimizer = factory(parameters, **options)
    except Exception as error:  # a function of the caller can raise anything
        hint = (
            "give `learning_rate` as well" if not options and _takes_rate(factory) else "it gets a list of parameters"
        )
        raise ArgumentError(f"`optimizer` {name} raised {type(error).__name__}: {error}; {hint}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ArgumentError(
            f"`optimizer` {name} must return a torch.optim.Optimizer; it returned {type(optimizer).__name__}"
        )
    return optimizer


def _takes_rate(factory: OptimizerFactory) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some built-in callables have no signature
        return True
    return any(p.name == "lr" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _encoded(name: str, value: Any) -> tuple[str, Tensor]:
    if isinstance(value, Tensor):
        return name, value
    if value is None:
        return name + _NONE, torch.empty(0)
    if not isinstance(value, bool | int | float):
        raise ArgumentError(
            f"`optimizer` keeps a {type(value).__name__} ({name.rpartition('.')[2]!r}) in its state, which cannot be "
            "saved for `resume`; use one whose state has tensors and numbers only"
        )
    exact = torch.int64 if isinstance(value, int) and not isinstance(value, bool) else None
    return name + _NUMBER, torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else exact)


def _decoded(key: str, tensor: Tensor) -> tuple[str, Any]:
    if key.endswith(_NUMBER):
        return key.removesuffix(_NUMBER), tensor.item()
    return (key.removesuffix(_NONE), None) if key.endswith(_NONE) else (key, tensor)
