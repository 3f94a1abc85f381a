"""The sigmoid equation, as it is written: the eager reference.

    ℓ_c = α⁺ t_c (1 − p_c)^γ⁺ (−log p_c) + α⁻ (1 − t_c) (p^m_c)^γ⁻ (−log(1 − p^m_c)),   p = σ(z), p^m = max(p − m, 0)

times w_c. Nothing here checks an argument: `counterpoise.losses` does, once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoise.kernels.reduction import kept
from counterpoise.kernels.terms import SigmoidTerms, accumulation_dtype, class_view

__all__ = ["dense_labels", "sigmoid_elements"]


def sigmoid_elements(logits: Tensor, target: Tensor, terms: SigmoidTerms, ignore_index: int) -> Tensor:
    """ℓ of each element: logits (N, C, …), target of that shape or int64 (N, …) → (N, C, …).

    Ignored elements give 0 and no gradient; an index outside 0 .. C−1 gives NaN (on a CPU it was refused before).
    """
    t, valid, wrong = dense_labels(logits, target, ignore_index)
    z = torch.where(valid, logits.to(t.dtype), 0.0)
    alpha_pos, alpha_neg = class_view(terms.pos_weight, z.dim()), class_view(terms.neg_weight, z.dim())
    loss = alpha_pos * t * _positive(z, terms) + alpha_neg * (1.0 - t) * _negative(z, terms)
    if terms.weight is not None:
        loss = loss * class_view(terms.weight, z.dim())
    return torch.where(wrong, torch.nan, torch.where(valid, loss, 0.0))


def dense_labels(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """t as (N, C, …) with 0 where it does not count; which elements count; which rows have a wrong index."""
    dtype = accumulation_dtype(logits)
    if target.dim() == logits.dim():
        valid = kept(target, ignore_index)
        return torch.where(valid, target, 0).to(dtype), valid, torch.zeros_like(valid)
    rows = (target != ignore_index).unsqueeze(1)
    index = target.unsqueeze(1)
    wrong = rows & ((index < 0) | (index >= logits.shape[1]))
    safe = torch.where(rows & ~wrong, index, 0)
    t = torch.zeros(logits.shape, dtype=dtype, device=logits.device).scatter(1, safe, 1.0)
    return t, rows.expand(logits.shape), wrong


def _positive(z: Tensor, terms: SigmoidTerms) -> Tensor:
    """(1 − p)^γ⁺ (−log p), with 1 − p = σ(−z) through its logarithm: no γ can make the gradient infinite."""
    nll = -F.logsigmoid(z)
    if terms.gamma_pos == 0.0:
        return nll
    focus = (terms.gamma_pos * F.logsigmoid(-z)).exp()
    return (focus.detach() if terms.detach_focus else focus) * nll


def _negative(z: Tensor, terms: SigmoidTerms) -> Tensor:
    """(p^m)^γ⁻ (−log(1 − p^m)); 0 where p ≤ m."""
    if terms.clip == 0.0:
        nll, log_p = -F.logsigmoid(-z), F.logsigmoid(z)
    else:
        p = torch.sigmoid(z) - terms.clip
        above = p > 0
        nll = torch.where(above, -(torch.sigmoid(-z) + terms.clip).log(), 0.0)
        # The inner `where` keeps log's gradient finite for the elements that the outer one leaves out.
        log_p = torch.where(above, torch.where(above, p, 1.0).log(), -torch.inf)
    if terms.gamma_neg == 0.0:
        return nll
    focus = (terms.gamma_neg * log_p).exp()
    return (focus.detach() if terms.detach_focus else focus) * nll
