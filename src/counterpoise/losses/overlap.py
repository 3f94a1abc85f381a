"""Overlap losses for segmentation: the Tversky index of soft counts pooled over the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from counterpoise.kernels.reduction import Reduction, reduced
from counterpoise.kernels.reference import dense_target, log_one_minus_p
from counterpoise.losses.arguments import (
    checked_choice,
    checked_logits,
    checked_number,
    checked_row_vector,
    checked_target,
    class_vector,
)
from counterpoise.losses.base import Loss
from counterpoise.losses.options import OverlapOptions, Vector

__all__ = ["DiceLoss", "FocalTverskyLoss", "TverskyLoss", "dice_loss", "focal_tversky_loss", "tversky_loss"]


def tversky_loss(  # noqa: PLR0913  the equation has this many letters
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float = 1.0,
    weight: Vector | None = None,
    sample_weight: Vector | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    smooth: float = 1e-5,
) -> Tensor:
    """Tversky loss: ``mean_c (1 − TI_c)^γ``, ``TI_c = (TP_c + s)/(TP_c + α FP_c + β FN_c + s)``.

    Counts are sums of softmax probabilities over the whole batch. Classes absent from the targets are left out of the
    mean: predicting nothing of them would be perfect, whatever is learnt.

    Args:
        logits: ``(N, C, …)``.
        target: ``(N, …)`` class indices, or ``(N, C, …)`` probabilities.
        alpha: weight of the false positives.
        beta: weight of the false negatives (Abraham's code has the two the other way round).
        gamma: exponent of each class's ``1 − TI``, above 0.
        weight: ``(C,)`` weight of each class in the mean.
        sample_weight: ``(N, …)`` or ``(N,)`` weight of each position in the counts.
        ignore_index: positions with this index count nowhere.
        reduction: "mean" over the classes present, "sum" over them, or "none": ``(C,)`` with 0 for absent classes.
        smooth: s.

    Raises:
        ArgumentError: a shape, value or choice that cannot be used; the message names the argument.

    Reference: Salehi et al., Tversky loss function for image segmentation, MLMI 2017 (arXiv:1706.05721).

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 2, 1, 2)  # p = ½ everywhere: TP = FN = ½ and FP = ½ for both classes
        >>> tversky_loss(logits, torch.tensor([[[0, 1]]]), smooth=0.0)
        tensor(0.5000)
    """
    checked_choice("reduction", reduction, ("mean", "sum", "none"))
    logits = checked_logits(logits)
    target = checked_target(target, logits, ignore_index)
    w = class_vector(weight, "weight", logits, low=0.0)
    a, b, s = (checked_number(name, x, low=0.0) for name, x in (("alpha", alpha), ("beta", beta), ("smooth", smooth)))
    u = checked_row_vector(sample_weight, logits)
    hit, over, missed, there = _soft_counts(logits, target, u, ignore_index)
    # 1 − TI = (α FP + β FN)/(TP + α FP + β FN + s): no cancellation where TI is near 1.
    off = a * over + b * missed
    classes = _power(_ratio(off, hit + off + s), checked_number("gamma", gamma, above=0.0))
    counts = there if w is None else there * w
    classes = torch.where(there > 0, classes, 0.0) * (1.0 if w is None else w)
    return reduced(classes, reduction, counts.sum() if reduction == "mean" else None)


def _soft_counts(
    logits: Tensor, target: Tensor, sample_weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """TP, FP, FN and whether the targets have the class (1 or 0), each (C,)."""
    t, valid, wrong = (
        x if x.dim() == logits.dim() else x.unsqueeze(1) for x in dense_target(logits, target, ignore_index)
    )
    z = torch.where(valid, logits.to(t.dtype), 0.0)
    log_p = torch.log_softmax(z, 1)
    u = valid.to(t.dtype) if sample_weight is None else torch.where(valid, sample_weight.unsqueeze(1), 0.0)
    u = torch.where(wrong, torch.nan, u)
    p, rest = log_p.exp(), log_one_minus_p(z, log_p).exp()  # rest is 1 − p without cancellation
    over = [d for d in range(z.dim()) if d != 1]
    hit, false_positive, missed, mass = ((u * x).sum(over) for x in (t * p, (1.0 - t) * p, t * rest, t))
    return hit, false_positive, missed, (mass > 0).to(t.dtype)


def _ratio(total: Tensor, denominator: Tensor) -> Tensor:
    """Element by element, 0 where both are 0: α or β is 0 and there is no smoothing."""
    empty = denominator == 0
    return torch.where(empty, 0.0, total / torch.where(empty, 1.0, denominator))


def _power(base: Tensor, exponent: float) -> Tensor:
    """base^γ with gradient 0 instead of infinity at base = 0, for γ < 1."""
    if exponent == 1.0:
        return base
    zero = base == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, base) ** exponent)


def dice_loss(logits: Tensor, target: Tensor, **options: Unpack[OverlapOptions]) -> Tensor:
    """Dice loss: `tversky_loss` with α = β = ½, that is ``1 − 2 TP/(2 TP + FP + FN)``. Keywords as `tversky_loss`.

    Reference: Milletari et al., V-Net, 3DV 2016 (arXiv:1606.04797).

    Example:
        >>> import torch
        >>> dice_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]), smooth=0.0)
        tensor(0.5000)
    """
    return tversky_loss(logits, target, **options)


def focal_tversky_loss(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 0.75,
    **options: Unpack[OverlapOptions],
) -> Tensor:
    """Focal Tversky loss: `tversky_loss` with misses weighing more and γ = ¾ (the paper's 1/γ).

    Other keywords as `tversky_loss`.

    Reference: Abraham and Khan, A Novel Focal Tversky Loss, ISBI 2019 (arXiv:1810.07842).

    Example:
        >>> import torch
        >>> focal_tversky_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]), smooth=0.0)  # ½^¾
        tensor(0.5946)
    """
    return tversky_loss(logits, target, alpha=alpha, beta=beta, gamma=gamma, **options)


class TverskyLoss(Loss):
    """`tversky_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> TverskyLoss(smooth=0.0)(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
        tensor(0.5000)
    """

    def __init__(
        self, *, alpha: float = 0.5, beta: float = 0.5, gamma: float = 1.0, **options: Unpack[OverlapOptions]
    ) -> None:
        super().__init__(tversky_loss, {"alpha": alpha, "beta": beta, "gamma": gamma, **options})


class DiceLoss(Loss):
    """`dice_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> DiceLoss(smooth=0.0)(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
        tensor(0.5000)
    """

    def __init__(self, **options: Unpack[OverlapOptions]) -> None:
        super().__init__(tversky_loss, dict(options))


class FocalTverskyLoss(Loss):
    """`focal_tversky_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> FocalTverskyLoss(smooth=0.0)(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
        tensor(0.5946)
    """

    def __init__(
        self, *, alpha: float = 0.3, beta: float = 0.7, gamma: float = 0.75, **options: Unpack[OverlapOptions]
    ) -> None:
        super().__init__(tversky_loss, {"alpha": alpha, "beta": beta, "gamma": gamma, **options})
