"""Loss and gradient in one forward pass: the autograd function, the gradient's memory, and blocks of the logits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from counterpoise.core.errors import UnsupportedError

Index = tuple[slice, ...]
Multiply = Callable[[Tensor, Tensor], Tensor]
Forward = Callable[..., tuple[Tensor, Tensor | None, list[Tensor]]]

_FAKE = torch._C._TorchDispatchModeKey.FAKE


def fused_loss(
    logits: Tensor,
    forward: Forward,
    *arguments: Any,
    multiply: Multiply | None = None,
    inplace: bool = False,
    recomputed: Recomputed | None = None,
) -> Tensor:
    """The loss of ``forward(logits, memory, *arguments)``, which also computes the gradient where one is needed.

    Args:
        logits: (N, C, …), the only tensor with a gradient.
        forward: returns the loss, the gradient, and the factors (scalar or (N, …)) by which the backward still has to
            multiply the gradient; ``memory`` is an empty tensor for the gradient, or None where none is needed.
        arguments: passed on to ``forward``; tensors among them must not require a gradient.
        multiply: computes gradient times upstream gradient; default `multiplied`.
        inplace: write the gradient into the memory of the logits.
        recomputed: the loss in differentiable operations, for double backward, which is refused without it.
    """
    if torch.is_grad_enabled() and logits.requires_grad:
        loss: Tensor = _FusedLoss.apply(logits, forward, multiply or multiplied, inplace, recomputed, *arguments)
        return loss
    return forward(logits, None, *arguments)[0]


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        forward: Forward,
        multiply: Multiply,
        inplace: bool,
        recomputed: Recomputed | None,
        *arguments: Any,
    ) -> Tensor:
        loss, gradient, factors = forward(logits, gradient_memory(logits, inplace), *arguments)
        assert gradient is not None
        _invalidate_overwritten(logits, gradient)
        ctx.save_for_backward(gradient, *factors)
        ctx.multiply, ctx.recomputed, ctx.others = multiply, recomputed, 4 + len(arguments)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if is_differentiated():
            return *recomputed_gradients(ctx.recomputed, upstream), *[None] * ctx.others
        if ctx.recomputed is not None and not keeps_graph():
            ctx.recomputed = None
        gradient, *factors = ctx.saved_tensors
        if upstream.dim() == 0:
            upstream = upstream.reshape([1] * gradient.dim())
        elif upstream.dim() < gradient.dim():
            upstream = upstream.unsqueeze(1)
        for factor in factors:
            upstream = upstream * (factor.unsqueeze(1) if factor.dim() else factor)
        return ctx.multiply(gradient, upstream), *[None] * ctx.others


class Recomputed:
    """A loss in differentiable operations, which a double backward computes from the inputs that this object keeps.

    Args:
        loss: a function of the inputs.
        inputs: first those that may require a gradient. Tensors are kept as autograd keeps them, so that saved-tensor
            hooks and checkpointing see them; a change in place is an error, but only in the double backward.
        differentiable: how many inputs may require a gradient.
    """

    def __init__(self, loss: Callable[..., Tensor], *inputs: Any, differentiable: int = 1) -> None:
        self.loss, self.differentiable = loss, differentiable
        self.others = [None if isinstance(x, Tensor) else x for x in inputs]
        self.node: Tensor = _Kept.apply(*(x if isinstance(x, Tensor) else None for x in inputs))

    def gradients(self, upstream: Tensor) -> list[Tensor | None]:
        """The gradients of the differentiable inputs, which can be differentiated once more."""
        assert self.node.grad_fn is not None
        kept = self.node.grad_fn.saved_tensors  # type: ignore[attr-defined]
        inputs = [other if tensor is None else tensor for tensor, other in zip(kept, self.others, strict=True)]
        sources = {i: x for i, x in enumerate(kept[: self.differentiable]) if x is not None and x.requires_grad}
        found = torch.autograd.grad(self.loss(*inputs), list(sources.values()), upstream, create_graph=True)
        gradients = dict(zip(sources, found, strict=True))
        return [gradients.get(i) for i in range(self.differentiable)]


class _Kept(torch.autograd.Function):
    """A node beside the graph of the loss that keeps tensors; nothing ever flows through it."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor | None) -> Tensor:
        ctx.save_for_backward(*tensors)
        return torch.empty(0)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, ...]:
        return (None,) * len(ctx.needs_input_grad)


def is_differentiated() -> bool:
    """Whether the backward that is running is itself differentiated, as with ``create_graph=True``."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def recomputed_gradients(recomputed: Recomputed | None, upstream: Tensor) -> list[Tensor | None]:
    """The gradients from `Recomputed`; without it the second derivative would be missing, which is an error."""
    if recomputed is None:
        raise UnsupportedError(
            'double backward (`create_graph=True`) is not supported by impl="closed_form" and impl="triton", nor with '
            '`inplace=True`, which overwrites the logits; pass impl="auto" or impl="reference", and inplace=False'
        )
    return recomputed.gradients(upstream)


# Whether a backward needs its saved tensors again (`retain_graph`). Assumed where torch lacks the function.
keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def multiplied(gradient: Tensor, factor: Tensor) -> Tensor:
    """The saved gradient times a factor of the same number of dimensions, in the gradient's dtype.

    In place unless the graph is retained for a second backward, so that there is one tensor of the logits' size.
    """
    if is_traced(gradient):
        return (gradient * factor).to(gradient.dtype)
    if factor.device.type == "cpu" and factor.numel() == 1 and factor.item() == 1 and not keeps_graph():
        return gradient
    return torch.mul(gradient, factor, out=torch.empty_like(gradient) if keeps_graph() else gradient)


def in_transform() -> bool:
    """Whether a transform of torch.func (grad, vmap, jvp, …) or forward-mode differentiation is active."""
    if torch.compiler.is_compiling():
        return False
    return bool(torch._C._are_functorch_transforms_active()) or forward_ad._current_level >= 0


def is_jit_traced() -> bool:
    """Whether torch.jit.trace records, which cannot record functions with a backward of their own."""
    return not torch.compiler.is_compiling() and torch._C._is_tracing()


def is_traced(tensor: Tensor) -> bool:
    """Whether operations on this tensor are recorded, or compute shapes only, so that no branch may read its values.

    This holds in torch.compile, torch.export, make_fx and torch.jit.trace, and for meta and fake tensors.
    """
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return True
    if tensor.device.type == "meta" or isinstance(tensor, FakeTensor):
        return True
    return get_proxy_mode() is not None or torch._C._get_dispatch_mode(_FAKE) is not None


def power(base: Tensor, exponent: float | Tensor) -> Tensor:
    """base^exponent with 0^0 = 1; the exponents 1, 2 and 4 by multiplication, which is faster."""
    if isinstance(exponent, Tensor) or exponent not in (0.0, 1.0, 2.0, 4.0):
        return base.pow(exponent)
    if exponent == 0.0:
        return torch.ones_like(base)
    if exponent == 1.0:
        return base
    square = base * base
    return square if exponent == 2.0 else square * square


class Fold(NamedTuple):
    """View of (N, C, …) tensors as (N, C) or (N, C, L) without a copy; ``last``: classes are last in memory."""

    last: bool

    @classmethod
    def of(cls, logits: Tensor) -> Fold:
        return cls(logits.dim() > 2 and logits.movedim(1, -1).is_contiguous())

    def classes(self, tensor: Tensor) -> Tensor:
        """(N, C, …) as (N·L, C) if the classes are last in memory, otherwise as (N, C, L); (N, C) is unchanged."""
        if self.last:
            return tensor.movedim(1, -1).reshape(-1, tensor.shape[1])
        return tensor.flatten(2) if tensor.dim() > 3 else tensor

    def rows(self, tensor: Tensor) -> Tensor:
        """(N, …) as (N·L,) or (N, L) in the same way."""
        if self.last:
            return tensor.reshape(-1)
        return tensor.flatten(1) if tensor.dim() > 2 else tensor


def empty_gradient(logits: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """An empty tensor with the shape and memory format of the logits, which `Fold` can view without a copy."""
    dtype = dtype or logits.dtype
    if Fold.of(logits).last:
        return torch.empty(logits.movedim(1, -1).shape, dtype=dtype, device=logits.device).movedim(-1, 1)
    return torch.empty(logits.shape, dtype=dtype, device=logits.device)


def gradient_memory(logits: Tensor, inplace: bool) -> Tensor:
    """Memory for the gradient: new, or that of the logits (never where `is_traced`: compilers plan memory)."""
    return logits.detach() if inplace and not is_traced(logits) else empty_gradient(logits)


def _invalidate_overwritten(logits: Tensor, gradient: Tensor) -> None:
    """Mark logits whose memory now holds the gradient: backwards that saved them raise, and they become empty."""
    if not is_traced(logits) and gradient.data_ptr() == logits.data_ptr() and logits.numel():
        torch.autograd.graph.increment_version(logits)
        logits.data = logits.detach().new_empty(0)


def blocks(logits: Tensor, elements: int) -> Iterator[tuple[Index, Index]]:
    """Slices of (N,) or (N, L), and of (N, C) or (N, C, L), with about ``elements`` logits each.

    Small blocks keep temporaries in the cache. Where `is_traced`, there is a single block: a compiler fuses operations.
    """
    every = slice(None)
    if is_traced(logits):
        yield (every,), (every,)
        return
    positions = logits.shape[2] if logits.dim() > 2 else 1
    step = max(1, elements // max(1, logits.shape[1] * positions))
    width = max(1, min(positions, elements // logits.shape[1]))
    if logits.dim() == 2:
        yield from (((rows,), (rows,)) for rows in _slices(logits.shape[0], step))
        return
    for rows, at in itertools.product(_slices(logits.shape[0], step), _slices(positions, width)):
        yield (rows, at), (rows, every, at)


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
