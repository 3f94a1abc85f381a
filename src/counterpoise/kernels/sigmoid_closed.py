"""The sigmoid equation in closed form: loss and gradient together, in one tensor of the logits' size.

    positive   f = (1 − p)^γ (−log p)            ∂f/∂z = −(1 − p)^γ [(1 − p) + γ p (−log p)]
    negative   g = q^γ (−log(1 − q)), q = p − m  ∂g/∂z = p (1 − p) q^γ [γ (−log(1 − q))/q + 1/(1 − q)],   0 for p ≤ m

(−log(1 − q))/q → 1 as q → 0, so nothing is infinite for γ < 1. With `detach_focus` the terms with γ in front go.
A block of 0/1 targets needs one of the two for each element, which a sign decides: half the transcendental functions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoise.kernels.blocks import Fold, blocks, empty_gradient
from counterpoise.kernels.forms import power, refuse_double_backward, upstream_applied
from counterpoise.kernels.sigmoid_reference import dense_labels
from counterpoise.kernels.terms import SigmoidTerms, accumulation_dtype, class_view

__all__ = ["sigmoid_closed"]

# Elements of a block: about ten float32 temporaries of this size stay in the second-level cache.
_BLOCK = 1 << 16


def sigmoid_closed(
    logits: Tensor, target: Tensor, coefficient: Tensor, terms: SigmoidTerms, ignore_index: int, *, total: bool
) -> Tensor:
    """Σ coefficient · ℓ (``total``), or each of them, (N, C, …); coefficient is (N, …) or a scalar."""
    if torch.is_grad_enabled() and logits.requires_grad:
        loss: Tensor = _SigmoidClosed.apply(logits, target, coefficient, ignore_index, total, *terms)
        return loss
    return _elements(logits, target, terms, ignore_index, None, coefficient, late=False, total=total)


class _SigmoidClosed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, coefficient: Tensor, *rest: Any) -> Tensor:
        ignore_index, total, *letters = rest
        # float16 cannot hold the gradient of a mean over many elements: it keeps the sum's and divides in backward.
        late = logits.dtype == torch.float16
        gradient = empty_gradient(logits)
        ctx.save_for_backward(gradient, *([coefficient] if late else []))
        terms = SigmoidTerms(*letters)
        return _elements(logits, target, terms, ignore_index, gradient, coefficient, late=late, total=total)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_double_backward()
        gradient, *late = ctx.saved_tensors
        factor = upstream if upstream.dim() else upstream.reshape([1] * gradient.dim())
        for coefficient in late:
            factor = factor * (coefficient.unsqueeze(1) if coefficient.dim() else coefficient)
        return upstream_applied(gradient, factor), *[None] * (4 + len(SigmoidTerms._fields))


def _elements(
    logits: Tensor,
    target: Tensor,
    terms: SigmoidTerms,
    ignore_index: int,
    gradient: Tensor | None,
    coefficient: Tensor,
    *,
    late: bool,
    total: bool,
) -> Tensor:
    """The loss; fills ``gradient`` with its derivative, without the coefficient if ``late``."""
    dtype = accumulation_dtype(logits)
    fold = Fold.of(logits)
    dense = target.dim() == logits.dim()
    loss = None if total else empty_gradient(logits, dtype)
    z, y = fold.classes(logits), fold.classes(target) if dense else fold.rows(target)
    f, g = (None if tensor is None else fold.classes(tensor) for tensor in (loss, gradient))
    c = fold.rows(coefficient.expand((logits.shape[0], *logits.shape[2:])))
    sums = [torch.zeros((), dtype=dtype, device=logits.device)]
    for n, at in blocks(z, _BLOCK):
        value, slope = _block(z[at], y[at if dense else n], terms, ignore_index, want_slope=g is not None)
        scale = c[n].unsqueeze(1)
        value = value.mul_(scale)
        if f is None:
            sums.append(value.sum())
        else:
            f[at] = value
        if g is not None and slope is not None:
            g[at] = slope if late else slope.mul_(scale)
    return torch.stack(sums).sum() if loss is None else loss


def _block(
    z: Tensor, target: Tensor, terms: SigmoidTerms, ignore_index: int, *, want_slope: bool
) -> tuple[Tensor, Tensor | None]:
    """Loss and slope of each element of a block, in memory of its own."""
    z = z.to(accumulation_dtype(z))
    t, valid, wrong = dense_labels(z, target, ignore_index)
    w = 1.0 if terms.weight is None else class_view(terms.weight, z.dim())
    pos, neg = (w * class_view(alpha, z.dim()) for alpha in (terms.pos_weight, terms.neg_weight))
    pair = [x.mul_(neg) for x in _negative(z, terms)[: 1 + want_slope]]
    if z.device.type == "cpu" and not torch.compiler.is_compiling():
        _put_positives(pair, z, t, pos, terms)
        whole = bool(valid.all())
    else:
        pair = [t * pos * f + (1.0 - t) * g for f, g in zip(_positive(z, terms), pair, strict=False)]
        whole = False
    if not whole:
        pair = [torch.where(wrong, torch.nan, x.masked_fill(~valid, 0.0)) for x in pair]
    return pair[0], (pair[1] if want_slope else None)


def _put_positives(pair: list[Tensor], z: Tensor, t: Tensor, pos: Tensor | float, terms: SigmoidTerms) -> None:
    """α⁺ t f + (1 − t)·what is there, only where t > 0: positives are few, and the rest is all negative."""
    where = t.nonzero(as_tuple=True)
    t = t[where]
    share = t * (pos.reshape(-1)[where[1]] if isinstance(pos, Tensor) and pos.dim() else pos)
    for f, g in zip(_positive(z[where], terms), pair, strict=False):
        g[where] = share * f + (1.0 - t) * g[where]


def _positive(z: Tensor, terms: SigmoidTerms) -> tuple[Tensor, Tensor]:
    """f and ∂f/∂z."""
    nll, rest = -F.logsigmoid(z), torch.sigmoid(-z)
    if terms.gamma_pos == 0.0:
        return nll, -rest
    focus = power(rest, terms.gamma_pos)
    slope = rest if terms.detach_focus else rest + terms.gamma_pos * torch.sigmoid(z) * nll
    return focus * nll, -focus * slope


def _negative(z: Tensor, terms: SigmoidTerms) -> tuple[Tensor, Tensor]:
    """g and ∂g/∂z."""
    gamma = terms.gamma_neg
    if terms.clip > 0.0:
        return _negative_with_margin(z, terms)
    nll, p = -F.logsigmoid(-z), torch.sigmoid(z)
    if gamma == 0.0:
        return nll, p
    focus = power(p, gamma)
    # 1 − p may cancel here: where it does, it is added to a p of 1.
    slope = focus * (p if terms.detach_focus else p + gamma * (1.0 - p) * nll)
    return focus.mul_(nll) if focus is not p else focus * nll, slope


def _negative_with_margin(z: Tensor, terms: SigmoidTerms) -> tuple[Tensor, Tensor]:
    """With m > 0: everything from 1 − p = σ(−z), which is exact where p is near 1; where p ≤ m, q = 0."""
    rest = torch.sigmoid(-z)
    one_minus_q = (rest + terms.clip).clamp_(max=1.0)
    nll = one_minus_q.log().neg_()
    slope = torch.where(one_minus_q < 1.0, rest * (1.0 - rest), 0.0)
    if terms.gamma_neg == 0.0:
        return nll, slope.div_(one_minus_q)
    q = 1.0 - one_minus_q
    focus = power(q, terms.gamma_neg)
    if terms.detach_focus:
        slope = slope.mul_(focus).div_(one_minus_q)
    else:
        # nll/q → 1 as q → 0, where focus is 0 for any γ > 0.
        inner = torch.where(q > 0, nll / q, 1.0).mul_(terms.gamma_neg).add_(one_minus_q.reciprocal())
        slope = slope.mul_(focus).mul_(inner)
    return nll.mul_(focus), slope
