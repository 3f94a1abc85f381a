"""The softmax and the sigmoid equation, with their hyperparameters, as an eager reference.

The other implementations are tested against this one. Softmax equation, with p' = softmax(z'):

    z'_c = s · a_c · (z_c − m_c·t_c) + b_c
    q_c  = (1 − ε_c)·t_c + (Σ_k ε_k t_k) / C'
    ℓ    = Σ_c w_c q_c · [ (1 − p'_c)^γ_c · (−log p'_c) + κ (1 − p'_c)^(γ_c+1) ]

C' is the number of classes of the row that are not masked (logit or offset −inf); a masked class does not contribute
to the loss, and a row whose target is a masked class has loss inf and gradient 0.

Sigmoid equation, with p = σ(z) and p^m = max(p − m, 0):

    ℓ_c = w_c [ α⁺ t_c (1 − p_c)^γ⁺ (−log p_c) + α⁻ (1 − t_c) (p^m_c)^γ⁻ (−log(1 − p^m_c)) ]

Arguments are not validated here; `counterpoise.losses` validates them once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoise.kernels.reduction import accumulation_dtype, class_view, kept


class SoftmaxParameters(NamedTuple):
    """The hyperparameters of the softmax equation; tensors are (C,) in the dtype of accumulation, None is neutral."""

    weight: Tensor | None = None  # w
    offset: Tensor | None = None  # b
    class_scale: Tensor | None = None  # a
    scale: float = 1.0  # s
    margin: float | Tensor | None = None  # m
    gamma: float | Tensor = 0.0  # γ
    poly: float = 0.0  # κ
    label_smoothing: float | Tensor = 0.0  # ε


class SigmoidParameters(NamedTuple):
    """The hyperparameters of the sigmoid equation; tensors are (C,) in the dtype of accumulation, None is neutral."""

    weight: Tensor | None = None  # w
    pos_weight: float | Tensor = 1.0  # α⁺
    neg_weight: float | Tensor = 1.0  # α⁻
    gamma_pos: float = 0.0  # γ⁺
    gamma_neg: float = 0.0  # γ⁻
    clip: float = 0.0  # m
    detach_focus: bool = False


def softmax_rows(logits: Tensor, target: Tensor, params: SoftmaxParameters, ignore_index: int) -> Tensor:
    """ℓ of each row: logits (N, C, …), target (N, …) int64 or (N, C, …) floating → (N, …).

    Ignored rows have loss and gradient 0. An index outside 0 .. C−1 gives NaN, which needs no synchronisation with an
    accelerator; on a CPU the public losses have already raised an error.
    """
    t, valid, wrong = dense_target(logits, target, ignore_index)
    z = torch.where(valid.unsqueeze(1), logits.to(t.dtype), 0.0)
    z = transformed(z, t, params)
    q = smoothed(t, z, params)
    log_p = torch.log_softmax(torch.where((z != -torch.inf).any(1, keepdim=True), z, 0.0), dim=1)
    # A masked class has q = 0; 0 · (−(−inf)) must be 0, so its log p is replaced before the product.
    nll = torch.where((q > 0) | (log_p > -torch.inf), -log_p, 0.0)
    q = q if params.weight is None else q * class_view(params.weight, z.dim())
    rows = (q * _modulated(nll, z, log_p, params)).sum(1)
    rows = torch.where(hides_target(t, z).squeeze(1), torch.inf, rows)
    return torch.where(wrong, torch.nan, torch.where(valid, rows, 0.0))


def hides_target(t: Tensor, z: Tensor) -> Tensor:
    """Mask (N, 1, …) of the rows whose target is, or has mass on, a class that is masked in z'."""
    return ((t > 0) & (z == -torch.inf)).any(1, keepdim=True)


def dense_target(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """t as (N, C, …), and masks (N, …) of the rows that are not ignored and of those with an invalid index."""
    dtype = accumulation_dtype(logits)
    if target.is_floating_point():
        every = torch.ones_like(target.select(1, 0), dtype=torch.bool)
        return target.to(dtype), every, ~every
    valid = target != ignore_index
    wrong = valid & ((target < 0) | (target >= logits.shape[1]))
    index = torch.where(valid & ~wrong, target, 0).unsqueeze(1)
    one_hot = torch.zeros(logits.shape, dtype=dtype, device=logits.device).scatter(1, index, 1.0)
    return one_hot, valid, wrong


def transformed(z: Tensor, t: Tensor, params: SoftmaxParameters) -> Tensor:
    """z' = s · a · (z − m·t) + b up to a number per row, which the softmax does not depend on.

    The maximum of z is subtracted first: where |z| is large, z + b would lose the digits of b.
    """
    if not is_affine(params):
        return z
    z = with_float64(z) if params.class_scale is not None else z - largest_unmasked(z, params.offset)
    if params.margin is not None:
        z = z - class_view(params.margin, z.dim()) * t
    return scaled(z, params, t.dtype)


def is_affine(params: SoftmaxParameters) -> bool:
    """Whether z' differs from z."""
    return params.scale != 1.0 or any(x is not None for x in (params.offset, params.class_scale, params.margin))


def scaled(z: Tensor, params: SoftmaxParameters, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    """s · z + b of z minus margin and maximum, or s · a · z + b, then minus the maximum, of z `with_float64`."""
    if params.class_scale is not None:
        masked = z == -torch.inf  # whose factor has gradient 0, not 0 · −inf
        factor = class_view(params.scale * params.class_scale.to(z.dtype), z.dim())
        z = torch.where(masked, z, torch.where(masked, 0.0, z) * factor)
        z = z if params.offset is None else z + class_view(params.offset, z.dim())
        return (z - largest_unmasked(z, None)).to(dtype)
    if params.scale != 1.0:
        z = torch.mul(z, params.scale, out=out)
    return z if params.offset is None else torch.add(z, class_view(params.offset, z.dim()), out=out)


def with_float64(z: Tensor) -> Tensor:
    """z in float64, in which products with a factor per class are exact; unchanged on Apple's GPUs, which lack it."""
    return z if z.device.type == "mps" else z.double()


def largest_unmasked(z: Tensor, offset: Tensor | None) -> Tensor:
    """max z of each row over the classes whose logit and offset are not −inf, without gradient; 0 if there is none."""
    z = z.detach()
    if offset is not None:
        z = z + class_view(torch.where(offset == -torch.inf, offset.detach(), 0.0), z.dim())
    top = z.amax(1, keepdim=True)
    return torch.where(top == -torch.inf, 0.0, top)


def smoothed(t: Tensor, z: Tensor, params: SoftmaxParameters) -> Tensor:
    """q = (1 − ε)·t + Σ ε t / C', and 0 for masked classes."""
    unmasked = z != -torch.inf  # NaN is not masked, so that it stays visible
    epsilon = class_view(params.label_smoothing, z.dim())
    if isinstance(epsilon, Tensor) or epsilon > 0:
        share = (epsilon * t).sum(1, keepdim=True) / unmasked.sum(1, keepdim=True).clamp(min=1)
        t = (1 - epsilon) * t + share
    return torch.where(unmasked, t, 0.0)


def _modulated(nll: Tensor, z: Tensor, log_p: Tensor, params: SoftmaxParameters) -> Tensor:
    """(1 − p)^γ · (−log p) + κ (1 − p)^(γ+1); γ = κ = 0 is cross-entropy and needs no 1 − p."""
    gamma = class_view(params.gamma, z.dim())
    if not isinstance(gamma, Tensor) and gamma == 0.0 and params.poly == 0.0:
        return nll
    log_rest = log_one_minus_p(z, log_p)
    loss = _power(log_rest, gamma) * nll
    return loss if params.poly == 0.0 else loss + params.poly * _power(log_rest, gamma + 1.0)


def _power(log_base: Tensor, exponent: Tensor | float) -> Tensor:
    """base^exponent from log base, with 0^0 = 1 and its slopes; a base of 0 is a separate case: 0 · −inf is NaN."""
    if isinstance(exponent, Tensor):
        zero = log_base == -torch.inf
        return torch.where(zero & (exponent != 0), 0.0, (exponent * torch.where(zero, 0.0, log_base)).exp())
    return torch.ones_like(log_base) if exponent == 0.0 else (exponent * log_base).exp()


def log_one_minus_p(z: Tensor, log_p: Tensor) -> Tensor:
    """log(1 − p) of every class, p = softmax(z) over dimension 1, without cancellation.

    Only the largest p of a row can be above ½: there it is log-sum-exp over the other classes minus that over all
    classes. For the other classes log1p(−p) is exact.
    """
    top = torch.zeros_like(z, dtype=torch.bool).scatter(1, z.argmax(1, keepdim=True), 1)  # True is refused by jit.trace
    others = z.masked_fill(top, -torch.inf)
    exist = (others != -torch.inf).any(1, keepdim=True)  # false for C = 1, where 1 − p is 0 and its log −inf
    lse_others = torch.logsumexp(torch.where(exist, others, 0.0), dim=1, keepdim=True)
    lse_all = torch.logsumexp(torch.where((z != -torch.inf).any(1, keepdim=True), z, 0.0), dim=1, keepdim=True)
    at_top = torch.where(exist, lse_others - lse_all, -torch.inf)
    # The clamp keeps the gradient of log1p finite at the top, which the outer `where` replaces.
    return torch.where(top, at_top, torch.log1p(-log_p.exp().clamp(max=0.75)))


def sigmoid_elements(logits: Tensor, target: Tensor, params: SigmoidParameters, ignore_index: int) -> Tensor:
    """ℓ of each element: logits (N, C, …), target of that shape or int64 (N, …) → (N, C, …).

    Ignored elements have loss and gradient 0; an index outside 0 .. C−1 gives NaN.
    """
    t, valid, wrong = dense_labels(logits, target, ignore_index)
    z = torch.where(valid, logits.to(t.dtype), 0.0)
    alpha_pos, alpha_neg = class_view(params.pos_weight, z.dim()), class_view(params.neg_weight, z.dim())
    loss = alpha_pos * t * _positive_loss(z, params) + alpha_neg * (1.0 - t) * _negative_loss(z, params)
    if params.weight is not None:
        loss = loss * class_view(params.weight, z.dim())
    return torch.where(wrong, torch.nan, torch.where(valid, loss, 0.0))


def dense_labels(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """t as (N, C, …), 0 where ignored, and masks of the elements that are not ignored and of invalid indices."""
    if target.dim() == logits.dim():
        valid = kept(target, ignore_index)
        return torch.where(valid, target, 0).to(accumulation_dtype(logits)), valid, torch.zeros_like(valid)
    t, rows, wrong = dense_target(logits, target, ignore_index)
    return t, rows.unsqueeze(1).expand(logits.shape), wrong.unsqueeze(1)


def _positive_loss(z: Tensor, params: SigmoidParameters) -> Tensor:
    """(1 − p)^γ⁺ (−log p), with 1 − p = σ(−z) from its logarithm, so that the gradient is finite for every γ."""
    nll = -F.logsigmoid(z)
    if params.gamma_pos == 0.0:
        return nll
    focus = (params.gamma_pos * F.logsigmoid(-z)).exp()
    return (focus.detach() if params.detach_focus else focus) * nll


def _negative_loss(z: Tensor, params: SigmoidParameters) -> Tensor:
    """(p^m)^γ⁻ (−log(1 − p^m)); 0 where p ≤ m."""
    if params.clip == 0.0:
        nll, log_p = -F.logsigmoid(-z), F.logsigmoid(z)
    else:
        p = torch.sigmoid(z) - params.clip
        above = p > 0
        nll = torch.where(above, -(torch.sigmoid(-z) + params.clip).log(), 0.0)
        # The inner `where` keeps the gradient of log finite for the elements that the outer one replaces.
        log_p = torch.where(above, torch.where(above, p, 1.0).log(), -torch.inf)
    if params.gamma_neg == 0.0:
        return nll
    focus = (params.gamma_neg * log_p).exp()
    return (focus.detach() if params.detach_focus else focus) * nll
