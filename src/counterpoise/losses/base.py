"""Base class of the loss modules: it stores the arguments of an equation and calls the equation in `forward`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.losses.arguments import vector_tensor
from counterpoise.losses.options import Vector

__all__ = ["Loss"]


class Loss(nn.Module):
    """Keeps the options of one equation: vectors as buffers that move and persist, the rest as plain values."""

    weight: Tensor

    def __init__(self, equation: Callable[..., Tensor], options: dict[str, Any]) -> None:
        super().__init__()
        if options.get("sample_weight") is not None:
            raise ArgumentError("`sample_weight` belongs to a batch: give it when calling the loss")
        self.equation = equation
        self.options: dict[str, Any] = {}
        self.vectors: tuple[str, ...] = ()
        for name, value in options.items():
            if value is None or isinstance(value, (str, bool, int, float)):
                self.options[name] = value
            else:
                self.vectors += (name,)
                self.register_buffer(name, vector_tensor(value, name).detach().clone())

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        sample_weight: Vector | None = None,
        normalizer: float | Tensor | None = None,
        **unknown: object,
    ) -> Tensor:
        """The loss; ``sample_weight`` and ``normalizer`` belong to a batch and are given here."""
        if unknown:
            name = min(unknown)
            hint = "wrap the loss: integrations.huggingface.loss_for_trainer(loss)"
            wanted = hint if name == "num_items_in_batch" else "options of the loss are given where it is made"
            raise ArgumentTypeError(f"`{name}` is no argument of a batch; {wanted}")
        batch = {"sample_weight": sample_weight, "normalizer": normalizer}
        given = {name: value for name, value in batch.items() if value is not None}
        return self.equation(logits, target, **{**self.keywords, **given})

    @property
    def keywords(self) -> dict[str, Any]:
        """The letters of the equation that this loss sets, as its function takes them."""
        return {**self.options, **{name: getattr(self, name) for name in self.vectors}}

    def reweight(self, weight: Vector) -> None:
        """Use other class weights ``(C,)`` from now on, as deferred or adaptive re-weighting does.

        Raises:
            ArgumentError: the loss has no class weight, or one of another length.
        """
        if "weight" not in self.vectors:
            raise ArgumentError("`reweight` needs a loss that was made with `weight`, such as weight=[1.0] * C")
        values = vector_tensor(weight, "weight").detach()
        if values.shape != self.weight.shape:
            raise ArgumentError(f"`weight` must have shape {tuple(self.weight.shape)}; got {tuple(values.shape)}")
        self.weight.copy_(values)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move as asked, but keep the vectors' precision: a weight of 1e-8 is 0 in half precision."""
        kept = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in kept.items():
            after = self._buffers[name]
            if before is not None and after is not None and after.dtype in (torch.float16, torch.bfloat16):
                self._buffers[name] = before.to(after.device)
        return self

    def extra_repr(self) -> str:
        shown = {name: value for name, value in self.options.items() if value is not None}
        vectors = [f"{name}={tuple(getattr(self, name).shape)}" for name in self.vectors]
        return ", ".join([*(f"{name}={value!r}" for name, value in shown.items()), *vectors])
