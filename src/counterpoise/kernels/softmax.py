"""The softmax equation behind one door: `impl` chooses the form, and nothing outside knows which one ran."""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.kernels.forms import Impl, chosen_form
from counterpoise.kernels.reduction import Reduction, reduced, safe_divide
from counterpoise.kernels.softmax_closed import softmax_closed
from counterpoise.kernels.softmax_reference import softmax_rows
from counterpoise.kernels.terms import SoftmaxTerms, accumulation_dtype

__all__ = ["softmax_equation"]


def softmax_equation(
    logits: Tensor,
    target: Tensor,
    terms: SoftmaxTerms,
    *,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: Reduction,
    denominator: Tensor | float | None,
    impl: Impl,
) -> Tensor:
    """Logits (N, C, …) and int64 (N, …) or floating (N, C, …) targets to the loss: a scalar, or (N, …) for "none".

    ``sample_weight`` is (N, …); ``denominator`` divides the sum of "mean" and "batchmean".
    """
    others = (target, sample_weight, denominator, *terms)
    if chosen_form(impl, others) == "reference":
        rows = softmax_rows(logits, target, terms, ignore_index)
        return reduced(rows if sample_weight is None else rows * sample_weight, reduction, denominator)
    coefficient = torch.ones((), dtype=accumulation_dtype(logits), device=logits.device)
    coefficient = coefficient if sample_weight is None else coefficient * sample_weight
    coefficient = coefficient if denominator is None else safe_divide(coefficient, denominator)
    return softmax_closed(logits, target, coefficient, terms, ignore_index, total=reduction != "none")
