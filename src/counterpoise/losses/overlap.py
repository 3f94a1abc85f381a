"""Overlap losses for segmentation: the Tversky index of soft counts, summed over the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.kernels.reduction import Reduction, reduced
from counterpoise.kernels.reference import dense_target, log_one_minus_p
from counterpoise.losses.arguments import TVERSKY, Vector, check_choices, parameters_for
from counterpoise.losses.base import Loss
from counterpoise.losses.targets import checked_logits, checked_row_vector, checked_target


def tversky_loss(
    logits: Tensor, target: Tensor, *, alpha: float = 0.5, beta: float = 0.5, gamma: float = 1.0,
    weight: Vector | None = None, sample_weight: Vector | None = None, ignore_index: int = -100,
    reduction: Reduction = "mean", smooth: float = 1e-5,
) -> Tensor:
    """Tversky loss: ``mean_c (1 − TI_c)^γ``, ``TI_c = (TP_c + s)/(TP_c + α FP_c + β FN_c + s)``.

    Counts are sums of softmax probabilities over the whole batch. Classes that are absent from the targets do not enter
    the mean, because predicting none of them would be perfect whatever the model has learnt.

    Args:
        logits: ``(N, C, …)``, any floating dtype.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        alpha: weight of the false positives, at least 0.
        beta: weight of the false negatives, at least 0.
        gamma: exponent γ of each class's ``1 − TI``, above 0.
        weight: ``(C,)`` weight of each class in the mean, at least 0.
        sample_weight: ``(N, …)`` weight of each row (pixel), or ``(N,)`` of each image, at least 0.
        ignore_index: rows with this target are left out.
        reduction: "mean" over the classes present, "sum" over them, or "none": ``(C,)``, with 0 for absent classes.
        smooth: number s added to numerator and denominator of the index, at least 0.

    Returns:
        A scalar, or ``(C,)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Reference: Salehi et al., Tversky loss function for image segmentation, MLMI 2017 (arXiv:1706.05721).

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 2, 1, 2)  # p = ½ everywhere: TP = FN = ½ and FP = ½ for both classes
        >>> tversky_loss(logits, torch.tensor([[[0, 1]]]), smooth=0.0)
        tensor(0.5000)
    """
    check_choices(TVERSKY, reduction)
    logits = checked_logits(logits)
    target = checked_target(target, logits, ignore_index)
    given = {"weight": weight, "alpha": alpha, "beta": beta, "gamma": gamma, "smooth": smooth}
    w, a, b, exponent, s = parameters_for(logits, TVERSKY, given).values()
    tp, fp, fn, present = _soft_counts(logits, target, checked_row_vector(sample_weight, logits), ignore_index)
    # 1 − TI = (α FP + β FN)/(TP + α FP + β FN + s): no cancellation where TI is near 1.
    weighted_errors = a * fp + b * fn
    classes = _power(_ratio(weighted_errors, tp + weighted_errors + s), exponent)
    classes = torch.where(present > 0, classes, 0.0) * (1.0 if w is None else w)
    counts = present if w is None else present * w
    return reduced(classes, reduction, counts.sum() if reduction == "mean" else None)


class TverskyLoss(Loss):
    """Tversky loss as a module; see `tversky_loss` for the formula.

    Args:
        alpha: weight of the false positives, at least 0.
        beta: weight of the false negatives, at least 0.
        gamma: exponent γ of each class's ``1 − TI``, above 0.
        weight: ``(C,)`` weight of each class in the mean, at least 0.
        ignore_index: rows with this target are left out.
        reduction: "mean" over the classes present, "sum" over them, or "none": ``(C,)``, with 0 for absent classes.
        smooth: number s added to numerator and denominator of the index, at least 0.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> TverskyLoss(smooth=0.0)(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
        tensor(0.5000)
    """

    def __init__(
        self, *, alpha: float = 0.5, beta: float = 0.5, gamma: float = 1.0,
        weight: Vector | None = None, ignore_index: int = -100, reduction: Reduction = "mean", smooth: float = 1e-5,
    ) -> None:
        super().__init__(tversky_loss, TVERSKY, {
            "alpha": alpha, "beta": beta, "gamma": gamma, "weight": weight, "ignore_index": ignore_index,
            "reduction": reduction, "smooth": smooth,
        })


def dice_loss(
    logits: Tensor, target: Tensor, *, weight: Vector | None = None, sample_weight: Vector | None = None,
    ignore_index: int = -100, reduction: Reduction = "mean", smooth: float = 1e-5,
) -> Tensor:
    """Dice loss ``1 − 2 TP/(2 TP + FP + FN)``: `tversky_loss` with α = β = ½.

    Args:
        logits: ``(N, C, …)``, any floating dtype.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        weight: ``(C,)`` weight of each class in the mean, at least 0.
        sample_weight: ``(N, …)`` weight of each row (pixel), or ``(N,)`` of each image, at least 0.
        ignore_index: rows with this target are left out.
        reduction: "mean" over the classes present, "sum" over them, or "none": ``(C,)``, with 0 for absent classes.
        smooth: number s added to numerator and denominator of the index, at least 0.

    Returns:
        A scalar, or ``(C,)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Reference: Milletari et al., V-Net, 3DV 2016 (arXiv:1606.04797).

    Example:
        >>> import torch
        >>> dice_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]), smooth=0.0)
        tensor(0.5000)
    """
    return tversky_loss(
        logits, target,
        weight=weight, sample_weight=sample_weight, ignore_index=ignore_index, reduction=reduction, smooth=smooth,
    )


class DiceLoss(Loss):
    """Dice loss as a module; see `dice_loss` for the formula.

    Args:
        weight: ``(C,)`` weight of each class in the mean, at least 0.
        ignore_index: rows with this target are left out.
        reduction: "mean" over the classes present, "sum" over them, or "none": ``(C,)``, with 0 for absent classes.
        smooth: number s added to numerator and denominator of the index, at least 0.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> DiceLoss(smooth=0.0)(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
        tensor(0.5000)
    """

    def __init__(
        self, *, weight: Vector | None = None, ignore_index: int = -100, reduction: Reduction = "mean",
        smooth: float = 1e-5,
    ) -> None:
        super().__init__(tversky_loss, TVERSKY, {
            "weight": weight, "ignore_index": ignore_index, "reduction": reduction, "smooth": smooth,
        })


def focal_tversky_loss(
    logits: Tensor, target: Tensor, *, alpha: float = 0.3, beta: float = 0.7, gamma: float = 0.75,
    weight: Vector | None = None, sample_weight: Vector | None = None, ignore_index: int = -100,
    reduction: Reduction = "mean", smooth: float = 1e-5,
) -> Tensor:
    """Focal Tversky loss: `tversky_loss` in which false negatives weigh more, with γ = ¾ (the paper's 1/γ).

    Args:
        logits: ``(N, C, …)``, any floating dtype.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        alpha: weight of the false positives, at least 0.
        beta: weight of the false negatives, at least 0. Abraham's code has the two the other way round.
        gamma: exponent γ of each class's ``1 − TI``, above 0.
        weight: ``(C,)`` weight of each class in the mean, at least 0.
        sample_weight: ``(N, …)`` weight of each row (pixel), or ``(N,)`` of each image, at least 0.
        ignore_index: rows with this target are left out.
        reduction: "mean" over the classes present, "sum" over them, or "none": ``(C,)``, with 0 for absent classes.
        smooth: number s added to numerator and denominator of the index, at least 0.

    Returns:
        A scalar, or ``(C,)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Reference: Abraham and Khan, A Novel Focal Tversky Loss, ISBI 2019 (arXiv:1810.07842).

    Example:
        >>> import torch
        >>> focal_tversky_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]), smooth=0.0)  # ½^¾
        tensor(0.5946)
    """
    return tversky_loss(
        logits, target, alpha=alpha, beta=beta, gamma=gamma,
        weight=weight, sample_weight=sample_weight, ignore_index=ignore_index, reduction=reduction, smooth=smooth,
    )


class FocalTverskyLoss(Loss):
    """Focal Tversky loss as a module; see `focal_tversky_loss` for the formula.

    Args:
        alpha: weight of the false positives, at least 0.
        beta: weight of the false negatives, at least 0. Abraham's code has the two the other way round.
        gamma: exponent γ of each class's ``1 − TI``, above 0.
        weight: ``(C,)`` weight of each class in the mean, at least 0.
        ignore_index: rows with this target are left out.
        reduction: "mean" over the classes present, "sum" over them, or "none": ``(C,)``, with 0 for absent classes.
        smooth: number s added to numerator and denominator of the index, at least 0.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> FocalTverskyLoss(smooth=0.0)(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
        tensor(0.5946)
    """

    def __init__(
        self, *, alpha: float = 0.3, beta: float = 0.7, gamma: float = 0.75,
        weight: Vector | None = None, ignore_index: int = -100, reduction: Reduction = "mean", smooth: float = 1e-5,
    ) -> None:
        super().__init__(tversky_loss, TVERSKY, {
            "alpha": alpha, "beta": beta, "gamma": gamma, "weight": weight, "ignore_index": ignore_index,
            "reduction": reduction, "smooth": smooth,
        })


def _soft_counts(
    logits: Tensor, target: Tensor, sample_weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """TP, FP, FN and whether the targets have the class (1 or 0), each ``(C,)``."""
    t, valid, wrong = (
        x if x.dim() == logits.dim() else x.unsqueeze(1) for x in dense_target(logits, target, ignore_index)
    )
    z = torch.where(valid, logits.to(t.dtype), 0.0)
    log_p = torch.log_softmax(z, 1)
    u = valid.to(t.dtype) if sample_weight is None else torch.where(valid, sample_weight.unsqueeze(1), 0.0)
    u = torch.where(wrong, torch.nan, u)
    p, rest = log_p.exp(), log_one_minus_p(z, log_p).exp()  # rest is 1 − p without cancellation
    dims = [d for d in range(z.dim()) if d != 1]
    tp, fp, fn, mass = ((u * x).sum(dims) for x in (t * p, (1.0 - t) * p, t * rest, t))
    return tp, fp, fn, (mass > 0).to(t.dtype)


def _ratio(total: Tensor, denominator: Tensor) -> Tensor:
    """total / denominator, and 0 where both are 0: α or β is 0 and there is no smoothing."""
    is_zero = denominator == 0
    return torch.where(is_zero, 0.0, total / torch.where(is_zero, 1.0, denominator))


def _power(base: Tensor, exponent: float) -> Tensor:
    """base^γ with gradient 0 instead of infinity at base = 0, for γ < 1."""
    if exponent == 1.0:
        return base
    zero = base == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, base) ** exponent)
