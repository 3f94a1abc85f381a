"""The asymmetric loss of one class per row, on a softmax: eager reference and closed form.

With p = softmax(z), the label smoothing ε and C' classes that are not masked (logit −inf), the loss of a row is

    ℓ = Σ_c w_c [ t_c (1 − ε + ε/C') (1 − p_c)^γ⁺ + (1 − t_c) (ε/C') p_c^γ⁻ ] (−log p_c)

The derivative of each term is A·(p_j − δ_cj) with A⁺ = (1−p)^γ⁺ [1 + γ⁺ p (−log p)/(1−p)] for the class of the row and
A⁻ = p^γ⁻ [1 − γ⁻ (−log p)] for the others, so the gradient is p_j Σ_c h_c − h_j, as that of `softmax_blocks`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from counterpoise.kernels.autograd import (
    Fold,
    Recomputed,
    blocks,
    fused_loss,
    in_transform,
    is_jit_traced,
    is_traced,
    power,
)
from counterpoise.kernels.dispatch import can_recompute
from counterpoise.kernels.reduction import (
    Batch,
    accumulation_dtype,
    class_view,
    denominator,
    reduced,
    safe_divide,
    valid_rows,
)
from counterpoise.kernels.reference import dense_target, hides_target, log_one_minus_p
from counterpoise.kernels.softmax_blocks import loss_and_slope

_BLOCK = 1 << 16  # elements per block: about eight temporaries of its size stay in the cache


class AsymmetricParameters(NamedTuple):
    """The hyperparameters of the asymmetric loss on a softmax; ``weight`` is (C,) or None."""

    weight: Tensor | None
    gamma_pos: float
    gamma_neg: float
    label_smoothing: float


def asymmetric_softmax(logits: Tensor, params: AsymmetricParameters, batch: Batch) -> Tensor:
    """The loss of logits (N, C, …) and targets (N, …) int64 or (N, C, …) floating: a scalar, or (N, …) for "none"."""
    learns = (batch.target, batch.sample_weight, batch.denominator, params.weight)
    grad = torch.is_grad_enabled()
    if in_transform() or is_jit_traced() or (grad and any(isinstance(x, Tensor) and x.requires_grad for x in learns)):
        return _reference_loss(logits, *batch, *params)
    dtype = accumulation_dtype(logits)
    coefficient = torch.ones((), dtype=dtype, device=logits.device)
    coefficient = coefficient if batch.sample_weight is None else coefficient * batch.sample_weight
    below = _denominator(logits, params, batch)
    coefficient = coefficient if below is None else safe_divide(coefficient, below)
    recomputed = Recomputed(_reference_loss, logits, *batch, *params) if can_recompute(logits) else None
    total = batch.reduction != "none"
    arguments = (batch.target, coefficient, batch.ignore_index, total, *params)
    return fused_loss(logits, _loss_and_gradient, *arguments, recomputed=recomputed)


def _denominator(logits: Tensor, params: AsymmetricParameters, batch: Batch) -> Tensor | float | None:
    if batch.denominator is not None or batch.reduction not in ("mean", "batchmean"):
        return batch.denominator
    valid, dtype = valid_rows(batch.target, batch.ignore_index), accumulation_dtype(logits)
    return denominator(batch.target, valid, batch.reduction, params.weight, batch.sample_weight, dtype)


def _reference_loss(logits: Tensor, *arguments: object) -> Tensor:
    """The loss by operations that autograd follows, from the fields of a batch and of the hyperparameters."""
    fields = len(Batch._fields)
    batch, params = Batch(*arguments[:fields]), AsymmetricParameters(*arguments[fields:])  # type: ignore[arg-type]
    rows = reference_rows(logits, batch.target, params, batch.ignore_index)
    if batch.sample_weight is not None:
        rows = rows * batch.sample_weight
    return reduced(rows, batch.reduction, _denominator(logits, params, batch))


def reference_rows(logits: Tensor, target: Tensor, params: AsymmetricParameters, ignore_index: int) -> Tensor:
    """ℓ of each row, (N, …); 0 for ignored rows, inf where the target is masked, NaN for an invalid index."""
    t, valid, wrong = dense_target(logits, target, ignore_index)
    z = torch.where(valid.unsqueeze(1), logits.to(t.dtype), 0.0)
    pos, neg = _shares(t, z, params)
    log_p = torch.log_softmax(torch.where((z != -torch.inf).any(1, keepdim=True), z, 0.0), 1)
    nll = torch.where(log_p > -torch.inf, -log_p, 0.0)
    finite = torch.where(log_p > -torch.inf, log_p, 0.0)
    focus = torch.ones_like(nll) if params.gamma_pos == 0.0 else (params.gamma_pos * log_one_minus_p(z, log_p)).exp()
    terms = pos * focus + neg * (params.gamma_neg * finite).exp()
    rows = torch.where(hides_target(t, z).squeeze(1), torch.inf, (terms * nll).sum(1))
    return torch.where(wrong, torch.nan, torch.where(valid, rows, 0.0))


def _shares(t: Tensor, z: Tensor, params: AsymmetricParameters) -> tuple[Tensor, Tensor]:
    """The factors of the positive and the negative term of each class, 0 for masked classes."""
    unmasked = z != -torch.inf  # NaN is not masked, so that it stays visible
    share = params.label_smoothing / unmasked.sum(1, keepdim=True).clamp(min=1).to(t.dtype)
    weight = 1.0 if params.weight is None else class_view(params.weight, z.dim())
    pos, neg = t * (1.0 - params.label_smoothing + share), (1.0 - t) * share
    return torch.where(unmasked, weight * pos, 0.0), torch.where(unmasked, weight * neg, 0.0)


def _loss_and_gradient(
    logits: Tensor,
    memory: Tensor | None,
    target: Tensor,
    coefficient: Tensor,
    ignore_index: int,
    total: bool,
    *params: object,
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    late = logits.dtype == torch.float16  # which cannot hold the gradient of a mean over many rows
    fold, every = Fold.of(logits), AsymmetricParameters(*params)  # type: ignore[arg-type]
    rows = torch.empty((logits.shape[0], *logits.shape[2:]), dtype=accumulation_dtype(logits), device=logits.device)
    z, g = fold.classes(logits), None if memory is None else fold.classes(memory)
    y = fold.classes(target) if target.is_floating_point() else fold.rows(target)
    c = fold.rows(coefficient.expand(rows.shape)).unsqueeze(1)
    folded = torch.empty(fold.rows(rows).shape, dtype=rows.dtype, device=rows.device)
    size = _BLOCK if is_traced(z) else _BLOCK * torch.get_num_threads()
    for n, at in blocks(z, size):
        labels = y[at if y.dim() == z.dim() else n]
        block = _index_block if _is_plain(z[at], labels, ignore_index) else _block
        folded[n], gradient = block(z[at], labels, every, ignore_index, g is not None)
        if g is not None and gradient is not None:
            g[at] = gradient if late else gradient * c[at]
    rows = folded.reshape(rows.shape) * coefficient
    return rows.sum() if total else rows, memory, [coefficient] if late else []


def _is_plain(z: Tensor, target: Tensor, ignore_index: int) -> bool:
    """Whether `_index_block` can compute a block: valid class indices, no masked class, and values that may be read."""
    if target.is_floating_point() or z.device.type != "cpu" or is_traced(z) or not z.numel():
        return False
    counted = target != ignore_index
    valid = bool(((target >= 0) & (target < z.shape[1]) | ~counted).all())
    return valid and bool(torch.isfinite(z.amin()))


def _index_block(
    z: Tensor, target: Tensor, params: AsymmetricParameters, ignore_index: int, want_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """ℓ of each row and its gradient: the terms of all classes as negatives, and then that of the row's class."""
    ignored = (target == ignore_index).unsqueeze(1)
    y = target.unsqueeze(1).masked_fill(ignored, 0)
    z = z.to(accumulation_dtype(z))
    peak, top = z.max(1, keepdim=True)
    d = z - peak
    p = d.exp().scatter_(1, top, 0.0)
    others = p.sum(1, keepdim=True)
    whole = others + 1.0
    p = p.scatter_(1, top, 1.0).div_(whole)
    nll = d.neg_().add_(torch.log1p(others))
    own, own_nll = p.gather(1, y), nll.gather(1, y)
    rest = torch.where(y == top, others / whole, 1.0 - own)
    loss, slope = loss_and_slope(own_nll, rest, own, params.gamma_pos, 0.0)
    share = params.label_smoothing / z.shape[1]
    w = 1.0 if params.weight is None else class_view(params.weight, z.dim())
    positive = (1.0 - params.label_smoothing + share) * (1.0 if params.weight is None else params.weight[y])
    focus = power(p, params.gamma_neg) * (share * w)
    terms = nll.mul_(focus)
    h = torch.sub(focus, terms, alpha=params.gamma_neg) if want_gradient else None
    rows = terms.scatter_(1, y, positive * loss).sum(1, keepdim=True).masked_fill_(ignored, 0.0).squeeze(1)
    if h is None:
        return rows, None
    h.scatter_(1, y, positive * slope)
    at_top = h.gather(1, top)
    below = h.scatter_(1, top, 0.0).sum(1, keepdim=True)  # of the classes that are not the largest
    gradient = p.mul_(below + at_top).sub_(h)
    gradient.scatter_(1, top, (below - at_top * others) / whole)
    return rows, gradient.masked_fill_(ignored, 0.0)


def _block(
    z: Tensor, target: Tensor, params: AsymmetricParameters, ignore_index: int, want_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """ℓ of each row of a block, and its gradient."""
    t, valid, wrong = (x if x.dim() == z.dim() else x.unsqueeze(1) for x in dense_target(z, target, ignore_index))
    z = torch.where(valid, z.to(t.dtype), 0.0)
    pos, neg = _shares(t, z, params)
    hidden = hides_target(t, z) & valid
    top = z.argmax(1, keepdim=True)
    peak = z.gather(1, top)
    d = z - torch.where(peak == -torch.inf, 0.0, peak)
    # Only the largest class can have p above ½: its 1 − p is the sum over the other classes.
    e = d.exp()
    others = e.scatter(1, top, 0.0).sum(1, keepdim=True)
    p = (e / (1.0 + others)).scatter_(1, top, 1.0 / (1.0 + others))
    rest = (1.0 - p).scatter_(1, top, others / (1.0 + others))
    nll = torch.where(d == -torch.inf, 0.0, torch.log1p(others) - d)
    loss, slope = loss_and_slope(nll, rest, p, params.gamma_pos, 0.0)
    focus = power(p, params.gamma_neg)
    rows = (pos * loss + neg * focus * nll).sum(1, keepdim=True)
    rows = torch.where(hidden, torch.inf, torch.where(valid, rows, 0.0))
    rows = torch.where(wrong, torch.nan, rows).squeeze(1)
    if not want_gradient:
        return rows, None
    h = pos * slope + neg * focus * (1.0 - params.gamma_neg * nll)
    gradient = p * (h.sum(1, keepdim=True) - h) - h * rest
    return rows, torch.where(wrong, torch.nan, torch.where(valid & ~hidden, gradient, 0.0))
