"""The sigmoid equation behind one door: `impl` chooses the form, and nothing outside knows which one ran."""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.kernels.forms import Form, Impl, chosen_form, triton_or, trusted_triton
from counterpoise.kernels.reduction import Reduction, kept, reduced, safe_divide
from counterpoise.kernels.sigmoid_closed import sigmoid_closed
from counterpoise.kernels.sigmoid_reference import sigmoid_elements
from counterpoise.kernels.terms import SigmoidTerms, accumulation_dtype

__all__ = ["sigmoid_equation"]


def sigmoid_equation(  # noqa: PLR0913  what the equation and its caller have
    logits: Tensor,
    target: Tensor,
    terms: SigmoidTerms,
    *,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: Reduction,
    denominator: Tensor | float | None,
    impl: Impl,
    inplace: bool = False,
) -> Tensor:
    """Logits (N, C, …) and targets of that shape, or int64 (N, …), to the loss: a scalar, or (N, C, …) for "none".

    ``sample_weight`` is (N, …); ``denominator`` divides the sum of "mean" and "batchmean"; None: the
    number of elements, or rows, that are not ignored.
    """
    form = chosen_form(impl, logits, (target, sample_weight, denominator, *terms))

    def triton() -> Tensor:
        from counterpoise.kernels.sigmoid_triton import sigmoid_triton  # imports Triton: only where it runs

        return sigmoid_triton(
            logits,
            target,
            terms,
            sample_weight=sample_weight,
            denominator=denominator,
            ignore_index=ignore_index,
            reduction=reduction,
            inplace=inplace,
        )

    def in_torch() -> Tensor:
        below = denominator
        if below is None and reduction in ("mean", "batchmean"):
            below = counted(target, logits, ignore_index, reduction)
        if form == "reference":
            elements = sigmoid_elements(logits, target, terms, ignore_index)
            elements = elements if sample_weight is None else elements * sample_weight.unsqueeze(1)
            return reduced(elements, reduction, below)
        coefficient = torch.ones((), dtype=accumulation_dtype(logits), device=logits.device)
        coefficient = coefficient if sample_weight is None else coefficient * sample_weight
        coefficient = coefficient if below is None else safe_divide(coefficient, below)
        return sigmoid_closed(
            logits, target, coefficient, terms, ignore_index, total=reduction != "none", inplace=inplace
        )

    def trusted() -> bool:
        return trusted_triton(sigmoid, logits, target, sample_weight)

    def sigmoid(z: Tensor, y: Tensor, u: Tensor | None, form: Form) -> Tensor:
        return sigmoid_equation(
            z,
            y,
            terms,
            sample_weight=u,
            ignore_index=ignore_index,
            reduction="sum",
            denominator=None,
            impl=form,
        )

    return triton_or(impl, triton, in_torch, trusted) if form == "triton" else in_torch()


def counted(target: Tensor, logits: Tensor, ignore_index: int, reduction: Reduction) -> Tensor:
    """How many elements ("mean") or rows ("batchmean") are not ignored."""
    dtype = accumulation_dtype(logits)
    valid = kept(target, ignore_index)
    if target.dim() == logits.dim():
        return (valid.any(1) if reduction == "batchmean" else valid).sum(dtype=dtype)
    return valid.sum(dtype=dtype) * (1 if reduction == "batchmean" else logits.shape[1])
