"""Base class of the loss modules: it stores the arguments of a general loss and calls this loss in `forward`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.hyperparameters import Hyperparameter
from counterpoise.kernels.reduction import Reduction
from counterpoise.losses.arguments import (
    Vector,
    also_named,
    check_values,
    checked_arguments,
    values_readable,
    vector_tensor,
)

_VECTORS = ("weight", "offset", "class_scale", "margin", "pos_weight", "neg_weight")


class Loss(nn.Module):
    """Checks and stores the arguments of an equation and calls it in `forward`.

    Each argument is an attribute of the module: numbers and strings as they are, ``(C,)`` vectors as buffers, which
    move with the module and persist in its ``state_dict``; a vector, or a number that may be a vector, given as an
    `nn.Parameter` is a parameter of the module and learns. `forward` reads the attributes, so that
    ``criterion.reduction = "none"`` takes effect. A named loss stores what it sets in the equation: `PolyLoss` has
    ``poly``, `LogitAdjustedLoss` has ``offset``. ``.half()`` and ``.to(torch.bfloat16)`` do not cast the buffers.

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
    weight: Tensor | None

    def __init__(
        self,
        equation: Callable[..., Tensor],
        table: Mapping[str, Hyperparameter],
        arguments: Mapping[str, Any],
        **vectors: Tensor,
    ) -> None:
        super().__init__()
        self.equation = equation
        self.defaults = {name: inspect.signature(equation).parameters[name].default for name in arguments}
        for name, value in checked_arguments({**arguments, **vectors}, table).items():
            if isinstance(value, Tensor) and (value.requires_grad or isinstance(arguments.get(name), nn.Parameter)):
                self.register_parameter(name, _learnable(name, arguments))
            elif isinstance(value, Tensor):
                self.register_buffer(name, value.detach().clone())
            elif value is None and name in _VECTORS:
                self.register_buffer(name, None)
            else:
                setattr(self, name, value)

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
        """The arguments that differ from the equation's defaults; of vectors the shape."""
        shown = {**self.keywords, **{name: value for name, value in self._buffers.items() if value is not None}}
        return ", ".join(f"{n}={tuple(v.shape) if isinstance(v, Tensor) else repr(v)}" for n, v in shown.items())


def _learnable(name: str, arguments: Mapping[str, Any]) -> nn.Parameter:
    """The parameter given for an argument; refused where the module or the implementation could not train it."""
    given, impl = arguments.get(name), arguments.get("impl", "auto")
    if not isinstance(given, nn.Parameter):
        raise ArgumentError(
            f"`{name}` requires a gradient, but only an nn.Parameter given for it can be trained: this is another "
            "tensor, or the loss computes it from its own arguments. Pass nn.Parameter(values) to SoftmaxLoss or "
            "SigmoidLoss, or values.detach()"
        )
    if given.requires_grad and impl not in ("auto", "reference"):
        raise ArgumentError(f'`impl` must be "auto" or "reference" to train `{name}`; got {impl!r}')
    return given
