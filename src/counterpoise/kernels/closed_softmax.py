"""The softmax equation in closed form: loss and gradient together, in one tensor of the logits' size.

With r = 1 − p, one class's term f = r^γ (−log p) + κ r^(γ+1) has ∂f/∂z'_j = A·(p_j − δ_cj), where

    A = r^γ · [1 + γ·p·(−log p)/r + κ(γ+1)·p]

so the gradient of a row is p_j·Σ_c h_c − h_j with h = w q A; (−log p)/r → 1 as r → 0, so nothing is infinite for γ < 1.
r is summed from the other classes, never 1 − p near p = 1: a confident row keeps its gradient to the last digits.

Blocks keep temporaries small. A block has its classes in dimension 1: (n, C) or (n, C, l).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from counterpoise.kernels.autograd import gradient_room, overwritten, power, refuse_double_backward, upstream_applied
from counterpoise.kernels.layout import Fold, accumulation_dtype, blocks, class_view
from counterpoise.kernels.reference import SoftmaxParameters, dense_target, smoothed, transformed

__all__ = ["closed_rows", "softmax_closed"]

# Elements of a block. A hard target needs one float32 copy of a block at most (none for float32 logits), so its blocks
# are large enough to occupy all threads; a soft one needs about eight.
_HARD_BLOCK, _SOFT_BLOCK = 1 << 20, 1 << 17


def softmax_closed(
    logits: Tensor,
    target: Tensor,
    coefficient: Tensor,
    params: SoftmaxParameters,
    ignore_index: int,
    *,
    total: bool,
    inplace: bool = False,
) -> Tensor:
    """Σ_i coefficient_i · ℓ_i (``total``), or each of them; coefficient is (N, …) or a scalar."""
    if torch.is_grad_enabled() and logits.requires_grad:
        loss: Tensor = _SoftmaxClosed.apply(logits, target, coefficient, ignore_index, total, inplace, *params)
        return loss
    rows = closed_rows(logits, target, params, ignore_index, None, None) * coefficient
    return rows.sum() if total else rows


class _SoftmaxClosed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, coefficient: Tensor, *rest: Any) -> Tensor:
        ignore_index, total, inplace, *letters = rest
        # float16 cannot hold the gradient of a mean over many rows: it keeps that of the sum and divides in backward.
        late = logits.dtype == torch.float16
        gradient = gradient_room(logits, inplace)
        rows = closed_rows(
            logits, target, SoftmaxParameters(*letters), ignore_index, gradient, None if late else coefficient
        )
        overwritten(logits, gradient)
        ctx.save_for_backward(gradient, *([coefficient] if late else []))
        rows = rows * coefficient
        return rows.sum() if total else rows

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_double_backward()
        gradient, *late = ctx.saved_tensors
        for coefficient in late:
            upstream = upstream * coefficient
        factor = upstream.unsqueeze(1) if upstream.dim() else upstream.reshape([1] * gradient.dim())
        return upstream_applied(gradient, factor), *[None] * (5 + len(SoftmaxParameters._fields))


def closed_rows(
    logits: Tensor,
    target: Tensor,
    params: SoftmaxParameters,
    ignore_index: int,
    gradient: Tensor | None,
    coefficient: Tensor | None,
) -> Tensor:
    """ℓ of each row, (N, …); fills ``gradient`` with its derivative, times the row's coefficient."""
    rows = torch.empty((logits.shape[0], *logits.shape[2:]), dtype=accumulation_dtype(logits), device=logits.device)
    smooth = isinstance(params.label_smoothing, Tensor) or params.label_smoothing > 0.0
    hard = not smooth and not target.is_floating_point()
    block, size = (_hard_block, _HARD_BLOCK) if hard else (_soft_block, _SOFT_BLOCK)
    fold = Fold.of(logits)
    z, g = fold.classes(logits), None if gradient is None else fold.classes(gradient)
    y = fold.classes(target) if target.is_floating_point() else fold.rows(target)
    c = None if coefficient is None else fold.rows(coefficient.expand(rows.shape))
    folded = torch.empty(fold.rows(rows).shape, dtype=rows.dtype, device=rows.device)
    for n, at in blocks(z, size):
        out = None if g is None else g[at]
        folded[n] = block(
            z[at], y[at if y.dim() == z.dim() else n], None if c is None else c[n], params, ignore_index, out
        )
    return folded.reshape(rows.shape)


def _hard_block(
    z: Tensor,
    target: Tensor,
    coefficient: Tensor | None,
    params: SoftmaxParameters,
    ignore_index: int,
    out: Tensor | None,
) -> Tensor:
    """Index targets without smoothing: only c = y survives, so everything but the exponentials is one number a row."""
    target = target.unsqueeze(1)
    valid = target != ignore_index
    wrong = valid & ((target < 0) | (target >= z.shape[1]))
    y = torch.where(valid & ~wrong, target, 0)
    shifted = _shifted(z, y, params, out)
    at = shifted.gather(1, y)  # z'_y − max z'
    e = shifted.exp_()
    e.scatter_(1, y, 0.0)
    rest, own = e.sum(1, keepdim=True), at.exp()
    counts = valid & (at != -torch.inf)  # a masked target takes no part; a NaN does, and shows
    whole = torch.where(counts, rest + own, 1.0)
    # log Σ exp − z_y. For y the largest, own − 1 is exactly 0 and log1p keeps what log(1 + rest) would round away.
    nll = torch.where(counts, torch.log1p(rest + (own - 1.0)) - at, 0.0)
    loss, slope = _terms(nll, rest / whole, own / whole, _of_target(params.gamma, y), params.poly)
    w = 1.0 if params.weight is None else params.weight[y]
    loss, slope = (torch.where(wrong, torch.nan, torch.where(counts, w * x, 0.0)) for x in (loss, slope))
    if out is not None:
        slope = slope * params.scale if coefficient is None else slope * params.scale * coefficient.unsqueeze(1)
        e.mul_(slope / whole)
        e.scatter_(1, y, -slope * (rest / whole))
        if params.class_scale is not None:
            e.mul_(class_view(params.class_scale, z.dim()))
        _write(e, counts | wrong, out)
    return loss.squeeze(1)


def _shifted(z: Tensor, y: Tensor, params: SoftmaxParameters, out: Tensor | None) -> Tensor:
    """z' − max z' in memory of its own: ``out`` itself where its dtype allows."""
    dtype = accumulation_dtype(z)
    own = out if out is not None and out.dtype == dtype and not torch.compiler.is_compiling() else None
    if z.dtype != dtype:
        own = z = z.to(dtype)
    if params.class_scale is not None or params.scale != 1.0:
        a = 1.0 if params.class_scale is None else params.class_scale
        own = z = torch.mul(z, class_view(params.scale * a, z.dim()), out=own)
    if params.offset is not None:
        own = z = torch.add(z, class_view(params.offset, z.dim()), out=own)
    if params.margin is not None:
        margin = params.scale * _of_target(params.margin, y) * _of_target(params.class_scale, y, default=1.0)
        own = z = z.scatter_add(1, y, torch.zeros_like(y, dtype=dtype) - margin)
    top = z.amax(1, keepdim=True)
    return torch.sub(z, torch.where(top == -torch.inf, 0.0, top), out=own)


def _of_target(vector: float | Tensor | None, y: Tensor, default: float = 0.0) -> float | Tensor:
    """The entry of each row's target class; numbers pass."""
    if vector is None:
        return default
    return vector[y] if isinstance(vector, Tensor) else vector


def _terms(nll: Tensor, r: Tensor, p: Tensor, gamma: float | Tensor, poly: float) -> tuple[Tensor, Tensor]:
    """f = r^γ (−log p) + κ r^(γ+1) and A = r^γ [1 + γ p (−log p)/r + κ (γ+1) p]."""
    if not isinstance(gamma, Tensor) and gamma == 0.0:
        return (nll, torch.ones_like(nll)) if poly == 0.0 else (nll + poly * r, 1.0 + poly * p)
    focus = power(r, gamma)
    slope = focus * (1.0 + gamma * p * torch.where(r > 0, nll / r, 1.0) + poly * (gamma + 1.0) * p)
    return focus * (nll + poly * r), slope


def _write(gradient: Tensor, counts: Tensor, out: Tensor) -> None:
    """Into ``out``, with zeros for rows that do not count, also where their logits are NaN or infinite."""
    compiling = torch.compiler.is_compiling()
    if compiling or gradient.device.type != "cpu" or not bool(counts.all()):
        gradient.masked_fill_(~counts, 0.0)
    if compiling or gradient.data_ptr() != out.data_ptr():
        out.copy_(gradient)


def _soft_block(
    z: Tensor,
    target: Tensor,
    coefficient: Tensor | None,
    params: SoftmaxParameters,
    ignore_index: int,
    out: Tensor | None,
) -> Tensor:
    """Probabilities or smoothing: every class of the row has a term."""
    t, valid, wrong = (x if x.dim() == z.dim() else x.unsqueeze(1) for x in dense_target(z, target, ignore_index))
    z = transformed(torch.where(valid, z.to(t.dtype), 0.0), t, params)
    q = smoothed(t, z, params)
    if params.weight is not None:
        q = q * class_view(params.weight, z.dim())
    top = z.argmax(1, keepdim=True)
    peak = z.gather(1, top)
    d = z - torch.where(peak == -torch.inf, 0.0, peak)
    # Only the largest class can have p above ½: its r is summed from the others.
    rest = d.exp().scatter_(1, top, 0.0).sum(1, keepdim=True)
    p = (d.exp() / (1.0 + rest)).scatter_(1, top, 1.0 / (1.0 + rest))
    r = (1.0 - p).scatter_(1, top, rest / (1.0 + rest))
    nll = torch.where(d == -torch.inf, 0.0, torch.log1p(rest) - d)
    loss, slope = _terms(nll, r, p, class_view(params.gamma, z.dim()), params.poly)
    if out is not None:
        h = q * slope
        gradient = p * (h.sum(1, keepdim=True) - h) - h * r
        gradient = (
            gradient * params.scale if coefficient is None else gradient * (params.scale * coefficient.unsqueeze(1))
        )
        if params.class_scale is not None:
            gradient = gradient * class_view(params.class_scale, z.dim())
        gradient = torch.where(wrong, torch.nan, torch.where(valid, gradient, 0.0))
        out.copy_(gradient)
    rows = (q * loss).sum(1)
    return torch.where(wrong.squeeze(1), torch.nan, torch.where(valid.squeeze(1), rows, 0.0))
