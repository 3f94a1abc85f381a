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
    SoftmaxOptions,
    SoftmaxPresetOptions,
    Vector,
    check_values,
    checked_choice,
    checked_number,
    class_counts_of,
    vector_tensor,
)
from counterpoise.weights import class_weights

__all__ = ["Empty", "balanced_softmax", "class_balanced", "combined", "focal", "logit_adjusted"]

Empty = Literal["error", "exclude"]


def combined(own: SoftmaxOptions, given: SoftmaxPresetOptions) -> SoftmaxOptions:
    """The preset's letters and the caller's: weights multiply, offsets add, any other letter has one owner."""
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


def log_prior(prior: Vector, tau: float, empty: Empty) -> Tensor:
    """τ log π in float64, −inf for excluded classes whatever τ is."""
    checked_choice("empty", empty, ("error", "exclude"))
    pi = vector_tensor(prior, "prior").to(torch.float64)
    if not torch.compiler.is_compiling() and pi.device.type == "cpu":
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
