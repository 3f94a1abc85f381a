"""The sigmoid equation behind one door: `impl` chooses the form, and nothing outside knows which one ran."""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.core.errors import UnsupportedError
from counterpoise.kernels.forms import Impl, chosen_form
from counterpoise.kernels.reduction import Reduction, reduced, safe_divide
from counterpoise.kernels.sigmoid_closed import sigmoid_closed
from counterpoise.kernels.sigmoid_reference import sigmoid_elements
from counterpoise.kernels.terms import SigmoidTerms, accumulation_dtype

__all__ = ["sigmoid_equation"]


def sigmoid_equation(
    logits: Tensor,
    target: Tensor,
    terms: SigmoidTerms,
    *,
    sample_weight: Tensor | None,
    ignore_index: int,
    reduction: Reduction,
    denominator: Tensor | float | None,
    impl: Impl,
) -> Tensor:
    """Logits (N, C, …) and targets of that shape, or int64 (N, …), to the loss: a scalar, or (N, C, …) for "none".

    ``sample_weight`` is (N, …); ``denominator`` divides the sum of "mean" and "batchmean".
    """
    form = chosen_form(impl, logits, (target, sample_weight, denominator, *terms))
    if impl == "triton":
        raise UnsupportedError('`impl="triton"` has no sigmoid kernel yet; use "auto"')
    if form == "reference":
        elements = sigmoid_elements(logits, target, terms, ignore_index)
        elements = elements if sample_weight is None else elements * sample_weight.unsqueeze(1)
        return reduced(elements, reduction, denominator)
    coefficient = torch.ones((), dtype=accumulation_dtype(logits), device=logits.device)
    coefficient = coefficient if sample_weight is None else coefficient * sample_weight
    coefficient = coefficient if denominator is None else safe_divide(coefficient, denominator)
    return sigmoid_closed(logits, target, coefficient, terms, ignore_index, total=reduction != "none")
