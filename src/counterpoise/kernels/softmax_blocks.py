"""The softmax equation for a block of logits (n, C) or (n, C, l), on any device and with anything in it.

With r = 1 − p, the term of one class is f = r^γ (−log p) + κ r^(γ+1), and ∂f/∂z'_j = A·(p_j − δ_cj), where

    A = r^γ · [1 + γ·p·(−log p)/r + κ(γ+1)·p]

so the gradient of a row is p_j·Σ_c h_c − h_j with h = w q A. (−log p)/r → 1 as r → 0, so it is finite for γ < 1.
r is the sum over the other classes, never 1 − p near p = 1, so the gradient of a confident row keeps full precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.kernels.autograd import is_traced, power
from counterpoise.kernels.reduction import accumulation_dtype, class_view
from counterpoise.kernels.reference import (
    SoftmaxParameters,
    dense_target,
    hides_target,
    is_affine,
    largest_unmasked,
    scaled,
    smoothed,
    transformed,
    with_float64,
)


def hard_block(
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
    d = shifted(z, y, params, out)
    at = d.gather(1, y)  # z'_y − max z'
    e = d.exp_()
    e.scatter_(1, y, 0.0)
    rest, own = e.sum(1, keepdim=True), at.exp()
    hidden = valid & (at == -torch.inf)  # the target is a masked class: loss inf, gradient 0; NaN stays visible
    counts = valid & ~hidden
    whole = torch.where(counts, rest + own, 1.0)
    # log Σ exp − z_y. If y is the largest class, own − 1 is 0 and log1p keeps the digits that log(1 + rest) would lose.
    nll = torch.where(counts, torch.log1p(rest + (own - 1.0)) - at, 0.0)
    loss, slope = loss_and_slope(nll, rest / whole, own / whole, of_target(params.gamma, y), params.poly)
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


def shifted(z: Tensor, y: Tensor, params: SoftmaxParameters, out: Tensor | None) -> Tensor:
    """z' − max z' in new memory, or in ``out`` if that has the dtype of accumulation."""
    if is_affine(params):
        z = out = affine(z, y, params, out)
    elif z.dtype != accumulation_dtype(z):
        z = out = z.to(accumulation_dtype(z))
    return torch.sub(z, largest_unmasked(z, None), out=usable_memory(z, out))


def affine(z: Tensor, y: Tensor, params: SoftmaxParameters, out: Tensor | None) -> Tensor:
    """z' of `transformed` for class indices (n, 1, …), in new memory or in ``out``."""
    own = usable_memory(z, out)
    dtype = accumulation_dtype(z)
    z = z.to(dtype)
    masking = params.offset
    if masking is not None and z.device.type == "cpu" and not is_traced(z) and bool(masking.amin() > -torch.inf):
        masking = None  # it masks nothing
    z = with_float64(z) if params.class_scale is not None else torch.sub(z, largest_unmasked(z, masking), out=own)
    if params.margin is not None:
        z = z.scatter_add(1, y, -(of_target(params.margin, y) + torch.zeros_like(y, dtype=z.dtype)))
    return scaled(z, params, dtype, own)


def usable_memory(z: Tensor, out: Tensor | None) -> Tensor | None:
    """``out`` if operations can write what follows from z to it: it has the dtype, and nothing is recorded."""
    return out if out is not None and out.dtype == accumulation_dtype(z) and not is_traced(z) else None


def of_target(vector: float | Tensor | None, y: Tensor, default: float = 0.0) -> float | Tensor:
    """The entry of each row's target class; numbers are returned unchanged."""
    if vector is None:
        return default
    return vector[y] if isinstance(vector, Tensor) else vector


def loss_and_slope(nll: Tensor, r: Tensor, p: Tensor, gamma: float | Tensor, poly: float) -> tuple[Tensor, Tensor]:
    """f = r^γ (−log p) + κ r^(γ+1) and A = r^γ [1 + γ p (−log p)/r + κ (γ+1) p]."""
    if not isinstance(gamma, Tensor) and gamma == 0.0:
        return (nll, torch.ones_like(nll)) if poly == 0.0 else (nll + poly * r, 1.0 + poly * p)
    focus = power(r, gamma)
    # (−log p)/r is 1 where r is 0, but there the slope is 0 or γ is.
    ratio = nll / r.clamp(min=torch.finfo(r.dtype).tiny)
    slope = focus * (1.0 + gamma * p * ratio + poly * (gamma + 1.0) * p)
    return focus * (nll + poly * r), slope


def _write(gradient: Tensor, counts: Tensor, out: Tensor) -> None:
    """Copy the gradient to ``out``, with zeros for the rows that do not count, even if their logits are NaN."""
    traced = is_traced(gradient)
    if traced or gradient.device.type != "cpu" or not bool(counts.all()):
        gradient.masked_fill_(~counts, 0.0)
    if traced or gradient.data_ptr() != out.data_ptr():
        out.copy_(gradient)


def soft_block(
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
    loss, slope = loss_and_slope(nll, r, p, class_view(params.gamma, z.dim()), params.poly)
    if out is not None:
        h = q * slope
        gradient = p * (h.sum(1, keepdim=True) - h) - h * r
        gradient = gradient * (params.scale if coefficient is None else params.scale * coefficient)
        if params.class_scale is not None:
            gradient = gradient * class_view(params.class_scale, z.dim())
        out.copy_(torch.where(wrong, torch.nan, torch.where(valid & ~hidden, gradient, 0.0)))
    rows = torch.where(hidden, torch.inf, torch.where(valid, (q * loss).sum(1, keepdim=True), 0.0))
    return torch.where(wrong, torch.nan, rows).squeeze(1)
