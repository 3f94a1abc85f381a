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
from counterpoise.kernels.reduction import accumulation_dtype, class_view, kept
from counterpoise.kernels.reference import SigmoidParameters, dense_labels

# Elements per block and thread. In smaller blocks torch's overhead per operation dominates; the temporary tensors of
# larger ones do not fit the cache. Measured on 4096 x 1000 float32 with 1 and 4 threads.
_BLOCK = 1 << 17


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
    c = fold.rows(coefficient.expand((logits.shape[0], *logits.shape[2:])))
    sums = [torch.zeros((), dtype=dtype, device=logits.device)]
    size = _BLOCK if is_traced(z) else _BLOCK * torch.get_num_threads()
    for n, at in blocks(z, size):
        labels = y[at if dense else n]
        pair = _block(z[at], labels, SigmoidParameters(*params), ignore_index, want_slope=g is not None)
        scale = c[n].unsqueeze(1)
        if f is None:
            sums.append((pair[0].sum(1) * c[n]).sum())
        else:
            f[at] = pair[0] * scale
        if g is not None:
            g[at] = pair[1] if late else pair[1].mul_(scale)
    return torch.stack(sums).sum() if loss is None else loss, memory, [coefficient] if late else []


def _block(
    z: Tensor, target: Tensor, params: SigmoidParameters, ignore_index: int, *, want_slope: bool
) -> list[Tensor]:
    """Loss and, if wanted, derivative of each element of a block, in new memory."""
    z = z.to(accumulation_dtype(z))
    w = 1.0 if params.weight is None else class_view(params.weight, z.dim())
    pos, neg = (w * class_view(alpha, z.dim()) for alpha in (params.pos_weight, params.neg_weight))
    pair = list(_negative(z, params)[: 1 + want_slope])
    if isinstance(neg, Tensor) or neg != 1.0:
        pair = [x.mul_(neg) for x in pair]
    if z.device.type == "cpu" and not is_traced(z):
        return _with_few_positives(pair, z, target, pos, params, ignore_index)
    t, valid, wrong = dense_labels(z, target, ignore_index)
    pair = [t * pos * f + (1.0 - t) * g for f, g in zip(_positive(z, params), pair, strict=False)]
    return [torch.where(wrong, torch.nan, torch.where(valid, x, 0.0)) for x in pair]


def _with_few_positives(
    pair: list[Tensor], z: Tensor, target: Tensor, pos: Tensor | float, params: SigmoidParameters, ignore_index: int
) -> list[Tensor]:
    """Compute α⁺ t f + (1 − t) g only where t > 0: few labels are positive, everywhere else the loss is g."""
    where, t, ignored = _active(z, target, ignore_index)
    share = t * (pos.reshape(-1)[where[1]] if isinstance(pos, Tensor) and pos.dim() else pos)
    for f, g in zip(_positive(z[where], params), pair, strict=False):
        g[where] = share * f + (1.0 - t) * g[where]
    return pair if ignored is None else [x.masked_fill_(ignored, 0.0) for x in pair]


def _active(z: Tensor, target: Tensor, ignore_index: int) -> tuple[tuple[Tensor, ...], Tensor, Tensor | None]:
    """Positions where t > 0, t at these positions, and the mask of ignored elements or None."""
    if target.dim() < z.dim():
        rows = target != ignore_index
        row, *rest = rows.nonzero(as_tuple=True)
        where = (row, target[rows], *rest)
        return where, torch.ones_like(where[0], dtype=z.dtype), None if rows.all() else ~rows.unsqueeze(1)
    ignored = None
    if target.dtype != torch.bool and not _all_labels(target, ignore_index):
        ignored = ~kept(target, ignore_index)
        target = target.masked_fill(ignored, 0)
    where = target.bool().nonzero(as_tuple=True)
    return where, target[where].to(z.dtype), ignored


def _all_labels(target: Tensor, ignore_index: int) -> bool:
    """Whether nothing is ignored: decided from the minimum and maximum, ten times faster than a comparison."""
    low, high = target.aminmax()
    return bool(low >= 0) and bool(high <= 1) and not 0 <= ignore_index <= 1


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
