"""The named losses of the softmax family, as letters of the equation: one small function a paper.

Functions and modules both come here, so that a formula is written once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.losses.arguments import (
    check_values,
    checked_choice,
    checked_number,
    class_counts_of,
    values_readable,
    vector_tensor,
)
from counterpoise.losses.options import (
    ScaledOptions,
    SigmoidOptions,
    SigmoidPresetOptions,
    SoftmaxOptions,
    SoftmaxPresetOptions,
    Vector,
)
from counterpoise.weights import class_weights

__all__ = [
    "Empty",
    "asymmetric",
    "balanced_softmax",
    "class_balanced",
    "class_balanced_sigmoid",
    "combined",
    "combined_sigmoid",
    "focal",
    "label_aware_smoothing",
    "ldam",
    "logit_adjusted",
    "poly",
    "sigmoid_focal",
    "vector_scaling",
]

Empty = Literal["error", "exclude"]


def combined(own: SoftmaxOptions, given: SoftmaxPresetOptions | ScaledOptions) -> SoftmaxOptions:
    """The preset's letters and the caller's: weights multiply, offsets add, any other letter has one owner."""
    twice = own.keys() & given.keys() - {"weight", "offset"}
    if twice:
        raise ArgumentError(f"`{min(twice)}` is set by this loss itself; to choose it freely use `softmax_loss`")
    merged: SoftmaxOptions = {**own, **given}
    merged["weight"] = _together(torch.mul, own.get("weight"), given.get("weight"), "weight")
    merged["offset"] = _together(torch.add, own.get("offset"), given.get("offset"), "offset")
    return merged


def _together(
    operation: Callable[[Tensor, Tensor], Tensor], own: Vector | None, given: Vector | None, name: str
) -> Vector | None:
    if own is None or given is None:
        return given if own is None else own
    left, right = vector_tensor(own, name), vector_tensor(given, name)
    if left.shape != right.shape:
        raise ArgumentError(
            f"`{name}` must have one value for each of the {len(left)} classes; got shape {tuple(right.shape)}"
        )
    return operation(left.to(right.device), right)


def focal(*, gamma: float | Vector, alpha: Vector | None) -> SoftmaxOptions:
    """Lin et al. 2017, on a softmax: γ, and α per class as w."""
    if alpha is not None and np.ndim(alpha) == 0:
        raise ArgumentError(
            f"`alpha` must have one value per class; one number ({alpha}) weighs positives against negatives, "
            "which a softmax does not have, and would only rescale the loss. Use sigmoid_focal_loss, or leave it out"
        )
    return {"gamma": gamma, "weight": alpha}


def class_balanced(
    *, class_counts: CountsLike | Tensor, beta: float, gamma: float | Vector, empty: Empty
) -> SoftmaxOptions:
    """Cui et al. 2019: w = (1 − β) / (1 − β^n_c), summing to C."""
    counts = class_counts_of(class_counts)
    return {"gamma": gamma, "weight": class_weights(counts, "effective_number", beta=beta, empty=empty)}


def logit_adjusted(*, prior: Vector, tau: float, empty: Empty) -> SoftmaxOptions:
    """Menon et al. 2021: b = +τ log π."""
    return {"offset": log_prior(prior, checked_number("tau", tau), empty)}


def balanced_softmax(*, class_counts: CountsLike | Tensor, empty: Empty) -> SoftmaxOptions:
    """Ren et al. 2020: b = log n_c, up to a constant log π_c."""
    counts = class_counts_of(class_counts)
    refuse_empty(counts, empty)
    return {"offset": log_prior(counts.prior(), 1.0, empty)}


def vector_scaling(*, class_counts: CountsLike | Tensor, gamma: float, tau: float, empty: Empty) -> SoftmaxOptions:
    """Kini et al. 2021: a = (n_c / n_max)^γ, b = τ log π. An excluded class is masked, so its a is free: 1."""
    counts = class_counts_of(class_counts)
    refuse_empty(counts, empty)
    checked_number("gamma", gamma, low=0.0)
    n = torch.as_tensor(np.where(counts.counts > 0, counts.counts, counts.counts.max()), dtype=torch.float64)
    offset = log_prior(counts.prior(), checked_number("tau", tau), empty)
    return {"class_scale": (n / n.max()) ** gamma, "offset": offset}


def ldam(*, class_counts: CountsLike | Tensor, max_margin: float, scale: float, empty: Empty) -> SoftmaxOptions:
    """Cao et al. 2019: m_c = max_m · (n_min / n_c)^¼, s. An excluded class has no target to take a margin from."""
    counts = class_counts_of(class_counts)
    refuse_empty(counts, empty)
    checked_number("max_margin", max_margin, low=0.0)
    present = counts.counts > 0
    smallest = counts.counts[present].min()
    margins = np.where(present, max_margin * (smallest / np.maximum(counts.counts, 1)) ** 0.25, 0.0)
    options: SoftmaxOptions = {"margin": margins, "scale": checked_number("scale", scale)}
    if not present.all():
        options["offset"] = np.where(present, 0.0, -np.inf)
    return options


def poly(*, epsilon: float) -> SoftmaxOptions:
    """Leng et al. 2022: κ = ε."""
    return {"poly": checked_number("epsilon", epsilon)}


def label_aware_smoothing(*, class_counts: CountsLike | Tensor, head: float, tail: float) -> SoftmaxOptions:
    """Zhong et al. 2021: ε_c = ε_K + (ε_1 − ε_K) sin(π/2 · (n_c − n_K)/(n_1 − n_K)); equal counts give ε_1."""
    counts = class_counts_of(class_counts)
    for name, value in (("head", head), ("tail", tail)):
        checked_number(name, value, low=0.0, below=1.0)
    n = counts.counts.astype(np.float64)
    spread = n.max() - n.min()
    rank = (n - n.min()) / spread if spread > 0 else np.ones_like(n)
    return {"label_smoothing": tail + (head - tail) * np.sin(np.pi / 2 * rank)}


def sigmoid_focal(*, alpha: float | None, gamma: float) -> SigmoidOptions:
    """Lin et al. 2017: α⁺ = α, α⁻ = 1 − α, γ⁺ = γ⁻ = γ."""
    checked_number("gamma", gamma, low=0.0)
    own: SigmoidOptions = {"gamma_pos": gamma, "gamma_neg": gamma}
    if alpha is not None:
        if np.ndim(alpha) > 0:
            raise ArgumentError(
                "`alpha` of a sigmoid loss is one number in [0, 1], the share of positives; for values per class use "
                "`pos_weight` and `neg_weight`"
            )
        share = checked_number("alpha", alpha, low=0.0, high=1.0)
        own["pos_weight"], own["neg_weight"] = share, 1.0 - share
    return own


def asymmetric(*, gamma_neg: float, gamma_pos: float, clip: float, detach_focus: bool) -> SigmoidOptions:
    """Ridnik et al. 2021: its letters are the equation's."""
    return {"gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "clip": clip, "detach_focus": detach_focus}


def class_balanced_sigmoid(
    *, class_counts: CountsLike | Tensor, beta: float, gamma: float, empty: Empty
) -> tuple[Vector, SigmoidOptions]:
    """Cui et al. 2019: the effective-number weight of the row's class on the whole row, and focal without α."""
    weight = class_weights(class_counts_of(class_counts), "effective_number", beta=beta, empty=empty)
    return weight, sigmoid_focal(alpha=None, gamma=gamma)


def combined_sigmoid(own: SigmoidOptions, given: SigmoidPresetOptions) -> SigmoidOptions:
    """The preset's letters and the caller's; a `pos_weight` or `neg_weight` of both is multiplied."""
    merged: SigmoidOptions = {**own, **given}
    merged["pos_weight"] = _product(own.get("pos_weight"), given.get("pos_weight"), "pos_weight")
    merged["neg_weight"] = _product(own.get("neg_weight"), given.get("neg_weight"), "neg_weight")
    return merged


def _product(own: float | Vector | None, given: float | Vector | None, name: str) -> float | Vector | None:
    if own is None or given is None:
        return given if own is None else own
    assert isinstance(own, float)
    return own * (given if isinstance(given, (int, float)) else vector_tensor(given, name))


def log_prior(prior: Vector, tau: float, empty: Empty) -> Tensor:
    """τ log π in float64, −inf for excluded classes whatever τ is."""
    checked_choice("empty", empty, ("error", "exclude"))
    pi = vector_tensor(prior, "prior").to(torch.float64)
    if values_readable(pi):
        check_values(pi, "prior", low=0.0)
        if empty == "error" and bool((pi == 0).any()):
            i = int((pi == 0).nonzero()[0])
            raise ArgumentError(f'`prior` of class {i} is 0: its log is −inf. `empty="exclude"` masks such classes')
    return torch.where(pi > 0, tau * torch.where(pi > 0, pi, 1.0).log(), -torch.inf)


def refuse_empty(counts: ClassCounts, empty: Empty) -> None:
    checked_choice("empty", empty, ("error", "exclude"))
    if empty == "error" and counts.empty:
        raise ArgumentError(
            f"`class_counts` of class {counts.empty[0]!r} is 0, which gives no finite loss; "
            '`empty="exclude"` leaves such classes out'
        )
