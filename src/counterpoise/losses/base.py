"""Base class of the loss modules: it stores the arguments of a general loss and calls this loss in `forward`."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from counterpoise.core.errors import ArgumentError, ArgumentTypeError, AttributeUseError
from counterpoise.core.hyperparameters import HYPERPARAMETERS, Hyperparameter
from counterpoise.kernels.reduction import Reduction
from counterpoise.losses.arguments import (
    Vector,
    also_named,
    check_keywords,
    check_values,
    checked_arguments,
    values_readable,
    vector_tensor,
)

_LIBRARY = __name__.partition(".")[0]
_WITHOUT_EFFECT = {option.name for options in HYPERPARAMETERS["loss"].values() for option in options}
_WITHOUT_EFFECT |= {"alpha", "beta", "class_counts", "disable_torch_grad_focal_loss", "eps", "from_logits", "m", "mode"}
_WITHOUT_EFFECT |= {"pos_weight", "prior", "reduce", "s", "size_average", "smoothing", "squared_pred", "tau", "weight"}
"""Names of arguments of losses in this and in other libraries; set on a loss without them, they would do nothing."""


class SettableModule(nn.Module):
    """A module whose hyperparameters can be set as attributes where that takes effect, and are refused elsewhere.

    ``defaults`` names the attributes that `forward` reads; `_checked` returns a value for one of them, or raises. A
    class outside of the package may have attributes of its own, so that nothing is refused there.
    """

    defaults: dict[str, Any]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] == _LIBRARY and "__init__" in cls.__dict__:
            cls.__init__ = _with_known_keywords(cls.__init__, cls.__name__)  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("defaults", ()):
            self._store(name, value, self._checked(name, value))
            return
        is_own = type(self).__module__.partition(".")[0] == _LIBRARY
        if is_own and not name.startswith("_") and not isinstance(value, nn.Module):
            self._refuse_without_effect(name)
        super().__setattr__(name, value)

    def _checked(self, name: str, value: Any) -> Any:
        raise NotImplementedError

    def _store(self, name: str, given: Any, checked: Any) -> None:
        object.__setattr__(self, name, checked)

    def _refuse_without_effect(self, name: str) -> None:
        """Refuse what the constructor takes but `forward` does not read, and names that are nearly a hyperparameter."""
        cls = type(self)
        attribute = getattr(cls, name, None)
        if isinstance(attribute, property) and attribute.fset is not None:
            return
        arguments = inspect.signature(cls).parameters
        if name in arguments:
            raise AttributeUseError(
                f"`{name}` of {cls.__name__} cannot be set: the module stores what it computed from it when it was "
                f"made. Make a new loss, {cls.__name__}({name}=...)"
            )
        if not hasattr(self, name):
            if name in _WITHOUT_EFFECT:
                own = ", ".join(f"`{attribute}`" for attribute in self.__dict__.get("defaults", ()))
                raise AttributeUseError(
                    f"{cls.__name__} has no attribute `{name}`, which would have no effect; it has {own}"
                )
            near = difflib.get_close_matches(name, {*arguments, *self.__dict__.get("defaults", ())}, n=1, cutoff=0.8)
            if near:
                raise AttributeUseError(f"{cls.__name__} has no attribute `{name}`; did you mean `{near[0]}`?")


def _with_known_keywords(construct: Callable[..., None], name: str) -> Callable[..., None]:
    """A constructor that refuses a misspelt keyword with the nearest name."""
    parameters = inspect.signature(construct).parameters

    @functools.wraps(construct)
    def checked(self: Any, *arguments: Any, **keywords: Any) -> None:
        check_keywords(name, keywords, parameters)
        construct(self, *arguments, **keywords)

    return checked


class Loss(SettableModule):
    """Checks and stores the arguments of an equation and calls it in `forward`.

    Each argument is an attribute of the module: numbers and strings as they are, ``(C,)`` vectors as buffers, which
    move with the module and persist in its ``state_dict``; a vector, or a number that may be a vector, given as an
    `nn.Parameter` is a parameter of the module and learns. `forward` reads the attributes, so that
    ``criterion.reduction = "none"`` takes effect; what is set is checked as in the constructor. A named loss stores
    what it sets in the equation: `LogitAdjustedLoss` has ``offset``, and its ``tau`` cannot be set.
    ``.half()`` and ``.to(torch.bfloat16)`` do not cast the buffers.

    Args:
        equation: the general loss that `forward` calls, such as `softmax_loss`: a function of logits, target and the
            arguments.
        table: the bounds of the equation's hyperparameters.
        arguments: keyword arguments of the equation.
        vectors: ``(C,)`` buffers that the equation does not take.

    Raises:
        ArgumentError: a value that is out of bounds, or vectors of different lengths.
        ArgumentTypeError: a value of the wrong type.
    """

    reduction: Reduction
    ignore_index: int
    impl: str
    weight: Tensor | None

    def __init__(
        self,
        equation: Callable[..., Tensor],
        table: Mapping[str, Hyperparameter],
        arguments: Mapping[str, Any],
        **vectors: Tensor,
    ) -> None:
        super().__init__()
        self.equation, self.table = equation, table
        self.defaults = {name: inspect.signature(equation).parameters[name].default for name in arguments}
        for name, value in checked_arguments({**arguments, **vectors}, table).items():
            given = arguments.get(name)
            keeps = not isinstance(value, Tensor) or value.requires_grad or isinstance(given, nn.Parameter)
            self._store(name, given, value if keeps else value.detach().clone(), arguments.get("impl", "auto"))
        self._set_at_first = frozenset(self.keywords)

    def _checked(self, name: str, value: Any) -> Any:
        others = {"reduction": self.reduction} if name == "normalizer" else {}
        return checked_arguments({**others, name: value}, self.table)[name]

    def _store(self, name: str, given: Any, checked: Any, impl: str | None = None) -> None:
        """Keep an nn.Parameter as a parameter, other tensors as buffers, and the rest as plain attributes.

        None is no buffer, because `torch.export` counts the buffers that are None among the inputs of its graph.
        """
        learns = isinstance(checked, Tensor) and (checked.requires_grad or isinstance(given, nn.Parameter))
        parameter = _learnable(name, given, impl or self.impl) if learns else None
        vector = isinstance(checked, Tensor)
        if not learns and vector and name in self._buffers:
            self._buffers[name] = checked  # in its place in the state_dict
            return
        for place in (self.__dict__, self._buffers, self._parameters):
            place.pop(name, None)
        if learns:
            self.register_parameter(name, parameter)
        elif vector:
            self.register_buffer(name, checked)
        else:
            object.__setattr__(self, name, checked)

    @also_named(input="logits")
    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        sample_weight: Vector | None = None,
        normalizer: float | Tensor | None = None,
        **unknown: object,
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            logits: as the function of this loss takes them; also by the name ``input``, as in torch.
            target: as the function of this loss takes it.
            sample_weight: weight of each row or image, at least 0.
            normalizer: number to divide by, instead of the denominator of ``reduction``; not for the overlap losses.
            unknown: other arguments; each raises an ArgumentTypeError that says where to pass it.

        Raises:
            ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.
        """
        if unknown:
            name = min(unknown)
            wanted = "pass it to the constructor"
            if name == "num_items_in_batch":
                wanted = "wrap the loss: integrations.huggingface.loss_for_trainer(loss)"
            raise ArgumentTypeError(f"{type(self).__name__}.forward() got an unexpected argument `{name}`; {wanted}")
        if normalizer is not None and "normalizer" not in self.defaults:
            raise ArgumentTypeError(
                f"{type(self).__name__}.forward() takes no `normalizer`: the loss is a mean over classes; omit it"
            )
        batch = {"sample_weight": sample_weight, "normalizer": normalizer}
        given = {name: value for name, value in batch.items() if value is not None}
        return self.equation(logits, target, **{**self.keywords, **given})

    @property
    def keywords(self) -> dict[str, Any]:
        """The arguments that differ from the equation's defaults, for its function or for `linear_softmax_loss`."""
        values = {name: getattr(self, name) for name in self.defaults}
        return {n: value for n, value in values.items() if isinstance(value, Tensor) or value != self.defaults[n]}

    def reweight(self, weight: Vector) -> None:
        """Use other class weights ``(C,)`` from now on, as deferred and adaptive re-weighting do.

        Args:
            weight: ``(C,)`` class weights, at least 0.

        Raises:
            ArgumentError: the loss was made without class weights, or these have another length or a wrong value.
        """
        if self.weight is None:
            raise ArgumentError("`reweight` needs a loss that was made with `weight`, such as weight=[1.0] * C")
        values = vector_tensor(weight, "weight").detach()
        if values.shape != self.weight.shape:
            raise ArgumentError(f"`weight` must have shape {tuple(self.weight.shape)}; got {tuple(values.shape)}")
        if values_readable(values):
            check_values(values, "weight", minimum=0.0)
        self.weight.detach().copy_(values)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Keep casts to float16 or bfloat16 from rounding the class vectors: a weight of 1e-8 would become 0."""
        kept = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in kept.items():
            after = self._buffers[name]
            if before is not None and after is not None and after.dtype in (torch.float16, torch.bfloat16):
                self._buffers[name] = before.to(after.device)
        return self

    def extra_repr(self) -> str:
        """The arguments that differ from the equation's defaults or that the class sets; of vectors the shape."""
        used, values = self.keywords, {name: getattr(self, name) for name in self.defaults}
        own = {name for name, value in values.items() if value is not None and self._has_own_default(name)}
        shown = {name: value for name, value in values.items() if name in used or name in own}
        shown = {**shown, **{name: value for name, value in self._buffers.items() if value is not None}}
        return ", ".join(f"{n}={tuple(v.shape) if isinstance(v, Tensor) else repr(v)}" for n, v in shown.items())

    def _has_own_default(self, name: str) -> bool:
        """Whether the default of an argument is not the equation's: the class has another, or sets it itself."""
        parameter = inspect.signature(type(self)).parameters.get(name)
        return name in self._set_at_first if parameter is None else bool(parameter.default != self.defaults[name])


def _learnable(name: str, given: Any, impl: str) -> nn.Parameter:
    """The parameter given for an argument; refused where the module or the implementation could not train it."""
    if isinstance(given, Tensor) and given.is_leaf and not isinstance(given, nn.Parameter):
        raise ArgumentError(
            f"`{name}` requires a gradient, but only an nn.Parameter can be trained. Pass nn.Parameter({name}), or "
            f"{name}.detach() to keep it as it is"
        )
    if not isinstance(given, nn.Parameter):
        raise ArgumentError(
            f"`{name}` requires a gradient, but only an nn.Parameter given for it can be trained: this is another "
            "tensor, or the loss computes it from its own arguments. Pass nn.Parameter(values) to SoftmaxLoss or "
            "SigmoidLoss, or values.detach()"
        )
    if given.requires_grad and impl not in ("auto", "reference"):
        raise ArgumentError(f'`impl` must be "auto" or "reference" to train `{name}`; got {impl!r}')
    return given
