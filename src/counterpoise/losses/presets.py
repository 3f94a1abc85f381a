"""The named losses as hyperparameters of the general softmax and sigmoid losses, one small function per paper.

The functions, the modules and the Keras losses all read them, so that each formula is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from counterpoise.core.checks import checked_choice
from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import hyperparameters
from counterpoise.losses.arguments import (
    Vector,
    check_values,
    class_counts_of,
    shape_of,
    values_readable,
    vector_tensor,
)
from counterpoise.weights import class_weights
from counterpoise.weights.schemes import Empty

__all__ = [
    "Beta",
    "Counts",
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

Arguments = dict[str, Any]
Beta = float | Literal["auto"]
Counts = CountsLike | Tensor


def combined(own: Arguments, given: Mapping[str, Any]) -> Arguments:
    """Merge the arguments of a preset and of its caller: multiply weights, add offsets, raise if both set another."""
    twice = own.keys() & given.keys() - {"weight", "offset"}
    if twice:
        raise ArgumentError(f"`{min(twice)}` is set by this loss itself; to set it freely use `softmax_loss`")
    weight = _together(torch.mul, own.get("weight"), given.get("weight"), "weight")
    offset = _together(torch.add, own.get("offset"), given.get("offset"), "offset")
    return {**own, **given, "weight": weight, "offset": offset}


def combined_sigmoid(own: Arguments, given: Mapping[str, Any]) -> Arguments:
    """Merge the arguments of a sigmoid preset and of its caller: multiply the weights of positives and of negatives."""
    merged = {**own, **given}
    for name in ("pos_weight", "neg_weight"):
        factor, value = own.get(name), given.get(name)
        if factor is not None and value is not None:
            value = factor * (value if isinstance(value, (int, float)) else vector_tensor(value, name))
        merged[name] = factor if value is None else value
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


def _check(method: str, **values: Any) -> None:
    """Check the own hyperparameters of a preset against the table."""
    table = hyperparameters("loss", method)
    for name, value in values.items():
        table[name].check(value)


def focal(*, gamma: float | Vector, alpha: Vector | None) -> Arguments:
    """Lin et al. 2017 on a softmax: γ, and α per class as w."""
    if alpha is not None and not shape_of(alpha):
        raise ArgumentError(
            f"`alpha` must have one value per class; one number ({alpha}) weighs positives against negatives, "
            "which a softmax does not have, and would only rescale the loss. Use sigmoid_focal_loss, or omit `alpha`"
        )
    return {"gamma": gamma, "weight": alpha}


def check_alpha(alpha: Vector | None, logits: object) -> None:
    """Raise `ArgumentError` unless the α of a focal loss on a softmax has one value per class of the logits."""
    if alpha is not None and isinstance(logits, Tensor) and logits.dim() > 0:
        classes = logits.shape[min(1, logits.dim() - 1)]
        if shape_of(alpha) and shape_of(alpha) != (classes,):
            raise ArgumentError(
                f"`alpha` must have one value for each of the {classes} classes; got shape {shape_of(alpha)}"
            )


def class_balanced(*, class_counts: Counts, beta: Beta, gamma: float | Vector, empty: Empty) -> Arguments:
    """Cui et al. 2019: w = (1 − β) / (1 − β^n_c), normalised to sum to C."""
    counts = class_counts_of(class_counts)
    return {"gamma": gamma, "weight": class_weights(counts, "effective_number", beta=beta, empty=empty)}


def logit_adjusted(*, prior: Vector, tau: float, empty: Empty) -> Arguments:
    """Menon et al. 2021: b = +τ log π."""
    _check("logit_adjusted", tau=tau)
    return {"offset": _log_prior(prior, tau, empty)}


def balanced_softmax(*, class_counts: Counts, empty: Empty) -> Arguments:
    """Ren et al. 2020: b = log n_c, which is log π_c up to a constant."""
    counts = _counts(class_counts, empty)
    return {"offset": _log_prior(counts.prior(), 1.0, empty)}


def vector_scaling(*, class_counts: Counts, gamma: float, tau: float, empty: Empty) -> Arguments:
    """Kini et al. 2021: a = (n_c / n_max)^γ, b = τ log π. An excluded class is masked, so that its a can be 1."""
    counts = _counts(class_counts, empty)
    _check("vector_scaling", gamma=gamma, tau=tau)
    n = torch.as_tensor(np.where(counts.counts > 0, counts.counts, counts.counts.max()), dtype=torch.float64)
    return {"class_scale": (n / n.max()) ** gamma, "offset": _log_prior(counts.prior(), tau, empty)}


def ldam(*, class_counts: Counts, max_margin: float, scale: float, empty: Empty) -> Arguments:
    """Cao et al. 2019: m_c = max_m · (n_min / n_c)^¼, s. An excluded class is never a target and has margin 0."""
    counts = _counts(class_counts, empty)
    _check("ldam", max_margin=max_margin, scale=scale)
    present = counts.counts > 0
    smallest = counts.counts[present].min()
    margins = np.where(present, max_margin * (smallest / np.maximum(counts.counts, 1)) ** 0.25, 0.0)
    masked = {} if present.all() else {"offset": np.where(present, 0.0, -np.inf)}
    return {"margin": margins, "scale": scale, **masked}


def poly(*, epsilon: float) -> Arguments:
    """Leng et al. 2022: κ = ε."""
    _check("poly", epsilon=epsilon)
    return {"poly": epsilon}


def label_aware_smoothing(*, class_counts: Counts, head: float, tail: float) -> Arguments:
    """Zhong et al. 2021: ε_c = ε_K + (ε_1 − ε_K) sin(π/2 · (n_c − n_K)/(n_1 − n_K)); equal counts give ε_1."""
    counts = class_counts_of(class_counts)
    _check("label_aware_smoothing", head=head, tail=tail)
    n = counts.counts.astype(np.float64)
    spread = n.max() - n.min()
    rank = (n - n.min()) / spread if spread > 0 else np.ones_like(n)
    return {"label_smoothing": tail + (head - tail) * np.sin(np.pi / 2 * rank)}


def sigmoid_focal(*, alpha: float | None, gamma: float) -> Arguments:
    """Lin et al. 2017: α⁺ = α, α⁻ = 1 − α, γ⁺ = γ⁻ = γ."""
    if alpha is not None and shape_of(alpha):
        raise ArgumentError(
            "`alpha` of a sigmoid loss is one number in [0, 1], the weight of the positives; for values per class use "
            "`pos_weight` and `neg_weight`"
        )
    _check("sigmoid_focal", gamma=gamma)
    own = {"gamma_pos": gamma, "gamma_neg": gamma}
    if alpha is None:
        return own
    _check("sigmoid_focal", alpha=alpha)
    return {**own, "pos_weight": float(alpha), "neg_weight": 1.0 - float(alpha)}


def asymmetric(*, gamma_neg: float, gamma_pos: float, clip: float, detach_focus: bool) -> Arguments:
    """Ridnik et al. 2021: the arguments of `sigmoid_loss` themselves; only the Keras loss reads them here."""
    return {"gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "clip": clip, "detach_focus": detach_focus}


def class_balanced_sigmoid(*, class_counts: Counts, beta: Beta, gamma: float, empty: Empty) -> tuple[Tensor, Arguments]:
    """Cui et al. 2019: the effective-number weight of a row's class on the whole row, and focal loss without α."""
    weight = class_weights(class_counts_of(class_counts), "effective_number", beta=beta, empty=empty)
    return vector_tensor(weight, "class_counts"), sigmoid_focal(alpha=None, gamma=gamma)


def _log_prior(prior: Vector, tau: float, empty: Empty) -> Tensor:
    """τ log π in float64; −inf for excluded classes, whatever τ is."""
    checked_choice("empty", empty, ("error", "exclude"))
    pi = vector_tensor(prior, "prior").to(torch.float64)
    if pi.dim() != 1:
        raise ArgumentError(f"`prior` must have shape (C,), one value per class; got shape {tuple(pi.shape)}")
    if values_readable(pi):
        check_values(pi, "prior", minimum=0.0)
        if empty == "error" and bool((pi == 0).any()):
            c = int((pi == 0).nonzero()[0])
            raise ArgumentError(
                f'`prior` of class {c} is 0, and its logarithm is −inf: pass empty="exclude" to mask such classes'
            )
    return torch.where(pi > 0, tau * torch.where(pi > 0, pi, 1.0).log(), -torch.inf)


def _counts(class_counts: Counts, empty: Empty) -> ClassCounts:
    """Return the class counts; ``empty`` decides whether a class without images is refused or excluded."""
    checked_choice("empty", empty, ("error", "exclude"))
    counts = class_counts_of(class_counts)
    if empty == "error" and counts.empty:
        raise ArgumentError(
            f"`class_counts` of class {counts.empty[0]!r} is 0, which gives no finite loss: "
            'pass empty="exclude" to leave such classes out'
        )
    return counts
