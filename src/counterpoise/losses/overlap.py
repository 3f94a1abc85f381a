"""Overlap losses for segmentation: the Tversky index of soft counts, per batch or image and per class or together."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from counterpoise.core.errors import ArgumentError
from counterpoise.kernels.overlap import Activation, SoftCounts, soft_counts
from counterpoise.kernels.reduction import Reduction, reduced, safe_divide
from counterpoise.losses.arguments import TVERSKY, Vector, also_named, check_choices, parameters_for
from counterpoise.losses.base import Loss
from counterpoise.losses.targets import (
    check_tensor,
    checked_logits,
    checked_multilabel_target,
    checked_row_vector,
    checked_target,
)

Average = Literal["macro", "micro"]


@also_named(input="logits")
def tversky_loss(
    logits: Tensor, target: Tensor, *, alpha: float = 0.5, beta: float = 0.5, gamma: float = 1.0,
    average: Average = "macro", batch: bool = True, activation: Activation = "softmax",
    include_background: bool = True, weight: Vector | None = None,
    sample_weight: Vector | None = None, ignore_index: int = -100, reduction: Reduction = "mean", smooth: float = 1e-5,
) -> Tensor:
    """Tversky loss: ``mean_c (1 − TI_c)^γ``, ``TI_c = (TP_c + s)/(TP_c + α FP_c + β FN_c + s)``.

    Counts are sums of probabilities over the whole batch, or over each image with ``batch=False``. Classes that are
    absent from the targets (of the batch, or of the image) do not enter the mean, because predicting none of them would
    be perfect whatever the model has learnt; with ``average="micro"`` their false positives count.

    Args:
        logits: ``(N, C, …)``, any floating dtype; a softmax needs at least two classes.
        target: for a softmax ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities; for
            sigmoids labels in [0, 1] of the logits' shape (``(N, …)`` for one class), or class indices (one-vs-rest).
        alpha: weight of the false positives, at least 0.
        beta: weight of the false negatives, at least 0.
        gamma: exponent γ of each ``1 − TI``, above 0.
        average: "macro": one index per class, and the mean over the classes that occur in the targets; "micro": one
            index of the counts summed over all classes, each times its ``weight``.
        batch: sum the counts over the batch; False: an index for each image, and the mean over the images.
        activation: what makes probabilities of the logits: "softmax", or "sigmoid" for binary and multi-label masks.
        include_background: whether class 0 enters the loss.
        weight: ``(C,)`` weight of each class in the mean, at least 0.
        sample_weight: ``(N, …)`` weight of each row (pixel), or ``(N,)`` of each image, at least 0.
        ignore_index: rows, or labels for sigmoids, with this target are left out.
        reduction: "mean", "sum" over the classes (and images), or "none": the terms, ``(C,)`` or ``(N, C)`` for
            "macro", a scalar or ``(N,)`` for "micro", with 0 for absent classes.
        smooth: number s added to numerator and denominator of the index, at least 0.

    Returns:
        A scalar, or the terms for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Reference: Salehi et al., Tversky loss function for image segmentation, MLMI 2017 (arXiv:1706.05721).

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 2, 1, 2)  # p = ½ everywhere: TP = FN = ½ and FP = ½ for both classes
        >>> tversky_loss(logits, torch.tensor([[[0, 1]]]), smooth=0.0)
        tensor(0.5000)
        >>> mask = torch.tensor([[[[0, 1]]]])  # a binary mask: TP = FN = ½ and FP = ½ for its only class
        >>> tversky_loss(torch.zeros(1, 1, 1, 2), mask, activation="sigmoid", smooth=0.0)
        tensor(0.5000)
    """
    check_choices(TVERSKY, reduction)
    logits = checked_logits(logits)
    check_classes(logits.shape[1], activation, include_background)
    target = _checked_masks(target, logits, ignore_index, activation)
    given = {
        "weight": weight, "alpha": alpha, "beta": beta, "gamma": gamma, "smooth": smooth, "average": average,
        "batch": batch, "activation": activation, "include_background": include_background,
    }
    w, a, b, exponent, s, *_ = parameters_for(logits, TVERSKY, given).values()
    u = checked_row_vector(sample_weight, logits)
    counts = soft_counts(logits, target, u, ignore_index, activation=activation, per_image=not batch)
    if not include_background:
        counts, w = SoftCounts(*(x[..., 1:] for x in counts)), None if w is None else w[1:]
    if average == "micro":
        counts, w = _all_classes(counts, w), None
    # 1 − TI = (α FP + β FN)/(TP + α FP + β FN + s): no cancellation where TI is near 1.
    weighted_errors = a * counts.fp + b * counts.fn
    terms = _power(_ratio(weighted_errors, counts.tp + weighted_errors + s), exponent)
    present = (counts.positives != 0).to(terms.dtype)  # NaN, of an invalid index, stays visible
    terms = torch.where(present > 0, terms, 0.0) * (1.0 if w is None else w)
    return _averaged(terms, present if w is None else present * w, reduction, batch)


class OverlapLoss(Loss):
    """Base class of the overlap losses: `tversky_loss` with stored arguments, checked together when it is made."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(tversky_loss, TVERSKY, arguments)
        if self.weight is not None:
            check_classes(len(self.weight), arguments["activation"], arguments["include_background"])


def check_classes(classes: int, activation: str, include_background: bool) -> None:
    """Refuse one class where a softmax or the background needs two."""
    if classes == 1 and activation == "softmax":
        raise ArgumentError(
            '`activation="softmax"` needs at least two classes, as the probability of one class is always 1; got one. '
            'Pass activation="sigmoid" for a binary mask, with logits of shape (N, 1, H, W)'
        )
    if classes == 1 and not include_background:
        raise ArgumentError(
            "`include_background=False` leaves class 0 out, and there is no other; leave the argument out for a binary "
            "mask, whose only class is the foreground"
        )


class TverskyLoss(OverlapLoss):
    """Tversky loss as a module; see `tversky_loss` for the formula.

    Args:
        alpha: weight of the false positives, at least 0.
        beta: weight of the false negatives, at least 0.
        gamma: exponent γ of each ``1 − TI``, above 0.
        average: "macro": one index per class, and the mean over the classes that occur in the targets; "micro": one
            index of the counts summed over all classes, each times its ``weight``.
        batch: sum the counts over the batch; False: an index for each image, and the mean over the images.
        activation: what makes probabilities of the logits: "softmax", or "sigmoid" for binary and multi-label masks.
        include_background: whether class 0 enters the loss.
        weight: ``(C,)`` weight of each class in the mean, at least 0.
        ignore_index: rows, or labels for sigmoids, with this target are left out.
        reduction: "mean", "sum" over the classes (and images), or "none": the terms, ``(C,)`` or ``(N, C)`` for
            "macro", a scalar or ``(N,)`` for "micro", with 0 for absent classes.
        smooth: number s added to numerator and denominator of the index, at least 0.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used, or arguments that exclude each other; the
            message names them.

    Example:
        >>> import torch
        >>> TverskyLoss(smooth=0.0)(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
        tensor(0.5000)
    """

    def __init__(
        self, *, alpha: float = 0.5, beta: float = 0.5, gamma: float = 1.0,
        average: Average = "macro", batch: bool = True, activation: Activation = "softmax",
        include_background: bool = True, weight: Vector | None = None, ignore_index: int = -100,
        reduction: Reduction = "mean", smooth: float = 1e-5,
    ) -> None:
        super().__init__(
            alpha=alpha, beta=beta, gamma=gamma, average=average, batch=batch, activation=activation,
            include_background=include_background, weight=weight, ignore_index=ignore_index, reduction=reduction,
            smooth=smooth,
        )


@also_named(input="logits")
def focal_tversky_loss(
    logits: Tensor, target: Tensor, *, alpha: float = 0.3, beta: float = 0.7, gamma: float = 0.75,
    average: Average = "macro", batch: bool = True, activation: Activation = "softmax",
    include_background: bool = True, weight: Vector | None = None,
    sample_weight: Vector | None = None, ignore_index: int = -100, reduction: Reduction = "mean", smooth: float = 1e-5,
) -> Tensor:
    """Focal Tversky loss: `tversky_loss` in which false negatives weigh more, with γ = ¾ (the paper's 1/γ).

    Args:
        logits: ``(N, C, …)``, any floating dtype; a softmax needs at least two classes.
        target: for a softmax ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities; for
            sigmoids labels in [0, 1] of the logits' shape (``(N, …)`` for one class), or class indices (one-vs-rest).
        alpha: weight of the false positives, at least 0.
        beta: weight of the false negatives, at least 0. Abraham's code has the two the other way round.
        gamma: exponent γ of each ``1 − TI``, above 0.
        average: "macro": one index per class, and the mean over the classes that occur in the targets; "micro": one
            index of the counts summed over all classes, each times its ``weight``.
        batch: sum the counts over the batch; False: an index for each image, and the mean over the images.
        activation: what makes probabilities of the logits: "softmax", or "sigmoid" for binary and multi-label masks.
        include_background: whether class 0 enters the loss.
        weight: ``(C,)`` weight of each class in the mean, at least 0.
        sample_weight: ``(N, …)`` weight of each row (pixel), or ``(N,)`` of each image, at least 0.
        ignore_index: rows, or labels for sigmoids, with this target are left out.
        reduction: "mean", "sum" over the classes (and images), or "none": the terms, ``(C,)`` or ``(N, C)`` for
            "macro", a scalar or ``(N,)`` for "micro", with 0 for absent classes.
        smooth: number s added to numerator and denominator of the index, at least 0.

    Returns:
        A scalar, or the terms for "none"; float32, or float64 for float64 logits.

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
        average=average, batch=batch, activation=activation, include_background=include_background, weight=weight,
        sample_weight=sample_weight, ignore_index=ignore_index, reduction=reduction, smooth=smooth,
    )


class FocalTverskyLoss(OverlapLoss):
    """Focal Tversky loss as a module; see `focal_tversky_loss` for the formula.

    Args:
        alpha: weight of the false positives, at least 0.
        beta: weight of the false negatives, at least 0. Abraham's code has the two the other way round.
        gamma: exponent γ of each ``1 − TI``, above 0.
        average: "macro": one index per class, and the mean over the classes that occur in the targets; "micro": one
            index of the counts summed over all classes, each times its ``weight``.
        batch: sum the counts over the batch; False: an index for each image, and the mean over the images.
        activation: what makes probabilities of the logits: "softmax", or "sigmoid" for binary and multi-label masks.
        include_background: whether class 0 enters the loss.
        weight: ``(C,)`` weight of each class in the mean, at least 0.
        ignore_index: rows, or labels for sigmoids, with this target are left out.
        reduction: "mean", "sum" over the classes (and images), or "none": the terms, ``(C,)`` or ``(N, C)`` for
            "macro", a scalar or ``(N,)`` for "micro", with 0 for absent classes.
        smooth: number s added to numerator and denominator of the index, at least 0.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used, or arguments that exclude each other; the
            message names them.

    Example:
        >>> import torch
        >>> FocalTverskyLoss(smooth=0.0)(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
        tensor(0.5946)
    """

    def __init__(
        self, *, alpha: float = 0.3, beta: float = 0.7, gamma: float = 0.75,
        average: Average = "macro", batch: bool = True, activation: Activation = "softmax",
        include_background: bool = True, weight: Vector | None = None, ignore_index: int = -100,
        reduction: Reduction = "mean", smooth: float = 1e-5,
    ) -> None:
        super().__init__(
            alpha=alpha, beta=beta, gamma=gamma, average=average, batch=batch, activation=activation,
            include_background=include_background, weight=weight, ignore_index=ignore_index, reduction=reduction,
            smooth=smooth,
        )


def _checked_masks(target: Tensor, logits: Tensor, ignore_index: int, activation: str) -> Tensor:
    """The target as the equation of the activation takes it; a mask ``(N, …)`` of one sigmoid holds its labels."""
    if activation == "softmax":
        return checked_target(target, logits, ignore_index, 'pass activation="sigmoid"')
    check_tensor("target", target)
    if logits.shape[1] == 1 and target.shape == (logits.shape[0], *logits.shape[2:]):
        target = target.unsqueeze(1)
    return checked_multilabel_target(target, logits, ignore_index)


def _all_classes(counts: SoftCounts, weight: Tensor | None) -> SoftCounts:
    """The weighted sum of the counts over the classes; present is what has rows, with positives or without."""
    tp, fp, fn, rows = (
        (x if weight is None else x * weight).sum(-1) for x in (counts.tp, counts.fp, counts.fn, counts.rows)
    )
    return SoftCounts(tp, fp, fn, rows, rows)


def _averaged(terms: Tensor, mass: Tensor, reduction: Reduction, batch: bool) -> Tensor:
    """The terms, their sum, or their mean weighted by ``mass``; of several images the mean of the images' means."""
    if reduction != "mean" or batch:
        return reduced(terms, reduction, mass.sum() if reduction == "mean" else None)
    if terms.dim() == 2:
        terms, mass = safe_divide(terms.sum(1), mass.sum(1)), mass.sum(1)
    counted = (mass > 0).to(terms.dtype)
    return safe_divide(torch.where(counted > 0, terms, 0.0).sum(), counted.sum())


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
