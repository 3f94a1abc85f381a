"""Which form of an equation runs, and what the closed forms share.

This is the one place that knows what each form cannot do. The Triton form has its place here: a third answer of
`chosen_form`, and a module beside the reference and the closed one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from counterpoise.core.errors import UnsupportedError

__all__ = ["Impl", "chosen_form", "in_transform", "power", "refuse_double_backward", "upstream_applied"]

Impl = Literal["auto", "reference", "closed_form", "triton"]


def chosen_form(impl: Impl, others: Iterable[Any]) -> Literal["reference", "closed_form"]:
    """The form that runs: "auto" takes the closed one, or the reference where the closed one cannot be used.

    ``others`` are all arguments save the logits: the closed forms have no gradient for them.
    """
    if impl == "reference":
        return "reference"
    if impl == "triton":
        raise UnsupportedError(
            '`impl="triton"` is not part of this release; "auto" takes the fastest form there is, with the same result'
        )
    reason = _obstacle(others)
    if reason is None:
        return "closed_form"
    if impl == "closed_form":
        raise UnsupportedError(
            f'`impl="closed_form"` {reason}; use impl="reference", or "auto", which falls back to it'
        )
    return "reference"


def _obstacle(others: Iterable[Any]) -> str | None:
    if in_transform():
        return "does not run inside torch.func transforms or forward-mode differentiation"
    if torch.is_grad_enabled() and any(isinstance(other, Tensor) and other.requires_grad for other in others):
        return "has a gradient for `logits` only, and another argument requires one"
    return None


def in_transform() -> bool:
    """Inside grad, vmap, jvp … of torch.func, or a level of forward-mode differentiation?"""
    if torch.compiler.is_compiling():
        return False
    return bool(torch._C._are_functorch_transforms_active()) or forward_ad._current_level >= 0


def refuse_double_backward() -> None:
    """Called in a backward: the gradient of the gradient would silently be missing."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise UnsupportedError(
            'double backward (`create_graph=True`) is not supported by impl="closed_form", which "auto" takes; '
            'use impl="reference"'
        )


# Tells a backward whether its saved tensors are needed again (`retain_graph`). Where torch lacks it they always are.
_keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def upstream_applied(gradient: Tensor, factor: Tensor) -> Tensor:
    """The saved gradient times a factor of the same number of dimensions, in the gradient's dtype.

    In place where no second backward can ask for it again, so that one tensor of the logits' size is all there is.
    """
    if torch.compiler.is_compiling():
        return (gradient * factor).to(gradient.dtype)
    if factor.device.type == "cpu" and factor.numel() == 1 and factor.item() == 1 and not _keeps_graph():
        return gradient
    return torch.mul(gradient, factor, out=torch.empty_like(gradient) if _keeps_graph() else gradient)


def power(base: Tensor, exponent: float | Tensor) -> Tensor:
    """base^exponent with 0^0 = 1; the usual exponents by multiplication."""
    if isinstance(exponent, Tensor) or exponent not in (0.0, 1.0, 2.0, 4.0):
        return base.pow(exponent)
    if exponent == 0.0:
        return torch.ones_like(base)
    if exponent == 1.0:
        return base
    square = base * base
    return square if exponent == 2.0 else square * square
