"""The softmax equation, as it is written: the eager reference that every other form is held against.

    z'_c = s · a_c · (z_c − m_c·t_c) + b_c
    q_c  = (1 − ε_c)·t_c + (Σ_k ε_k t_k) / C'
    ℓ    = Σ_c w_c q_c · [ (1 − p'_c)^γ_c · (−log p'_c) + κ (1 − p'_c)^(γ_c+1) ],   p' = softmax(z')

C' counts the classes of the row that are not masked (logit or offset −inf); a masked class takes no part in the loss.
Nothing here checks an argument: `counterpoise.losses` does, once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.kernels.terms import SoftmaxTerms, accumulation_dtype, class_view

__all__ = ["dense_target", "log_one_minus_p", "smoothed", "softmax_rows", "transformed"]


def softmax_rows(logits: Tensor, target: Tensor, terms: SoftmaxTerms, ignore_index: int) -> Tensor:
    """ℓ of each row: logits (N, C, …), target (N, …) int64 or (N, C, …) floating → (N, …).

    Ignored rows give 0 and no gradient. An index outside 0 .. C−1 gives NaN: on an accelerator this is how a
    wrong target shows without a host sync (on a CPU it was refused before).
    """
    t, valid, wrong = dense_target(logits, target, ignore_index)
    z = torch.where(valid.unsqueeze(1), logits.to(t.dtype), 0.0)
    z = transformed(z, t, terms)
    q = smoothed(t, z, terms)
    log_p = torch.log_softmax(torch.where((z != -torch.inf).any(1, keepdim=True), z, 0.0), dim=1)
    # A masked class has q = 0; 0 · (−(−inf)) must be 0, so its log p is replaced before the product.
    nll = torch.where(q > 0, -log_p, 0.0)
    rows = (_weighted(q, terms, z.dim()) * _modulated(nll, z, log_p, terms)).sum(1)
    return torch.where(wrong, torch.nan, torch.where(valid, rows, 0.0))


def dense_target(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """t as (N, C, …), and per row: does it count, and is its index wrong."""
    dtype = accumulation_dtype(logits)
    if target.is_floating_point():
        every = torch.ones_like(target.select(1, 0), dtype=torch.bool)
        return target.to(dtype), every, ~every
    valid = target != ignore_index
    wrong = valid & ((target < 0) | (target >= logits.shape[1]))
    index = torch.where(valid & ~wrong, target, 0).unsqueeze(1)
    one_hot = torch.zeros(logits.shape, dtype=dtype, device=logits.device).scatter(1, index, 1.0)
    return one_hot, valid, wrong


def transformed(z: Tensor, t: Tensor, terms: SoftmaxTerms) -> Tensor:
    """z' = s · a · (z − m·t) + b."""
    if terms.margin is not None:
        z = z - class_view(terms.margin, z.dim()) * t
    if terms.class_scale is not None:
        z = z * class_view(terms.class_scale, z.dim())
    if terms.scale != 1.0:
        z = z * terms.scale
    if terms.offset is not None:
        z = z + class_view(terms.offset, z.dim())
    return z


def smoothed(t: Tensor, z: Tensor, terms: SoftmaxTerms) -> Tensor:
    """q = (1 − ε)·t + Σ ε t / C', and 0 for masked classes."""
    unmasked = z != -torch.inf  # a NaN is not masked: it must show
    epsilon = class_view(terms.label_smoothing, z.dim())
    if isinstance(epsilon, Tensor) or epsilon > 0:
        share = (epsilon * t).sum(1, keepdim=True) / unmasked.sum(1, keepdim=True).clamp(min=1)
        t = (1 - epsilon) * t + share
    return torch.where(unmasked, t, 0.0)


def _weighted(q: Tensor, terms: SoftmaxTerms, ndim: int) -> Tensor:
    return q if terms.weight is None else q * class_view(terms.weight, ndim)


def _modulated(nll: Tensor, z: Tensor, log_p: Tensor, terms: SoftmaxTerms) -> Tensor:
    """(1 − p)^γ · (−log p) + κ (1 − p)^(γ+1); γ = κ = 0 is cross-entropy and needs no 1 − p."""
    gamma = class_view(terms.gamma, z.dim())
    if not isinstance(gamma, Tensor) and gamma == 0.0 and terms.poly == 0.0:
        return nll
    log_rest = log_one_minus_p(z, log_p)
    loss = _power(log_rest, gamma) * nll
    return loss if terms.poly == 0.0 else loss + terms.poly * _power(log_rest, gamma + 1.0)


def _power(log_base: Tensor, exponent: Tensor | float) -> Tensor:
    """base^exponent from log base, with 0^0 = 1 (0 · −inf is NaN, so a zero exponent is set apart)."""
    if isinstance(exponent, Tensor):
        return torch.where(exponent == 0, 1.0, torch.where(exponent == 0, 1.0, exponent).mul(log_base).exp())
    return torch.ones_like(log_base) if exponent == 0.0 else (exponent * log_base).exp()


def log_one_minus_p(z: Tensor, log_p: Tensor) -> Tensor:
    """log(1 − p) of every class, p = softmax(z) over dimension 1, without cancellation.

    Only the largest p of a row can be above ½: there, log-sum-exp over the others minus log-sum-exp over all, which
    is log_p + (lse_others − z). For the rest log1p(−p) is exact.
    """
    top = torch.zeros_like(z, dtype=torch.bool).scatter(1, z.argmax(1, keepdim=True), True)
    others = z.masked_fill(top, -torch.inf)
    exist = (others != -torch.inf).any(1, keepdim=True)  # none for C = 1: then 1 − p is 0 and its log −inf
    lse_others = torch.logsumexp(torch.where(exist, others, 0.0), dim=1, keepdim=True)
    lse_all = torch.logsumexp(torch.where((z != -torch.inf).any(1, keepdim=True), z, 0.0), dim=1, keepdim=True)
    at_top = torch.where(exist, lse_others - lse_all, -torch.inf)
    # The clamp only matters at the top, which the outer `where` replaces: it keeps log1p's gradient finite there.
    return torch.where(top, at_top, torch.log1p(-log_p.exp().clamp(max=0.75)))
