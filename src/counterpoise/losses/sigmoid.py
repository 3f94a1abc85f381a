"""The general sigmoid loss and its special cases, for multi-label and one-vs-rest targets."""

from __future__ import annotations

from torch import Tensor

from counterpoise.kernels.dispatch import Impl, sigmoid_denominator, sigmoid_equation
from counterpoise.kernels.reduction import Batch, Reduction, reduced
from counterpoise.kernels.reference import SigmoidParameters
from counterpoise.losses import presets
from counterpoise.losses.arguments import (
    SIGMOID,
    Vector,
    also_named,
    check_choices,
    checked_inplace,
    checked_normalizer,
    parameters_for,
)
from counterpoise.losses.base import Loss
from counterpoise.losses.targets import (
    checked_logits,
    checked_multilabel_target,
    checked_row_vector,
    element_weight,
    with_class_dimension,
)


@also_named(input="logits")
def sigmoid_loss(
    logits: Tensor, target: Tensor, weight: Vector | None = None, *, sample_weight: Vector | None = None,
    pos_weight: float | Vector | None = None, neg_weight: float | Vector | None = None, gamma_pos: float = 0.0,
    gamma_neg: float = 0.0, clip: float | None = 0.0, detach_focus: bool = False, ignore_index: int = -100,
    reduction: Reduction = "mean", normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """General sigmoid loss; the other sigmoid losses are special cases.

    With ``p = σ(z)`` and ``p_m = max(p − m, 0)`` the loss of a row is
    ``u · Σ_c w_c [α⁺ t_c (1 − p)^γ⁺ (−log p) + α⁻ (1 − t_c) p_m^γ⁻ (−log(1 − p_m))]``.

    Args:
        logits: ``(N, C)`` or ``(N, C, …)``, any floating dtype; ``(N,)`` and ``()`` are one class.
        target: labels in [0, 1] of the logits' shape, any dtype, or ``(N, …)`` class indices (one-vs-rest).
        weight: ``(C,)`` weight of each class, positives and negatives alike, at least 0; or of each element, in another
            shape that broadcasts to the logits.
        sample_weight: ``(N, …)`` weight of each row (image or pixel), or ``(N,)`` of each image, at least 0.
        pos_weight: weight α⁺ of the positives, at least 0; a number or ``(C,)``.
        neg_weight: weight α⁻ of the negatives, at least 0; a number or ``(C,)``.
        gamma_pos: focusing parameter γ⁺ of the positives, at least 0.
        gamma_neg: focusing parameter γ⁻ of the negatives, at least 0.
        clip: probability margin m, in [0, 1), or None for 0: negatives with p below it have loss 0.
        detach_focus: treat the modulating factor as a constant in the gradient.
        ignore_index: labels, or rows of class indices, with this value are left out.
        reduction: "mean" (over the elements), "batchmean" (over the rows, so over the pixels of dense targets as well,
            where `torch.nn.KLDivLoss` divides by N), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton". "auto" takes the Triton kernels only where a measurement
            shows that they are faster; nothing has been measured yet, so it is the closed form on every device.
        inplace: reuse the memory of the logits for the gradient; their values are lost, so that nothing else may use
            them. It has no effect where the reference runs and inside `torch.compile`.

    Returns:
        A scalar, or the logits' shape for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> sigmoid_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), pos_weight=3.0)  # (3 + 1)/2 · log 2
        tensor(1.3863)
    """
    check_choices(SIGMOID, reduction, impl)
    shape, logits, target = with_class_dimension(logits, target, weight, pos_weight, neg_weight)
    logits = checked_logits(logits)
    each = element_weight(weight, logits)
    target = checked_multilabel_target(target, logits, ignore_index)
    parameters = SigmoidParameters(**parameters_for(logits, SIGMOID, {
        "weight": weight if each is None else None, "pos_weight": 1.0 if pos_weight is None else pos_weight,
        "neg_weight": 1.0 if neg_weight is None else neg_weight, "gamma_pos": gamma_pos, "gamma_neg": gamma_neg,
        "clip": clip, "detach_focus": detach_focus,
    }))
    below = checked_normalizer(normalizer, reduction, logits.device)
    u = checked_row_vector(sample_weight, logits)
    loss = sigmoid_equation(
        logits, target, parameters, sample_weight=u, ignore_index=ignore_index,
        reduction=reduction if each is None else "none", denominator=below if each is None else None, impl=impl,
        inplace=checked_inplace(inplace, logits, impl),
    )
    if each is not None:
        if below is None and reduction in ("mean", "batchmean"):
            below = sigmoid_denominator(logits, parameters, Batch(target, u, ignore_index, reduction))
        loss = reduced(loss * each, reduction, below)
    return loss.reshape(shape) if reduction == "none" else loss


class SigmoidLoss(Loss):
    """General sigmoid loss as a module; see `sigmoid_loss` for the formula.

    Args:
        weight: ``(C,)`` weight of each class, positives and negatives alike, at least 0; or of each element, in another
            shape that broadcasts to the logits.
        pos_weight: weight α⁺ of the positives, at least 0; a number or ``(C,)``.
        neg_weight: weight α⁻ of the negatives, at least 0; a number or ``(C,)``.
        gamma_pos: focusing parameter γ⁺ of the positives, at least 0.
        gamma_neg: focusing parameter γ⁻ of the negatives, at least 0.
        clip: probability margin m, in [0, 1), or None for 0: negatives with p below it have loss 0.
        detach_focus: treat the modulating factor as a constant in the gradient.
        ignore_index: labels, or rows of class indices, with this value are left out.
        reduction: "mean" (over the elements), "batchmean" (over the rows, so over the pixels of dense targets as well,
            where `torch.nn.KLDivLoss` divides by N), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost, so that nothing else may use
            them. It has no effect where the reference runs and inside `torch.compile`.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> SigmoidLoss(pos_weight=3.0)(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        tensor(1.3863)
    """

    def __init__(
        self, weight: Vector | None = None, *, pos_weight: float | Vector | None = None,
        neg_weight: float | Vector | None = None, gamma_pos: float = 0.0, gamma_neg: float = 0.0,
        clip: float | None = 0.0, detach_focus: bool = False, ignore_index: int = -100,
        reduction: Reduction = "mean", normalizer: float | Tensor | None = None, impl: Impl = "auto",
        inplace: bool = False,
    ) -> None:
        super().__init__(sigmoid_loss, SIGMOID, {
            "weight": weight, "pos_weight": pos_weight, "neg_weight": neg_weight, "gamma_pos": gamma_pos,
            "gamma_neg": gamma_neg, "clip": clip, "detach_focus": detach_focus, "ignore_index": ignore_index,
            "reduction": reduction, "normalizer": normalizer, "impl": impl, "inplace": inplace,
        })


@also_named(input="logits")
def binary_cross_entropy(
    logits: Tensor, target: Tensor, weight: Vector | None = None, *, sample_weight: Vector | None = None,
    pos_weight: float | Vector | None = None, neg_weight: float | Vector | None = None, gamma_pos: float = 0.0,
    gamma_neg: float = 0.0, clip: float | None = 0.0, detach_focus: bool = False, ignore_index: int = -100,
    reduction: Reduction = "mean", normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """Binary cross-entropy with logits, with weights or without.

    The arguments from ``gamma_pos`` to ``detach_focus`` add the terms of `sigmoid_loss`; with ``gamma_pos`` or
    ``gamma_neg`` above 0 this is focal loss (`sigmoid_focal_loss`, `asymmetric_loss`). The "mean" is that of torch and
    timm; timm's ``BinaryCrossEntropy(sum_classes=True)`` is ``binary_cross_entropy(…, reduction="batchmean")``.

    Args:
        logits: ``(N, C)`` or ``(N, C, …)``, any floating dtype; ``(N,)`` and ``()`` are one class.
        target: labels in [0, 1] of the logits' shape, any dtype, or ``(N, …)`` class indices (one-vs-rest).
        weight: ``(C,)`` weight of each class, positives and negatives alike, at least 0; or of each element, in another
            shape that broadcasts to the logits.
        sample_weight: ``(N, …)`` weight of each row (image or pixel), or ``(N,)`` of each image, at least 0.
        pos_weight: weight α⁺ of the positives, at least 0; a number or ``(C,)``.
        neg_weight: weight α⁻ of the negatives, at least 0; a number or ``(C,)``.
        gamma_pos: focusing parameter γ⁺ of the positives, at least 0.
        gamma_neg: focusing parameter γ⁻ of the negatives, at least 0.
        clip: probability margin m, in [0, 1), or None for 0: negatives with p below it have loss 0.
        detach_focus: treat the modulating factor as a constant in the gradient.
        ignore_index: labels, or rows of class indices, with this value are left out.
        reduction: "mean" (over the elements), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Returns:
        A scalar, or the logits' shape for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))  # log 2
        tensor(0.6931)
    """
    return sigmoid_loss(
        logits, target,
        weight=weight, sample_weight=sample_weight, pos_weight=pos_weight, neg_weight=neg_weight, gamma_pos=gamma_pos,
        gamma_neg=gamma_neg, clip=clip, detach_focus=detach_focus, ignore_index=ignore_index, reduction=reduction,
        normalizer=normalizer, impl=impl, inplace=inplace,
    )


class BinaryCrossEntropyLoss(Loss):
    """Binary cross-entropy with logits as a module; see `binary_cross_entropy` for the arguments of other losses.

    Args:
        weight: ``(C,)`` weight of each class, positives and negatives alike, at least 0; or of each element, in another
            shape that broadcasts to the logits.
        pos_weight: weight α⁺ of the positives, at least 0; a number or ``(C,)``.
        neg_weight: weight α⁻ of the negatives, at least 0; a number or ``(C,)``.
        gamma_pos: focusing parameter γ⁺ of the positives, at least 0.
        gamma_neg: focusing parameter γ⁻ of the negatives, at least 0.
        clip: probability margin m, in [0, 1), or None for 0: negatives with p below it have loss 0.
        detach_focus: treat the modulating factor as a constant in the gradient.
        ignore_index: labels, or rows of class indices, with this value are left out.
        reduction: "mean" (over the elements), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> BinaryCrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        tensor(0.6931)
    """

    def __init__(
        self, weight: Vector | None = None, *, pos_weight: float | Vector | None = None,
        neg_weight: float | Vector | None = None, gamma_pos: float = 0.0, gamma_neg: float = 0.0,
        clip: float | None = 0.0, detach_focus: bool = False, ignore_index: int = -100,
        reduction: Reduction = "mean", normalizer: float | Tensor | None = None, impl: Impl = "auto",
        inplace: bool = False,
    ) -> None:
        super().__init__(sigmoid_loss, SIGMOID, {
            "weight": weight, "pos_weight": pos_weight, "neg_weight": neg_weight, "gamma_pos": gamma_pos,
            "gamma_neg": gamma_neg, "clip": clip, "detach_focus": detach_focus, "ignore_index": ignore_index,
            "reduction": reduction, "normalizer": normalizer, "impl": impl, "inplace": inplace,
        })


@also_named(input="logits", inputs="logits", targets="target")
def sigmoid_focal_loss(
    logits: Tensor, target: Tensor, alpha: float | None = 0.25, gamma: float = 2.0, reduction: Reduction = "mean", *,
    weight: Vector | None = None, sample_weight: Vector | None = None, pos_weight: float | Vector | None = None,
    neg_weight: float | Vector | None = None, ignore_index: int = -100,
    normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """Focal loss on sigmoids: ``α (1−p)^γ (−log p)`` for positives, ``(1−α) p^γ (−log(1−p))`` for negatives.

    The positional order ``alpha, gamma, reduction`` is that of torchvision. Its default, and kornia's, is
    ``reduction="none"``; their "mean" is over the elements, as here and in segmentation-models-pytorch. RetinaNet
    divides by the number of positives: ``sigmoid_focal_loss(…, normalizer=target.sum().clamp(min=1))``.

    Args:
        logits: ``(N, C)`` or ``(N, C, …)``, any floating dtype; ``(N,)`` and ``()`` are one class.
        target: labels in [0, 1] of the logits' shape, any dtype, or ``(N, …)`` class indices (one-vs-rest).
        alpha: weight α of the positives, in [0, 1], or None for no weight; the paper lowers it as γ rises.
        gamma: focusing parameter γ, at least 0.
        reduction: "mean" (over the elements), "batchmean" (over the rows), "sum" or "none".
        weight: ``(C,)`` weight of each class, positives and negatives alike, at least 0; or of each element, in another
            shape that broadcasts to the logits.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        pos_weight: weight of the positives, at least 0; a number or ``(C,)``; multiplied with α.
        neg_weight: weight of the negatives, at least 0; a number or ``(C,)``; multiplied with 1 − α.
        ignore_index: labels, or rows of class indices, with this value are left out.
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Returns:
        A scalar, or the logits' shape for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Reference: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017 (arXiv:1708.02002).

    Example:
        >>> import torch
        >>> sigmoid_focal_loss(torch.zeros(1, 1), torch.tensor([[1.0]]))  # ¼ · ¼ · log 2
        tensor(0.0433)
    """
    own = presets.sigmoid_focal(alpha=alpha, gamma=gamma)
    return sigmoid_loss(
        logits, target, **presets.combined_sigmoid(own, {"pos_weight": pos_weight, "neg_weight": neg_weight}),
        weight=weight, sample_weight=sample_weight, ignore_index=ignore_index, reduction=reduction,
        normalizer=normalizer, impl=impl, inplace=inplace,
    )


class SigmoidFocalLoss(Loss):
    """Focal loss on sigmoids as a module; see `sigmoid_focal_loss` for the formula.

    Args:
        alpha: weight α of the positives, in [0, 1], or None for no weight; the paper lowers it as γ rises.
        gamma: focusing parameter γ, at least 0.
        reduction: "mean" (over the elements), "batchmean" (over the rows), "sum" or "none".
        weight: ``(C,)`` weight of each class, positives and negatives alike, at least 0; or of each element, in another
            shape that broadcasts to the logits.
        pos_weight: weight of the positives, at least 0; a number or ``(C,)``; multiplied with α.
        neg_weight: weight of the negatives, at least 0; a number or ``(C,)``; multiplied with 1 − α.
        ignore_index: labels, or rows of class indices, with this value are left out.
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> SigmoidFocalLoss()(torch.zeros(1, 1), torch.tensor([[1.0]]))
        tensor(0.0433)
    """

    gamma_pos: float
    gamma_neg: float

    def __init__(
        self, alpha: float | None = 0.25, gamma: float = 2.0, reduction: Reduction = "mean", *,
        weight: Vector | None = None, pos_weight: float | Vector | None = None,
        neg_weight: float | Vector | None = None, ignore_index: int = -100,
        normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        own = presets.sigmoid_focal(alpha=alpha, gamma=gamma)
        super().__init__(sigmoid_loss, SIGMOID, {
            **presets.combined_sigmoid(own, {"pos_weight": pos_weight, "neg_weight": neg_weight}), "weight": weight,
            "ignore_index": ignore_index, "reduction": reduction, "normalizer": normalizer, "impl": impl,
            "inplace": inplace,
        })

    @property
    def gamma(self) -> float:
        """The focusing parameter of positives and negatives."""
        return self.gamma_pos

    @gamma.setter
    def gamma(self, value: float) -> None:
        self.gamma_pos = self.gamma_neg = value


@also_named(input="logits")
def asymmetric_loss(
    logits: Tensor, target: Tensor, gamma_neg: float = 4.0, gamma_pos: float = 1.0, clip: float | None = 0.05, *,
    detach_focus: bool = True,
    weight: Vector | None = None, sample_weight: Vector | None = None, pos_weight: float | Vector | None = None,
    neg_weight: float | Vector | None = None, ignore_index: int = -100, reduction: Reduction = "mean",
    normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """Asymmetric loss: negatives are focused more than positives, and those with p below ``clip`` have loss 0.

    The positional order ``gamma_neg, gamma_pos, clip`` is that of the authors and of timm.
    "mean" divides by N·C, and timm's default by N: ``asymmetric_loss(…, reduction="batchmean", detach_focus=False)``.
    The paper and the authors' code sum over both: ``asymmetric_loss(…, reduction="sum")``.

    Args:
        logits: ``(N, C)`` or ``(N, C, …)``, any floating dtype; ``(N,)`` and ``()`` are one class.
        target: labels in [0, 1] of the logits' shape, any dtype, or ``(N, …)`` class indices (one-vs-rest).
        gamma_neg: focusing parameter γ⁻ of the negatives, at least 0.
        gamma_pos: focusing parameter γ⁺ of the positives, at least 0.
        clip: probability margin m, in [0, 1), or None for 0: negatives with p below it have loss 0.
        detach_focus: treat the modulating factor as a constant in the gradient.
        weight: ``(C,)`` weight of each class, positives and negatives alike, at least 0; or of each element, in another
            shape that broadcasts to the logits.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        pos_weight: weight α⁺ of the positives, at least 0; a number or ``(C,)``.
        neg_weight: weight α⁻ of the negatives, at least 0; a number or ``(C,)``.
        ignore_index: labels, or rows of class indices, with this value are left out.
        reduction: "mean" (over the elements), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Returns:
        A scalar, or the logits' shape for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Reference: Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021 (arXiv:2009.14119).

    Example:
        >>> import torch
        >>> asymmetric_loss(torch.zeros(1, 1), torch.tensor([[1.0]]))  # ½ · log 2
        tensor(0.3466)
    """
    return sigmoid_loss(
        logits, target, gamma_neg=gamma_neg, gamma_pos=gamma_pos, clip=clip, detach_focus=detach_focus,
        weight=weight, sample_weight=sample_weight, pos_weight=pos_weight, neg_weight=neg_weight,
        ignore_index=ignore_index, reduction=reduction, normalizer=normalizer, impl=impl, inplace=inplace,
    )


class AsymmetricLoss(Loss):
    """Asymmetric loss as a module; see `asymmetric_loss` for the formula.

    Args:
        gamma_neg: focusing parameter γ⁻ of the negatives, at least 0.
        gamma_pos: focusing parameter γ⁺ of the positives, at least 0.
        clip: probability margin m, in [0, 1), or None for 0: negatives with p below it have loss 0.
        detach_focus: treat the modulating factor as a constant in the gradient.
        weight: ``(C,)`` weight of each class, positives and negatives alike, at least 0; or of each element, in another
            shape that broadcasts to the logits.
        pos_weight: weight α⁺ of the positives, at least 0; a number or ``(C,)``.
        neg_weight: weight α⁻ of the negatives, at least 0; a number or ``(C,)``.
        ignore_index: labels, or rows of class indices, with this value are left out.
        reduction: "mean" (over the elements), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> AsymmetricLoss()(torch.zeros(1, 1), torch.tensor([[1.0]]))
        tensor(0.3466)
    """

    def __init__(
        self, gamma_neg: float = 4.0, gamma_pos: float = 1.0, clip: float | None = 0.05, *, detach_focus: bool = True,
        weight: Vector | None = None, pos_weight: float | Vector | None = None,
        neg_weight: float | Vector | None = None, ignore_index: int = -100, reduction: Reduction = "mean",
        normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        super().__init__(sigmoid_loss, SIGMOID, {
            "gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "clip": clip, "detach_focus": detach_focus,
            "weight": weight, "pos_weight": pos_weight, "neg_weight": neg_weight, "ignore_index": ignore_index,
            "reduction": reduction, "normalizer": normalizer, "impl": impl, "inplace": inplace,
        })
