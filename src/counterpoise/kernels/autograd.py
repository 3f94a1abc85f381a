"""What the hand-written backward passes share: the upstream gradient, the memory of the gradient, refusals."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from counterpoise.core.errors import UnsupportedError
from counterpoise.kernels.layout import empty_gradient

__all__ = [
    "gradient_room",
    "in_transform",
    "keeps_graph",
    "overwritten",
    "power",
    "refuse_double_backward",
    "upstream_applied",
]


def in_transform() -> bool:
    """Inside grad, vmap, jvp … of torch.func, or a level of forward-mode differentiation?"""
    if torch.compiler.is_compiling():
        return False
    return bool(torch._C._are_functorch_transforms_active()) or forward_ad._current_level >= 0


def refuse_double_backward() -> None:
    """Called in a backward: the gradient of the gradient would silently be missing."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise UnsupportedError(
            'double backward (`create_graph=True`) is not supported by impl="closed_form" and "triton", of which '
            '"auto" takes one; use impl="reference"'
        )


# Tells a backward whether its saved tensors are needed again (`retain_graph`). Where torch lacks it they always are.
keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def upstream_applied(gradient: Tensor, factor: Tensor) -> Tensor:
    """The saved gradient times a factor of the same number of dimensions, in the gradient's dtype.

    In place where no second backward can ask for it again, so that one tensor of the logits' size is all there is.
    """
    if torch.compiler.is_compiling():
        return (gradient * factor).to(gradient.dtype)
    if factor.device.type == "cpu" and factor.numel() == 1 and factor.item() == 1 and not keeps_graph():
        return gradient
    return torch.mul(gradient, factor, out=torch.empty_like(gradient) if keeps_graph() else gradient)


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


def gradient_room(logits: Tensor, inplace: bool) -> Tensor:
    """Where the gradient goes: memory of its own, or (never inside `torch.compile`) that of the logits."""
    return logits.detach() if inplace and not torch.compiler.is_compiling() else empty_gradient(logits)


def overwritten(logits: Tensor, gradient: Tensor) -> None:
    """If the gradient took the logits' memory: whoever saved them for a backward is refused by their version, and
    whoever would use them from now on finds them empty, not changed."""
    if not torch.compiler.is_compiling() and gradient.data_ptr() == logits.data_ptr() and logits.numel():
        torch.autograd.graph.increment_version(logits)
        logits.data = logits.detach().new_empty(0)
