"""Linear layer and softmax loss together, so that the logits and their gradient exist for a few rows at a time.

    z = h Wᵀ + b,   ∂L/∂h = g W,   ∂L/∂W = gᵀ h,   ∂L/∂b = Σ g,      g = ∂ℓ/∂z

A mean or a sum computes all gradients in the forward pass: three matrix products, as many as layer and loss apart, and
no tensor of the logits' size. "none" has an upstream gradient per row, which the forward does not know, so the backward
computes z once more. All gradients are exact: the small ones that other implementations drop are those of rare classes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from counterpoise.kernels.autograd import Recomputed, is_differentiated, keeps_graph, recomputed_gradients
from counterpoise.kernels.dispatch import (
    REFERENCE_LOSS,
    Impl,
    Implementation,
    can_recompute,
    rows_and_gradient,
    softmax_denominator,
    verified_implementation,
)
from counterpoise.kernels.reduction import Batch, accumulation_dtype, safe_divide
from counterpoise.kernels.reference import SoftmaxParameters

# Logits per chunk. On a CPU they fit the cache of a core; on a GPU a matrix product needs at least a thousand rows.
_CPU_CHUNK, _GPU_CHUNK, _GPU_ROWS = 1 << 20, 1 << 26, 1024


class Head(NamedTuple):
    """The tensors that have a gradient: hidden (N, D), weight (C, D), bias (C,)."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None

    def logits(self, rows: slice) -> Tensor:
        return torch.nn.functional.linear(self.hidden[rows], self.weight, self.bias)


class _Rows(NamedTuple):
    """What the loss of a row depends on besides its logits and the hyperparameters."""

    target: Tensor
    sample_weight: Tensor | None
    ignore_index: int
    implementation: Implementation


def linear_softmax(
    head: Head, logits: Tensor, batch: Batch, params: SoftmaxParameters, *, impl: Impl, implementation: Implementation
) -> Tensor:
    """The loss: a scalar, or (N,) for "none"; only shape, dtype and device of ``logits`` (N, C) are used."""
    factor: Tensor | None = None
    if batch.reduction != "none":
        factor = torch.ones((), dtype=accumulation_dtype(logits), device=logits.device)
    if factor is not None and batch.reduction != "sum":
        below = softmax_denominator(logits, params, batch) if batch.denominator is None else batch.denominator
        factor = safe_divide(factor, below)
    if implementation == "triton":
        implementation = verified_implementation(impl, "softmax", logits, params, batch, head.logits)
    rows = _Rows(*batch[:3], implementation)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in head):
        recomputed = None
        if impl == "auto" and can_recompute(*head):
            recomputed = Recomputed(_reference_loss, *head, *batch, *params, differentiable=len(head))
        loss: Tensor = _LinearSoftmax.apply(*head, recomputed, factor, *rows, *params)
        return loss
    loss, _ = _chunked(head, rows, params, (False, False, False), rows.sample_weight)
    return loss if factor is None else loss.sum() * factor


def _reference_loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    return REFERENCE_LOSS["softmax"](torch.nn.functional.linear(hidden, weight, bias), *arguments)


class _LinearSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        head, (ctx.recomputed, factor) = Head(hidden, weight, bias), rest[:2]
        count = 2 + len(_Rows._fields)
        rows, params = _Rows(*rest[2:count]), SoftmaxParameters(*rest[count:])
        wanted = ctx.needs_input_grad[:3] if factor is not None else (False, False, False)
        loss, gradients = _chunked(head, rows, params, wanted, rows.sample_weight)
        ctx.reduced, ctx.rows, ctx.params = factor is not None, rows, params
        if factor is None:
            ctx.save_for_backward(*head)
            return loss
        ctx.dtypes = [hidden.dtype, weight.dtype, weight.dtype]
        ctx.save_for_backward(factor, *gradients)
        total: Tensor = loss.sum() * factor
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        others = [None] * (2 + len(_Rows._fields) + len(SoftmaxParameters._fields))
        if is_differentiated():
            return *recomputed_gradients(ctx.recomputed, upstream), *others
        if ctx.recomputed is not None and not keeps_graph():
            ctx.recomputed = None
        if ctx.reduced:
            factor, *gradients = ctx.saved_tensors
            return *(_scaled(g, upstream * factor, d) for g, d in zip(gradients, ctx.dtypes, strict=True)), *others
        head = Head(*ctx.saved_tensors)
        u = ctx.rows.sample_weight
        coefficient = upstream if u is None else upstream * u
        _, gradients = _chunked(head, ctx.rows, ctx.params, ctx.needs_input_grad[:3], coefficient)
        return *(None if g is None else g.to(head.weight.dtype) for g in gradients), *others


def _chunked(
    head: Head, rows: _Rows, params: SoftmaxParameters, wanted: tuple[bool, ...], coefficient: Tensor | None
) -> tuple[Tensor, list[Tensor | None]]:
    """coefficient · ℓ per row, and the wanted gradients of the sum; those of weight and bias are summed in float32."""
    n, classes = len(head.hidden), len(head.weight)
    precise = accumulation_dtype(head.hidden)
    losses = torch.empty(n, dtype=precise, device=head.hidden.device)
    of_hidden = torch.empty_like(head.hidden) if wanted[0] else None
    of_weight = torch.zeros_like(head.weight, dtype=precise) if wanted[1] else None
    of_bias = torch.zeros(classes, dtype=precise, device=losses.device) if wanted[2] else None
    for at in _chunks(n, classes, head.hidden.device):
        losses[at], g = rows_and_gradient(
            head.logits(at),
            rows.target[at],
            None if coefficient is None else coefficient[at],
            params,
            ignore_index=rows.ignore_index,
            implementation=rows.implementation,
            want_gradient=any(wanted),
        )
        if g is None:
            continue
        if of_hidden is not None:
            of_hidden[at] = g @ head.weight
        if of_weight is not None:
            _add_product(of_weight, g.T, head.hidden[at])
        if of_bias is not None:
            of_bias += g.sum(0, dtype=precise)
    return losses, [of_hidden, of_weight, of_bias]


def _scaled(gradient: Tensor | None, factor: Tensor, dtype: torch.dtype) -> Tensor | None:
    """gradient · factor, multiplied in float32: a loss scale of 65536 overflows float16, the product need not."""
    return None if gradient is None else (gradient * factor.reshape([1] * gradient.dim())).to(dtype)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, without a second matrix of that size where the dtypes agree."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _chunks(n: int, classes: int, device: torch.device) -> list[slice]:
    size = max(1, _CPU_CHUNK // classes) if device.type == "cpu" else max(_GPU_ROWS, _GPU_CHUNK // classes)
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
