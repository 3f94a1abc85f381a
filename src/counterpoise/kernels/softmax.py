"""The softmax equation behind one door: `impl` chooses the form, and nothing outside knows which one ran."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from counterpoise.kernels.forms import Form, Impl, chosen_form, triton_or, trusted_triton
from counterpoise.kernels.reduction import Reduction, reduced, safe_divide, valid_rows
from counterpoise.kernels.reduction import denominator as found
from counterpoise.kernels.softmax_closed import closed_rows, softmax_closed
from counterpoise.kernels.softmax_reference import softmax_rows
from counterpoise.kernels.terms import SoftmaxTerms, accumulation_dtype

__all__ = ["rows_and_gradient", "softmax_equation", "trusted_softmax"]


def softmax_equation(  # noqa: PLR0913  what the equation and its caller have
    logits: Tensor,
    target: Tensor,
    terms: SoftmaxTerms,
    *,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: Reduction,
    denominator: Tensor | float | None,
    impl: Impl,
    inplace: bool = False,
) -> Tensor:
    """Logits (N, C, …) and int64 (N, …) or floating (N, C, …) targets to the loss: a scalar, or (N, …) for "none".

    ``sample_weight`` is (N, …); ``denominator`` divides the sum of "mean" and "batchmean"; None: what
    `reduction.denominator` says of these targets.
    """
    form = chosen_form(impl, logits, (target, sample_weight, denominator, *terms))

    def triton() -> Tensor:
        from counterpoise.kernels.softmax_triton import softmax_triton  # imports Triton: only where it runs

        return softmax_triton(
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
            below = found(
                target,
                valid_rows(target, ignore_index),
                reduction,
                terms.weight,
                sample_weight,
                accumulation_dtype(logits),
            )
        if form == "reference":
            rows = softmax_rows(logits, target, terms, ignore_index)
            return reduced(rows if sample_weight is None else rows * sample_weight, reduction, below)
        coefficient = torch.ones((), dtype=accumulation_dtype(logits), device=logits.device)
        coefficient = coefficient if sample_weight is None else coefficient * sample_weight
        coefficient = coefficient if below is None else safe_divide(coefficient, below)
        return softmax_closed(
            logits, target, coefficient, terms, ignore_index, total=reduction != "none", inplace=inplace
        )

    def trusted() -> bool:
        return trusted_softmax(logits, target, terms, sample_weight, ignore_index)

    return triton_or(impl, triton, in_torch, trusted) if form == "triton" else in_torch()


def trusted_softmax(
    logits: Tensor, target: Tensor, terms: SoftmaxTerms, sample_weight: Tensor | None, ignore_index: int
) -> bool:
    """May "auto" take the Triton kernels for batches like this one?"""

    def softmax(z: Tensor, y: Tensor, u: Tensor | None, form: Form) -> Tensor:
        return softmax_equation(
            z,
            y,
            terms,
            sample_weight=u,
            ignore_index=ignore_index,
            reduction="sum",
            denominator=None,
            impl=form,
        )

    return trusted_triton(softmax, logits, target, sample_weight)


def rows_and_gradient(
    logits: Tensor,
    target: Tensor,
    coefficient: Tensor | None,
    terms: SoftmaxTerms,
    *,
    ignore_index: int,
    form: Literal["closed_form", "triton"],
    want_gradient: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """coefficient · ℓ of each row, (N,), and the gradient of their sum for logits (N, C), without a graph."""
    if form == "triton":
        from counterpoise.kernels.softmax_triton import rows_and_gradient as in_triton

        return in_triton(logits, target, coefficient, terms, ignore_index=ignore_index, want_gradient=want_gradient)
    gradient = torch.empty_like(logits) if want_gradient else None
    rows = closed_rows(logits, target, terms, ignore_index, gradient, coefficient)
    return rows if coefficient is None else rows * coefficient, gradient
