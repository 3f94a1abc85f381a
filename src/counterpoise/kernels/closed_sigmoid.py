"""The sigmoid equation in closed form: loss and gradient together, with one tensor of the logits' size.

    positive   f = (1 − p)^γ (−log p)            ∂f/∂z = −(1 − p)^γ [(1 − p) + γ p (−log p)]
    negative   g = q^γ (−log(1 − q)), q = p − m  ∂g/∂z = p (1 − p) q^γ [γ (−log(1 − q))/q + 1/(1 − q)],   0 for p ≤ m

(−log(1 − q))/q → 1 as q → 0, so it is finite for γ < 1. With ``detach_focus`` the terms that start with γ are dropped.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoise.kernels.autograd import Fold, Recomputed, blocks, empty_gradient, fused_loss, is_traced, power
from counterpoise.kernels.reduction import accumulation_dtype, all_kept, class_view, kept
from counterpoise.kernels.reference import SigmoidParameters, dense_labels
from counterpoise.kernels.sigmoid_cpu_blocks import label_blocks

# Elements per block: at least the first number, at most the second times the number of threads, otherwise a share of
# all elements that keeps the block's temporary tensors, about six, small beside the gradient.
_SMALLEST_BLOCK, _BLOCK, _SHARE = 1 << 17, 1 << 18, 20


def sigmoid_closed(
    logits: Tensor,
    target: Tensor,
    coefficient: Tensor,
    params: SigmoidParameters,
    ignore_index: int,
    *,
    total: bool,
    inplace: bool = False,
    recomputed: Recomputed | None = None,
) -> Tensor:
    """Σ coefficient · ℓ (``total``), or the terms of that sum, (N, C, …); coefficient is (N, …) or a scalar."""
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
    dtype = accumulation_dtype(logits)
    fold = Fold.of(logits)
    dense = target.dim() == logits.dim()
    loss = None if total else empty_gradient(logits, dtype)
    z, y = fold.classes(logits), fold.classes(target) if dense else fold.rows(target)
    f, g = (None if tensor is None else fold.classes(tensor) for tensor in (loss, memory))
    by_row = fold.rows(coefficient) if coefficient.dim() else None
    sums, on_cpu, size = [torch.zeros((), dtype=dtype, device=logits.device)], None, _BLOCK
    applied = by_row is None and not late  # `on_cpu` multiplies by a coefficient that is a number
    if z.device.type == "cpu" and not is_traced(z):
        number = float(coefficient) if applied else 1.0
        on_cpu = label_blocks(z, y, SigmoidParameters(*params), ignore_index, number)
        size = min(_BLOCK * torch.get_num_threads(), max(_SMALLEST_BLOCK, z.numel() // _SHARE))
    for n, at in blocks(z, size):
        labels, out = y[at if dense else n], None if g is None else g[at]
        scale = coefficient if by_row is None else by_row[n].unsqueeze(1)
        found = None if on_cpu is None else on_cpu.loss_and_slope(z[at], labels, out)
        done = found is not None and applied
        value, slope = found or _block(z[at], labels, SigmoidParameters(*params), ignore_index, out is not None)
        if f is not None:
            f[at] = value if done else value * scale
        elif by_row is None:
            sums.append(value.sum() if done else value.sum() * scale)
        else:
            sums.append((value.sum(1) * by_row[n]).sum())
        if out is not None and slope is not None:
            slope = slope if done or late else slope.mul_(scale)
            out = slope if slope is out else out.copy_(slope)
    return torch.stack(sums).sum() if loss is None else loss, memory, [coefficient] if late else []


def _block(
    z: Tensor, target: Tensor, params: SigmoidParameters, ignore_index: int, want_slope: bool
) -> tuple[Tensor, Tensor | None]:
    """Loss and, if wanted, derivative of each element of a block, in new memory."""
    z = z.to(accumulation_dtype(z))
    on_cpu = z.device.type == "cpu" and not is_traced(z)
    z = z.contiguous() if on_cpu else z
    w = 1.0 if params.weight is None else class_view(params.weight, z.dim())
    pos, neg = (w * class_view(alpha, z.dim()) for alpha in (params.pos_weight, params.neg_weight))
    pair = list(_negative(z, params)[: 1 + want_slope])
    if isinstance(neg, Tensor) or neg != 1.0:
        pair = [x.mul_(neg) for x in pair]
    if on_cpu:
        pair = _with_few_positives(pair, z, target, pos, params, ignore_index)
    else:
        t, valid, wrong = dense_labels(z, target, ignore_index)
        pair = [t * pos * f + (1.0 - t) * g for f, g in zip(_positive(z, params), pair, strict=False)]
        pair = [torch.where(wrong, torch.nan, torch.where(valid, x, 0.0)) for x in pair]
    return pair[0], pair[1] if want_slope else None


def _with_few_positives(
    pair: list[Tensor], z: Tensor, target: Tensor, pos: Tensor | float, params: SigmoidParameters, ignore_index: int
) -> list[Tensor]:
    """Compute α⁺ t f + (1 − t) g only where t > 0: few labels are positive, everywhere else the loss is g."""
    where, t, ignored = _active(z, target, ignore_index)
    inner = z[0, 0].numel() if len(z) else 1
    if isinstance(pos, Tensor) and pos.dim():
        pos = pos.reshape(-1).index_select(0, where.div(inner, rounding_mode="floor").remainder_(z.shape[1]))
    share = t * pos
    for f, g in zip(_positive(z.view(-1).index_select(0, where), params), pair, strict=False):
        flat = g.view(-1)
        flat.index_copy_(0, where, f.mul_(share).addcmul_(1.0 - t, flat.index_select(0, where)))
    return pair if ignored is None else [x.masked_fill_(ignored, 0.0) for x in pair]


def _active(z: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Positions in the flattened block where t > 0, t at these positions, and the mask of ignored elements or None."""
    if target.dim() < z.dim():
        row = torch.arange(0, z.numel(), z[:1].numel() or 1).view(-1, *[1] * (target.dim() - 1))
        inner = z[0, 0].numel() if len(z) else 1
        where = row + (torch.arange(inner) if target.dim() > 1 else 0) + target * inner
        valid = target != ignore_index
        every = bool(valid.all())
        where = where.reshape(-1) if every else where[valid]
        return where, z.new_ones(where.shape), None if every else ~valid.unsqueeze(1)
    ignored = None
    if not all_kept(target, ignore_index):
        ignored = ~kept(target, ignore_index)
        target = target.masked_fill(ignored, 0)
    target = target.reshape(-1)
    where = target.nonzero().squeeze(1)
    return where, target.index_select(0, where).to(z.dtype), ignored


def _positive(z: Tensor, params: SigmoidParameters) -> tuple[Tensor, Tensor]:
    """f and ∂f/∂z."""
    nll, rest = -F.logsigmoid(z), torch.sigmoid(-z)
    if params.gamma_pos == 0.0:
        return nll, -rest
    focus = power(rest, params.gamma_pos)
    slope = rest if params.detach_focus else rest + params.gamma_pos * torch.sigmoid(z) * nll
    return focus * nll, -focus * slope


def _negative(z: Tensor, params: SigmoidParameters) -> tuple[Tensor, Tensor]:
    """g and ∂g/∂z."""
    gamma = params.gamma_neg
    if params.clip > 0.0:
        return _negative_with_margin(z, params)
    nll, p = -F.logsigmoid(-z), torch.sigmoid(z)
    if gamma == 0.0:
        return nll, p
    focus = power(p, gamma)
    # 1 − p may cancel near p = 1, where it is negligible beside p.
    slope = focus * (p if params.detach_focus else p + gamma * (1.0 - p) * nll)
    return focus.mul_(nll) if focus is not p else focus * nll, slope


def _negative_with_margin(z: Tensor, params: SigmoidParameters) -> tuple[Tensor, Tensor]:
    """With m > 0: computed from 1 − p = σ(−z), which is exact near p = 1; q = 0 where p ≤ m."""
    rest = torch.sigmoid(-z)
    one_minus_q = (rest + params.clip).clamp_(max=1.0)
    nll = one_minus_q.log().neg_()
    q = 1.0 - one_minus_q
    # 0 where q is 0: from the sign for γ = 0 (faster than a comparison), otherwise from the power.
    focus = q.sign() if params.gamma_neg == 0.0 else power(q, params.gamma_neg)
    slope = (1.0 - rest).mul_(rest).mul_(focus)
    if params.gamma_neg == 0.0 or params.detach_focus:
        slope = slope.div_(one_minus_q)
    else:
        ratio = nll / q.clamp_(min=torch.finfo(q.dtype).tiny)  # nll/q, and 0 where q is 0
        slope = slope.mul_(ratio.mul_(params.gamma_neg).add_(one_minus_q.reciprocal_()))
    return nll.mul_(focus), slope
