"""Dice and Jaccard loss: the Tversky loss with equal weights of false positives and false negatives."""

from __future__ import annotations

from torch import Tensor

from counterpoise.kernels.overlap import Activation
from counterpoise.kernels.reduction import Reduction
from counterpoise.losses.arguments import Vector, also_named
from counterpoise.losses.overlap import Average, OverlapLoss, tversky_loss


@also_named(input="logits")
def dice_loss(
    logits: Tensor,
    target: Tensor,
    *,
    average: Average = "macro",
    batch: bool = True,
    activation: Activation = "softmax",
    include_background: bool = True,
    weight: Vector | None = None,
    sample_weight: Vector | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    smooth: float = 1e-5,
) -> Tensor:
    """Dice loss ``1 − 2 TP/(2 TP + FP + FN)``: `tversky_loss` with α = β = ½.

    Other implementations average the same terms differently. Their values are those of

    - segmentation-models-pytorch, ``DiceLoss("multiclass")``: the sum over the classes that are present, over C:
      ``dice_loss(logits, target, smooth=0.0, reduction="none").mean()``; of ``DiceLoss("binary")`` and ``"multilabel"``
      the same with ``activation="sigmoid"``;
    - kornia, ``dice_loss`` with its default ``average="micro"``, and "macro" likewise:
      ``dice_loss(…, average="micro", batch=False, smooth=0.0)``;
    - MONAI, ``DiceLoss(softmax=True, to_onehot_y=True)``: ``dice_loss(…, batch=False, smooth=5e-6)``, if each image
      has all classes: MONAI counts an absent class as almost 1.

    Args:
        logits: ``(N, C, …)``, any floating dtype; a softmax needs at least two classes.
        target: for a softmax ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities; for
            sigmoids labels in [0, 1] of the logits' shape (``(N, …)`` for one class), or class indices (one-vs-rest).
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

    Reference: Milletari et al., V-Net, 3DV 2016 (arXiv:1606.04797).

    Example:
        >>> import torch
        >>> dice_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]), smooth=0.0)
        tensor(0.5000)
    """
    return tversky_loss(
        logits,
        target,
        average=average,
        batch=batch,
        activation=activation,
        include_background=include_background,
        weight=weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
        smooth=smooth,
    )


class DiceLoss(OverlapLoss):
    """Dice loss as a module; see `dice_loss` for the formula.

    Args:
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
        >>> DiceLoss(smooth=0.0)(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
        tensor(0.5000)
    """

    def __init__(
        self,
        *,
        average: Average = "macro",
        batch: bool = True,
        activation: Activation = "softmax",
        include_background: bool = True,
        weight: Vector | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        smooth: float = 1e-5,
    ) -> None:
        super().__init__(
            average=average,
            batch=batch,
            activation=activation,
            include_background=include_background,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            smooth=smooth,
        )


@also_named(input="logits")
def jaccard_loss(
    logits: Tensor,
    target: Tensor,
    *,
    average: Average = "macro",
    batch: bool = True,
    activation: Activation = "softmax",
    include_background: bool = True,
    weight: Vector | None = None,
    sample_weight: Vector | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    smooth: float = 1e-5,
) -> Tensor:
    """Jaccard (IoU) loss ``1 − TP/(TP + FP + FN)``: `tversky_loss` with α = β = 1.

    ``JaccardLoss("multiclass")`` of segmentation-models-pytorch is the sum over the classes that are present, over C:
    ``jaccard_loss(logits, target, smooth=0.0, reduction="none").mean()``.

    Args:
        logits: ``(N, C, …)``, any floating dtype; a softmax needs at least two classes.
        target: for a softmax ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities; for
            sigmoids labels in [0, 1] of the logits' shape (``(N, …)`` for one class), or class indices (one-vs-rest).
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

    Reference: Rahman and Wang, Optimizing Intersection-Over-Union in Deep Neural Networks, ISVC 2016.

    Example:
        >>> import torch
        >>> jaccard_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]), smooth=0.0)  # ½ of 1½
        tensor(0.6667)
    """
    return tversky_loss(
        logits,
        target,
        alpha=1.0,
        beta=1.0,
        average=average,
        batch=batch,
        activation=activation,
        include_background=include_background,
        weight=weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        reduction=reduction,
        smooth=smooth,
    )


class JaccardLoss(OverlapLoss):
    """Jaccard (IoU) loss as a module; see `jaccard_loss` for the formula.

    Args:
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
        >>> JaccardLoss(smooth=0.0)(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
        tensor(0.6667)
    """

    def __init__(
        self,
        *,
        average: Average = "macro",
        batch: bool = True,
        activation: Activation = "softmax",
        include_background: bool = True,
        weight: Vector | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        smooth: float = 1e-5,
    ) -> None:
        super().__init__(
            alpha=1.0,
            beta=1.0,
            average=average,
            batch=batch,
            activation=activation,
            include_background=include_background,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            smooth=smooth,
        )
