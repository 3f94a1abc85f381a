"""The softmax equation in closed form: loss and gradient together, with one tensor of the logits' size.

With r = 1 − p, the term of one class is f = r^γ (−log p) + κ r^(γ+1), and ∂f/∂z'_j = A·(p_j − δ_cj), where

    A = r^γ · [1 + γ·p·(−log p)/r + κ(γ+1)·p]

so the gradient of a row is p_j·Σ_c h_c − h_j with h = w q A. (−log p)/r → 1 as r → 0, so it is finite for γ < 1.
r is the sum over the other classes, never 1 − p near p = 1, so the gradient of a confident row keeps full precision.

The logits are processed in blocks of shape (n, C) or (n, C, l), which keeps the temporary tensors small.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from counterpoise.kernels.autograd import Fold, Recomputed, blocks, fused_loss, is_traced, power
from counterpoise.kernels.reduction import accumulation_dtype, class_view
from counterpoise.kernels.reference import SoftmaxParameters, dense_target, hides_target, smoothed, transformed

# Elements per block. Index targets need at most one float32 copy of a block (none for float32 logits), so their blocks
# are large enough to occupy all threads; probability targets need about eight copies.
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
    recomputed: Recomputed | None = None,
) -> Tensor:
    """Σ_i coefficient_i · ℓ_i (``total``), or the terms of that sum; coefficient is (N, …) or a scalar."""
    arguments = (target, coefficient, ignore_index, total, *params)
    return fused_loss(logits, _loss_and_gradient, *arguments, inplace=inplace, recomputed=recomputed)


def _loss_and_gradient(
    logits: Tensor,
    memory: Tensor | None,
    target: Tensor,
    coefficient: Tensor,
    ignore_index: int,
    total: bool,
    *params: Any,
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    # float16 cannot hold the gradient of a mean over many rows: it holds that of the sum, divided in the backward.
    late = logits.dtype == torch.float16
    factor = None if late else coefficient
    rows = closed_rows(logits, target, SoftmaxParameters(*params), ignore_index, memory, factor) * coefficient
    return rows.sum() if total else rows, memory, [coefficient] if late else []


def closed_rows(
    logits: Tensor,
    target: Tensor,
    params: SoftmaxParameters,
    ignore_index: int,
    gradient: Tensor | None,
    coefficient: Tensor | None,
) -> Tensor:
    """ℓ of each row, (N, …); writes its derivative, times the coefficient of the row, to ``gradient``."""
    rows = torch.empty((logits.shape[0], *logits.shape[2:]), dtype=accumulation_dtype(logits), device=logits.device)
    smooth = isinstance(params.label_smoothing, Tensor) or params.label_smoothing > 0.0
    hard = not smooth and not target.is_floating_point()
    block, size = (_hard_block, _HARD_BLOCK) if hard else (_soft_block, _SOFT_BLOCK)
    fold = Fold.of(logits)
    z, g = fold.classes(logits), None if gradient is None else fold.classes(gradient)
    y = fold.classes(target) if target.is_floating_point() else fold.rows(target)
    c = None if coefficient is None else fold.rows(coefficient.expand(rows.shape)).unsqueeze(1)
    folded = torch.empty(fold.rows(rows).shape, dtype=rows.dtype, device=rows.device)
    for n, at in blocks(z, size):
        labels = y[at if y.dim() == z.dim() else n]
        out, factor = None if g is None else g[at], None if c is None else c[at]
        folded[n] = block(z[at], labels, factor, params, ignore_index, out)
    return folded.reshape(rows.shape)


def _hard_block(
    z: Tensor,
    target: Tensor,
    coefficient: Tensor | None,
    params: SoftmaxParameters,
    ignore_index: int,
    out: Tensor | None,
) -> Tensor:
    """Index targets without label smoothing: only the term of c = y remains, one number per row."""
    target = target.unsqueeze(1)
    valid = target != ignore_index
    wrong = valid & ((target < 0) | (target >= z.shape[1]))
    y = torch.where(valid & ~wrong, target, 0)
    shifted = _shifted(z, y, params, out)
    at = shifted.gather(1, y)  # z'_y − max z'
    e = shifted.exp_()
    e.scatter_(1, y, 0.0)
    rest, own = e.sum(1, keepdim=True), at.exp()
    hidden = valid & (at == -torch.inf)  # the target is a masked class: loss inf, gradient 0; NaN stays visible
    counts = valid & ~hidden
    whole = torch.where(counts, rest + own, 1.0)
    # log Σ exp − z_y. If y is the largest class, own − 1 is 0 and log1p keeps the digits that log(1 + rest) would lose.
    nll = torch.where(counts, torch.log1p(rest + (own - 1.0)) - at, 0.0)
    loss, slope = _loss_and_slope(nll, rest / whole, own / whole, _of_target(params.gamma, y), params.poly)
    w = 1.0 if params.weight is None else params.weight[y]
    loss, slope = (torch.where(wrong, torch.nan, torch.where(counts, w * x, 0.0)) for x in (loss, slope))
    loss = torch.where(hidden & ~wrong, torch.inf, loss)
    if out is not None:
        slope = slope * params.scale if coefficient is None else slope * params.scale * coefficient
        e.mul_(slope / whole)
        e.scatter_(1, y, -slope * (rest / whole))
        if params.class_scale is not None:
            e.mul_(class_view(params.class_scale, z.dim()))
        _write(e, counts | wrong, out)
    return loss.squeeze(1)


def _shifted(z: Tensor, y: Tensor, params: SoftmaxParameters, out: Tensor | None) -> Tensor:
    """z' − max z' in new memory, or in ``out`` if that has the dtype of accumulation."""
    dtype = accumulation_dtype(z)
    own = out if out is not None and out.dtype == dtype and not is_traced(z) else None
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
    """The entry of each row's target class; numbers are returned unchanged."""
    if vector is None:
        return default
    return vector[y] if isinstance(vector, Tensor) else vector


def _loss_and_slope(nll: Tensor, r: Tensor, p: Tensor, gamma: float | Tensor, poly: float) -> tuple[Tensor, Tensor]:
    """f = r^γ (−log p) + κ r^(γ+1) and A = r^γ [1 + γ p (−log p)/r + κ (γ+1) p]."""
    if not isinstance(gamma, Tensor) and gamma == 0.0:
        return (nll, torch.ones_like(nll)) if poly == 0.0 else (nll + poly * r, 1.0 + poly * p)
    focus = power(r, gamma)
    slope = focus * (1.0 + gamma * p * torch.where(r > 0, nll / r, 1.0) + poly * (gamma + 1.0) * p)
    return focus * (nll + poly * r), slope


def _write(gradient: Tensor, counts: Tensor, out: Tensor) -> None:
    """Copy the gradient to ``out``, with zeros for the rows that do not count, even if their logits are NaN."""
    traced = is_traced(gradient)
    if traced or gradient.device.type != "cpu" or not bool(counts.all()):
        gradient.masked_fill_(~counts, 0.0)
    if traced or gradient.data_ptr() != out.data_ptr():
        out.copy_(gradient)


def _soft_block(
    z: Tensor,
    target: Tensor,
    coefficient: Tensor | None,
    params: SoftmaxParameters,
    ignore_index: int,
    out: Tensor | None,
) -> Tensor:
    """Probability targets or label smoothing: every class of the row contributes."""
    t, valid, wrong = (x if x.dim() == z.dim() else x.unsqueeze(1) for x in dense_target(z, target, ignore_index))
    z = transformed(torch.where(valid, z.to(t.dtype), 0.0), t, params)
    q = smoothed(t, z, params)
    hidden = hides_target(t, z) & valid
    if params.weight is not None:
        q = q * class_view(params.weight, z.dim())
    top = z.argmax(1, keepdim=True)
    peak = z.gather(1, top)
    d = z - torch.where(peak == -torch.inf, 0.0, peak)
    # Only the largest class can have p above ½: its r is the sum over the other classes.
    rest = d.exp().scatter_(1, top, 0.0).sum(1, keepdim=True)
    p = (d.exp() / (1.0 + rest)).scatter_(1, top, 1.0 / (1.0 + rest))
    r = (1.0 - p).scatter_(1, top, rest / (1.0 + rest))
    nll = torch.where(d == -torch.inf, 0.0, torch.log1p(rest) - d)
    loss, slope = _loss_and_slope(nll, r, p, class_view(params.gamma, z.dim()), params.poly)
    if out is not None:
        h = q * slope
        gradient = p * (h.sum(1, keepdim=True) - h) - h * r
        gradient = gradient * (params.scale if coefficient is None else params.scale * coefficient)
        if params.class_scale is not None:
            gradient = gradient * class_view(params.class_scale, z.dim())
        out.copy_(torch.where(wrong, torch.nan, torch.where(valid & ~hidden, gradient, 0.0)))
    rows = torch.where(hidden, torch.inf, torch.where(valid, (q * loss).sum(1, keepdim=True), 0.0))
    return torch.where(wrong, torch.nan, rows).squeeze(1)
