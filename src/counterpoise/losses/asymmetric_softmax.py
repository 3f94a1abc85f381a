"""Asymmetric loss of one class per row, on a softmax."""

from __future__ import annotations

from torch import Tensor

from counterpoise.kernels.asymmetric_softmax import AsymmetricParameters, asymmetric_softmax
from counterpoise.kernels.reduction import Batch, Reduction
from counterpoise.losses.arguments import (
    ASYMMETRIC_SOFTMAX,
    Vector,
    also_named,
    check_choices,
    checked_normalizer,
    parameters_for,
)
from counterpoise.losses.base import Loss
from counterpoise.losses.targets import (
    check_unmasked,
    checked_logits,
    checked_row_vector,
    checked_target,
    with_batch_dimension,
)


@also_named(input="logits")
def asymmetric_softmax_loss(
    logits: Tensor,
    target: Tensor,
    gamma_pos: float = 1.0,
    gamma_neg: float = 4.0,
    label_smoothing: float = 0.1,
    *,
    weight: Vector | None = None,
    sample_weight: Vector | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Asymmetric loss of one class per row: the terms of the other classes, which label smoothing adds, are focused.

    With ``p = softmax(z)`` and smoothing ε over C classes, the loss of a row of class y is
    ``(1 − ε + ε/C) (1 − p_y)^γ⁺ (−log p_y) + (ε/C) Σ_{c≠y} p_c^γ⁻ (−log p_c)``; without smoothing it is focal loss.

    It is ``AsymmetricLossSingleLabel`` of timm with the same values, which are the defaults of both. The authors'
    ``ASLSingleLabel`` has ``gamma_pos=0``. Both divide by N, as "batchmean" does, and "mean" without class weights.

    Args:
        logits: ``(N, C)`` or ``(N, C, …)``, any floating dtype; −inf masks a class of a row.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities, in which the loss is
            linear.
        gamma_pos: focusing parameter γ⁺ of the class of the row, at least 0.
        gamma_neg: focusing parameter γ⁻ of the other classes, at least 0.
        label_smoothing: share ε of the target spread over the classes, in [0, 1].
        weight: ``(C,)`` weight of each class, at least 0.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        ignore_index: rows with this target are left out.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.

    Returns:
        A scalar, or ``(N, …)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Reference: Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021 (arXiv:2009.14119); the loss of
    one class per row is that of the authors' code.

    Example:
        >>> import torch
        >>> asymmetric_softmax_loss(torch.zeros(1, 2), torch.tensor([0]))  # (0.95 · ½ + 0.05 · ½⁴) · log 2
        tensor(0.3314)
    """
    check_choices(ASYMMETRIC_SOFTMAX, reduction)
    unbatched, logits, target = with_batch_dimension(logits, target)
    target = checked_target(target, checked_logits(logits), ignore_index)
    params = parameters_for(
        logits,
        ASYMMETRIC_SOFTMAX,
        {
            "weight": weight,
            "gamma_pos": gamma_pos,
            "gamma_neg": gamma_neg,
            "label_smoothing": label_smoothing,
        },
    )
    check_unmasked(target, ignore_index, logits)
    u = checked_row_vector(sample_weight, logits)
    batch = Batch(target, u, ignore_index, reduction, checked_normalizer(normalizer, reduction, logits.device))
    loss = asymmetric_softmax(logits, AsymmetricParameters(**params), batch)
    return loss.squeeze(0) if unbatched and reduction == "none" else loss


class AsymmetricSoftmaxLoss(Loss):
    """Asymmetric loss of one class per row as a module; see `asymmetric_softmax_loss` for the formula.

    Args:
        gamma_pos: focusing parameter γ⁺ of the class of the row, at least 0.
        gamma_neg: focusing parameter γ⁻ of the other classes, at least 0.
        label_smoothing: share ε of the target spread over the classes, in [0, 1].
        weight: ``(C,)`` weight of each class, at least 0.
        ignore_index: rows with this target are left out.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> AsymmetricSoftmaxLoss()(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.3314)
    """

    def __init__(
        self,
        gamma_pos: float = 1.0,
        gamma_neg: float = 4.0,
        label_smoothing: float = 0.1,
        *,
        weight: Vector | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        normalizer: float | Tensor | None = None,
    ) -> None:
        super().__init__(
            asymmetric_softmax_loss,
            ASYMMETRIC_SOFTMAX,
            {
                "gamma_pos": gamma_pos,
                "gamma_neg": gamma_neg,
                "label_smoothing": label_smoothing,
                "weight": weight,
                "ignore_index": ignore_index,
                "reduction": reduction,
                "normalizer": normalizer,
            },
        )
