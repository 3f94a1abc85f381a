"""Checks and conversion of the hyperparameters of the losses, with error messages that name the argument.

Checks that read the values of a tensor run on the CPU only: on an accelerator they would wait for the device, and
inside `torch.compile` they would break the graph. `checks("always")` runs them everywhere, `checks("never")` nowhere.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise.core.checks import bounds_text, checked_choice, checked_number
from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.hyperparameters import Hyperparameter, hyperparameters
from counterpoise.core.names import did_you_mean
from counterpoise.kernels.autograd import in_transform, is_traced
from counterpoise.kernels.dispatch import Impl
from counterpoise.kernels.reduction import accumulation_dtype

Vector = Tensor | NDArray[Any] | Sequence[float]
Table = Mapping[str, Hyperparameter]
P = ParamSpec("P")
R = TypeVar("R")

SOFTMAX: Table = hyperparameters("loss", "softmax")
SIGMOID: Table = hyperparameters("loss", "sigmoid")
TVERSKY: Table = hyperparameters("loss", "tversky")
ASYMMETRIC_SOFTMAX: Table = hyperparameters("loss", "asymmetric_softmax")

# The arguments that are always vectors (C,): at least 0, or −inf for masked classes, or above 0.
_BOUNDS: Mapping[str, Mapping[str, float]] = {"weight": {"minimum": 0.0}, "offset": {}, "class_scale": {"above": 0.0}}

# A named loss makes some vectors from its own arguments: then those have the wrong length.
_DERIVED = " (where a loss takes `prior`, `class_counts` or `alpha`, it comes from those)"


class checks:
    """Sets when the values of tensors are checked; call it to change the mode, or use it as a context manager.

    Args:
        mode: "auto" checks CPU tensors outside `torch.compile`. "always" checks everywhere, which waits for the
            device, and refuses logits that are NaN or +inf as well. "never" checks no values, so that soft targets
            need not sum to 1.

    Example:
        >>> with checks("never"):
        ...     pass
    """

    mode: Literal["auto", "always", "never"] = "auto"

    def __init__(self, mode: Literal["auto", "always", "never"]) -> None:
        checked_choice("mode", mode, ("auto", "always", "never"))
        self.previous = checks.mode
        checks.mode = mode

    def __enter__(self) -> checks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        checks.mode = self.previous


def values_readable(tensor: Tensor) -> bool:
    """Whether a check may read the values of this tensor; never where `is_traced` or in a functorch transform."""
    if is_traced(tensor) or checks.mode == "never" or in_transform():
        return False
    return tensor.device.type == "cpu" or checks.mode == "always"


def also_named(**second_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take arguments by the names that torch gives them too, such as ``input=`` for ``logits``.

    A misspelt keyword is refused with the nearest name. `inspect.signature` and editors see the function's own
    signature.

    Args:
        second_names: the other name, and the argument that it stands for.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters
        names = list(parameters)

        @functools.wraps(function)
        def renamed(*arguments: P.args, **keywords: P.kwargs) -> R:
            for other, name in second_names.items():
                if other not in keywords:
                    continue
                if name in keywords or names.index(name) < len(arguments):
                    raise ArgumentTypeError(f"`{other}` is another name of `{name}`; pass only one of them")
                keywords[name] = keywords.pop(other)
            if any(name not in names for name in keywords):  # a list, which torch.compile reads without a graph break
                check_keywords(function.__name__, keywords, parameters)
            return function(*arguments, **keywords)

        return renamed

    return decorated


def check_keywords(function: str, keywords: Mapping[str, object], parameters: Mapping[str, inspect.Parameter]) -> None:
    """Refuse keywords that the function does not have, with the nearest name that it has."""
    unknown = [name for name in keywords if name not in parameters]
    if unknown and not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        named = [name for name in parameters if name != "self"]
        raise ArgumentTypeError(f"{function} has no argument `{unknown[0]}`; {did_you_mean(unknown[0], named)}")


def check_choices(table: Table, reduction: object, impl: object = "auto") -> None:
    """Refuse a reduction that the family of this table does not have, and an implementation that does not exist."""
    table["reduction"].check(reduction)
    checked_choice("impl", impl, get_args(Impl))


def check_ignore_index(value: object) -> None:
    """Refuse an ``ignore_index`` that is no whole number, such as None, which other libraries take for no value."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer, torch.SymInt)):
        raise ArgumentTypeError(
            f"`ignore_index` must be a whole number; got {value!r}. To ignore no row, pass -100, which no label is"
        )


def shape_of(value: float | Vector | None) -> tuple[int, ...]:
    """Return the shape of an argument; () of numbers and None."""
    if value is None or isinstance(value, (int, float)):  # which torch.compile cannot take through NumPy
        return ()
    return tuple(value.shape) if isinstance(value, Tensor) else np.asarray(value).shape


def vector_tensor(value: Vector, name: str, wanted: str = "a vector of numbers") -> Tensor:
    """Return any vector as a tensor of at least float32; ``wanted`` says in the message what the argument takes."""
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            hint = "; pass counts.prior() for the prior" if hasattr(value, "prior") else ""
            raise ArgumentTypeError(f"`{name}` must be {wanted}; got {type(value).__name__}{hint}") from error
    if value.is_complex():
        raise ArgumentTypeError(f"`{name}` must be real; got {value.dtype}")
    return value if value.dtype in (torch.float32, torch.float64) else value.to(torch.float32)


def class_vector(value: Vector, name: str, classes: int | None, bounds: Mapping[str, float] | None = None) -> Tensor:
    """Return a ``(C,)`` tensor whose values are finite and within ``bounds``; ``offset`` may hold −inf.

    ``classes`` is C where the logits are known, None where a loss module is made.
    """
    number = name not in _BOUNDS and bounds is not None  # a hyperparameter that may be one number for all classes
    given = vector_tensor(value, name, "a number or a vector of numbers" if number else "a vector of numbers")
    if classes is not None and given.shape != (classes,):
        derived = _DERIVED if name in ("weight", "offset", "margin", "class_scale") else ""
        raise ArgumentError(
            f"`{name}` must have one value for each of the {classes} classes; got shape {tuple(given.shape)}{derived}"
            + _remedy(given, name, classes, number)
        )
    if given.dim() != 1:
        raise ArgumentError(f"`{name}` must have shape (C,), one value per class; got shape {tuple(given.shape)}")
    # A module is made once, so that its vectors may be read from any device.
    values = given if classes is not None or given.device.type == "meta" else given.detach().cpu()
    if values_readable(values):
        check_values(values, name, **(_BOUNDS.get(name, {}) if bounds is None else bounds))
    return given


def _remedy(given: Tensor, name: str, classes: int, number: bool) -> str:
    """What to pass instead of a vector of the wrong shape; empty where its values do not tell."""
    if number and given.numel() == 1:
        return f". Pass one number, such as {name}.item(), for all classes"
    if given.dim() > 1 and given.numel() == classes:
        return f". Pass {name}.flatten() for one value per class"
    return ""


def checked_element_weight(weight: Vector) -> Tensor:
    """Return a weight of any shape, as torch's binary cross-entropy takes it, if it is finite and at least 0."""
    values = vector_tensor(weight, "weight")
    if values_readable(values):
        good = torch.isfinite(values) & (values >= 0)
        if not good.all():
            where = tuple((~good).nonzero()[0].tolist())
            raise ArgumentError(f"`weight` must be finite and at least 0; the value at {where} is {values[where]:g}")
    return values


def check_values(
    vector: Tensor,
    name: str,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Refuse values that are not finite or out of bounds, naming the first class that has one."""
    vector = vector.detach()
    good = (vector >= minimum) & (vector <= maximum) & (vector < below)
    good &= torch.isfinite(vector) & (vector > above) if name != "offset" else ~torch.isnan(vector)
    if not good.all():
        c = int((~good).nonzero()[0])
        bounds = bounds_text(minimum=minimum, maximum=maximum, above=above, below=below)
        wanted = f"finite and {bounds}" if bounds else "finite or -inf" if name == "offset" else "finite"
        raise ArgumentError(f"`{name}` must be {wanted}; class {c} has {vector[c].item():g}")


def checked_parameter(name: str, value: Any, table: Table, classes: int | None = None) -> Any:
    """Return a hyperparameter of an equation as a number, a boolean or a checked ``(C,)`` tensor; None stays None."""
    if name == "weight" and table is SIGMOID and value is not None and len(shape_of(value)) != 1:
        return checked_element_weight(value)
    if name in _BOUNDS:
        return None if value is None else class_vector(value, name, classes)
    parameter = table[name]
    if name == "clip" and value is None:
        return 0.0
    if isinstance(value, (np.ndarray, Tensor)) and value.ndim == 0:
        if isinstance(value, Tensor) and value.requires_grad:
            return _learnable_number(parameter, value, classes)
        value = value.item()
    if parameter.per_class and not (value is None or isinstance(value, (int, float, np.number))):
        return class_vector(value, name, classes, parameter.limits)
    return parameter.check(value)


def _learnable_number(parameter: Hyperparameter, value: Tensor, classes: int | None) -> Tensor:
    """A number that requires a gradient: as it is where a loss module is made, otherwise the same for each class."""
    if not parameter.per_class:
        raise ArgumentError(
            f"`{parameter.name}` has no gradient, and this tensor requires one; pass a number, such as value.item()"
        )
    if classes is None or values_readable(value):
        parameter.check(value.item())
    return value if classes is None else vector_tensor(value, parameter.name).repeat(classes)


def parameters_for(logits: Tensor, table: Table, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked hyperparameters; vectors are on the logits' device, in the dtype of accumulation."""
    checked = {name: checked_parameter(name, value, table, logits.shape[1]) for name, value in arguments.items()}
    return {
        name: value.to(device=logits.device, dtype=accumulation_dtype(logits)) if isinstance(value, Tensor) else value
        for name, value in checked.items()
    }


def checked_arguments(arguments: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Return the arguments of a loss module, checked when it is made: by their names, bounds and common length.

    Raises:
        ArgumentError: a value out of bounds, an unknown choice, or vectors of different lengths.
        ArgumentTypeError: a value of the wrong type.
    """
    checked = dict(arguments)
    for name, value in arguments.items():
        if name == "impl":
            checked_choice("impl", value, get_args(Impl))
        elif name == "normalizer":
            checked[name] = checked_normalizer(value, arguments["reduction"])
        elif name == "inplace" and not isinstance(value, bool):
            raise ArgumentTypeError(f"`inplace` must be true or false; got {value!r}")
        elif name == "ignore_index":
            check_ignore_index(value)
        elif name in _BOUNDS or name in table:
            checked[name] = checked_parameter(name, value, table)
    lengths = {name: len(value) for name, value in checked.items() if _is_per_class(name, value, table)}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"`{name}` has {length}" for name, length in lengths.items())
        raise ArgumentError(f"all vectors of a loss must have one value per class; {listed}{_DERIVED}")
    return checked


def _is_per_class(name: str, value: Any, table: Table) -> bool:
    """Whether an argument has one value per class; a BCE weight of one element is for all classes, as in torch."""
    if not isinstance(value, Tensor) or value.dim() != 1:
        return False
    return not (table is SIGMOID and name == "weight" and len(value) == 1)


def checked_normalizer(
    normalizer: float | Tensor | None, reduction: str, device: torch.device | None = None
) -> float | Tensor | None:
    """Return the denominator given by the caller: a number, a scalar tensor (on ``device``), or None."""
    if normalizer is None:
        return None
    if reduction not in ("mean", "batchmean"):
        raise ArgumentError(
            f'`normalizer` replaces the denominator of "mean" and "batchmean"; `reduction` is {reduction!r}'
        )
    if not isinstance(normalizer, Tensor):
        return checked_number("normalizer", normalizer, minimum=0.0)
    if normalizer.numel() != 1:
        raise ArgumentError(f"`normalizer` must be one number; got shape {tuple(normalizer.shape)}")
    normalizer = normalizer.reshape(())
    if values_readable(normalizer):
        checked_number("normalizer", normalizer.item(), minimum=0.0)
    return normalizer if device is None else normalizer.to(device)


def checked_inplace(inplace: bool, logits: Tensor, impl: str) -> bool:
    """Return ``inplace``, or False where there will be no gradient."""
    if not inplace or not (torch.is_grad_enabled() and logits.requires_grad):
        return False
    reason = None
    if impl == "reference":
        reason = 'impl="reference" saves the logits'
    elif logits.is_leaf:
        reason = "they are a leaf, such as a parameter, and their values would be lost"
    elif logits._is_view():
        reason = "they are a view, and what they are a view of would change"
    elif not (logits.is_contiguous() or logits.movedim(1, -1).is_contiguous()):
        reason = "they are not contiguous"
    if reason is not None:
        raise ArgumentError(f"`inplace` must be False for these logits: {reason}")
    return True


def class_counts_of(counts: CountsLike | Tensor) -> ClassCounts:
    """Return any form of class counts, a tensor included, as a `ClassCounts`."""
    if isinstance(counts, Tensor) and counts.requires_grad:
        raise ArgumentError("`class_counts` has no gradient, and this tensor requires one; pass counts.detach()")
    return ClassCounts(np.asarray(counts.tolist()) if isinstance(counts, Tensor) else counts)
