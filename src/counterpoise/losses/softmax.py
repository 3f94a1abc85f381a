"""The general softmax loss, and the losses that set only its focusing and polynomial terms."""

from __future__ import annotations

from torch import Tensor

from counterpoise.kernels.dispatch import Impl, softmax_equation
from counterpoise.kernels.reduction import Reduction
from counterpoise.kernels.reference import SoftmaxParameters
from counterpoise.losses import presets
from counterpoise.losses.arguments import (
    SOFTMAX,
    Vector,
    also_named,
    check_choices,
    checked_inplace,
    checked_normalizer,
    parameters_for,
)
from counterpoise.losses.base import Loss
from counterpoise.losses.targets import (
    check_unmasked,
    checked_logits,
    checked_row_vector,
    checked_target,
    warn_if_no_weight,
    with_batch_dimension,
)


@also_named(input="logits")
def softmax_loss(
    logits: Tensor, target: Tensor, weight: Vector | None = None, *, sample_weight: Vector | None = None,
    offset: Vector | None = None, class_scale: Vector | None = None, scale: float = 1.0,
    margin: float | Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
    label_smoothing: float | Vector = 0.0, ignore_index: int = -100, reduction: Reduction = "mean",
    normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """General softmax loss; the other softmax losses are special cases.

    ``z' = s · a_c · (z_c − m_c t_c) + b_c``, ``p = softmax(z')``, and for each row
    ``u · Σ_c w_c q_c [(1 − p_c)^γ (−log p_c) + κ (1 − p_c)^(γ+1)]``, where q is the smoothed target.

    Args:
        logits: ``(N, C)``, ``(N, C, …)`` or ``(C,)``, any floating dtype; −inf masks a class of a row.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        weight: ``(C,)`` weight w of each class, at least 0.
        sample_weight: ``(N, …)`` weight u of each row (image or pixel), or ``(N,)`` of each image, at least 0.
        offset: ``(C,)`` b, added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor a of each logit, above 0.
        scale: factor s of all logits, above 0.
        margin: m, subtracted from the target's logit before scaling; a number or ``(C,)``.
        gamma: focusing parameter γ, at least 0: rows that are already right count less; a number or ``(C,)``.
        poly: coefficient κ of the first polynomial term.
        label_smoothing: share ε of the target spread over the classes, in [0, 1]; a number or ``(C,)``.
        ignore_index: rows with this target are left out, also where it is the index of a class.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows, so over the pixels of
            dense targets as well, where `torch.nn.KLDivLoss` divides by N), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton". "auto" takes the Triton kernels only where a measurement
            shows that they are faster; nothing has been measured yet, so it is the closed form on every device.
        inplace: reuse the memory of the logits for the gradient; their values are lost, so that nothing else may use
            them. It has no effect where the reference runs and inside `torch.compile`.

    Returns:
        A scalar, or ``(N, …)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> softmax_loss(logits, torch.tensor([0, 2]), weight=[1.0, 1.0, 3.0], gamma=2.0)
        tensor(0.7253)
    """
    check_choices(SOFTMAX, reduction, impl)
    unbatched, logits, target = with_batch_dimension(logits, target)
    target = checked_target(target, checked_logits(logits), ignore_index)
    parameters = SoftmaxParameters(**parameters_for(logits, SOFTMAX, {
        "weight": weight, "offset": offset, "class_scale": class_scale, "scale": scale, "margin": margin,
        "gamma": gamma, "poly": poly, "label_smoothing": label_smoothing,
    }))
    check_unmasked(target, ignore_index, logits, parameters.offset)
    u = checked_row_vector(sample_weight, logits)
    normalizer = checked_normalizer(normalizer, reduction, logits.device)
    if reduction == "mean" and normalizer is None:
        warn_if_no_weight(target, ignore_index, parameters.weight, u)
    loss = softmax_equation(
        logits, target, parameters, sample_weight=u, ignore_index=ignore_index, reduction=reduction,
        denominator=normalizer, impl=impl, inplace=checked_inplace(inplace, logits, impl),
    )
    return loss.squeeze(0) if unbatched and reduction == "none" else loss


class SoftmaxLoss(Loss):
    """General softmax loss as a module; see `softmax_loss` for the formula.

    Args:
        weight: ``(C,)`` weight w of each class, at least 0.
        offset: ``(C,)`` b, added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor a of each logit, above 0.
        scale: factor s of all logits, above 0.
        margin: m, subtracted from the target's logit before scaling; a number or ``(C,)``.
        gamma: focusing parameter γ, at least 0: rows that are already right count less; a number or ``(C,)``.
        poly: coefficient κ of the first polynomial term.
        label_smoothing: share ε of the target spread over the classes, in [0, 1]; a number or ``(C,)``.
        ignore_index: rows with this target are left out, also where it is the index of a class.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> SoftmaxLoss(gamma=1.0)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.3466)
    """

    def __init__(
        self, weight: Vector | None = None, *, offset: Vector | None = None, class_scale: Vector | None = None,
        scale: float = 1.0, margin: float | Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
        label_smoothing: float | Vector = 0.0, ignore_index: int = -100, reduction: Reduction = "mean",
        normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        super().__init__(softmax_loss, SOFTMAX, {
            "weight": weight, "offset": offset, "class_scale": class_scale, "scale": scale, "margin": margin,
            "gamma": gamma, "poly": poly, "label_smoothing": label_smoothing, "ignore_index": ignore_index,
            "reduction": reduction, "normalizer": normalizer, "impl": impl, "inplace": inplace,
        })


@also_named(input="logits")
def cross_entropy(
    logits: Tensor, target: Tensor, weight: Vector | None = None, *, sample_weight: Vector | None = None,
    offset: Vector | None = None, class_scale: Vector | None = None, scale: float = 1.0,
    margin: float | Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
    label_smoothing: float | Vector = 0.0, ignore_index: int = -100, reduction: Reduction = "mean",
    normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """Cross-entropy ``−w_y log p_y``, with class weights or without.

    The arguments from ``offset`` to ``label_smoothing`` add the terms of `softmax_loss`; with ``gamma`` above 0 this is
    `focal_loss`. timm's ``LabelSmoothingCrossEntropy()`` is ``cross_entropy(logits, target, label_smoothing=0.1)``. Its
    ``SoftTargetCrossEntropy()``, and torch for weighted probabilities, divide by the number of rows:
    ``cross_entropy(logits, target, reduction="batchmean")``.

    Args:
        logits: ``(N, C)``, ``(N, C, …)`` or ``(C,)``, any floating dtype; −inf masks a class of a row.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        weight: ``(C,)`` weight of each class, at least 0.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
        scale: factor of all logits, above 0.
        margin: subtracted from the target's logit before scaling; a number or ``(C,)``.
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        poly: coefficient κ of the first polynomial term.
        label_smoothing: share ε of the target spread over the classes, in [0, 1]; a number or ``(C,)``.
        ignore_index: rows with this target are left out.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Returns:
        A scalar, or ``(N, …)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3]))  # log 4
        tensor(1.3863)
    """
    return softmax_loss(
        logits, target,
        weight=weight, sample_weight=sample_weight, offset=offset, class_scale=class_scale, scale=scale, margin=margin,
        gamma=gamma, poly=poly, label_smoothing=label_smoothing, ignore_index=ignore_index, reduction=reduction,
        normalizer=normalizer, impl=impl, inplace=inplace,
    )


class CrossEntropyLoss(Loss):
    """Cross-entropy ``−w_y log p_y`` as a module; see `cross_entropy` for the arguments of other losses.

    Args:
        weight: ``(C,)`` weight of each class, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
        scale: factor of all logits, above 0.
        margin: subtracted from the target's logit before scaling; a number or ``(C,)``.
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        poly: coefficient κ of the first polynomial term.
        label_smoothing: share ε of the target spread over the classes, in [0, 1]; a number or ``(C,)``.
        ignore_index: rows with this target are left out.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> CrossEntropyLoss(weight=[1.0, 3.0])(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)
    """

    def __init__(
        self, weight: Vector | None = None, *, offset: Vector | None = None, class_scale: Vector | None = None,
        scale: float = 1.0, margin: float | Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
        label_smoothing: float | Vector = 0.0, ignore_index: int = -100, reduction: Reduction = "mean",
        normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        super().__init__(softmax_loss, SOFTMAX, {
            "weight": weight, "offset": offset, "class_scale": class_scale, "scale": scale, "margin": margin,
            "gamma": gamma, "poly": poly, "label_smoothing": label_smoothing, "ignore_index": ignore_index,
            "reduction": reduction, "normalizer": normalizer, "impl": impl, "inplace": inplace,
        })


@also_named(input="logits")
def focal_loss(
    logits: Tensor, target: Tensor, alpha: Vector | None = None, gamma: float | Vector = 2.0,
    reduction: Reduction = "mean", *,
    weight: Vector | None = None, sample_weight: Vector | None = None, offset: Vector | None = None,
    class_scale: Vector | None = None, scale: float = 1.0, margin: float | Vector | None = None, poly: float = 0.0,
    label_smoothing: float | Vector = 0.0, ignore_index: int = -100,
    normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """Focal loss on a softmax, ``−w_y (1 − p_y)^γ log p_y``: well-classified rows count less.

    The positional order ``alpha, gamma, reduction`` is that of torchvision and kornia. kornia's default is
    ``reduction="none"``, and its "mean" divides by the number of logits: ``focal_loss(…, normalizer=logits.numel())``.

    Args:
        logits: ``(N, C)``, ``(N, C, …)`` or ``(C,)``, any floating dtype; −inf masks a class of a row.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        alpha: ``(C,)`` class weights under the paper's name; one number would only rescale the loss and is refused.
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        weight: ``(C,)`` weight of each class, at least 0; multiplied with ``alpha``, and not part of p.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
        scale: factor of all logits, above 0.
        margin: subtracted from the target's logit before scaling; a number or ``(C,)``.
        poly: coefficient κ of the first polynomial term.
        label_smoothing: share ε of the target spread over the classes, in [0, 1]; a number or ``(C,)``.
        ignore_index: rows with this target are left out.
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Returns:
        A scalar, or ``(N, …)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Reference: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017 (arXiv:1708.02002).

    Example:
        >>> import torch
        >>> focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=1.0)  # ½ · log 2
        tensor(0.3466)
    """
    own = presets.focal(gamma=gamma, alpha=alpha)
    presets.check_alpha(alpha, logits)
    return softmax_loss(
        logits, target, **presets.combined(own, {"weight": weight, "offset": offset}),
        sample_weight=sample_weight, class_scale=class_scale, scale=scale, margin=margin, poly=poly,
        label_smoothing=label_smoothing, ignore_index=ignore_index, reduction=reduction, normalizer=normalizer,
        impl=impl, inplace=inplace,
    )


class FocalLoss(Loss):
    """Focal loss on a softmax as a module; see `focal_loss` for the formula.

    Args:
        alpha: ``(C,)`` class weights under the paper's name; one number would only rescale the loss and is refused.
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        weight: ``(C,)`` weight of each class, at least 0; multiplied with ``alpha``, and not part of p.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
        scale: factor of all logits, above 0.
        margin: subtracted from the target's logit before scaling; a number or ``(C,)``.
        poly: coefficient κ of the first polynomial term.
        label_smoothing: share ε of the target spread over the classes, in [0, 1]; a number or ``(C,)``.
        ignore_index: rows with this target are left out.
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> FocalLoss(gamma=1.0)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.3466)
    """

    def __init__(
        self, alpha: Vector | None = None, gamma: float | Vector = 2.0, reduction: Reduction = "mean", *,
        weight: Vector | None = None, offset: Vector | None = None, class_scale: Vector | None = None,
        scale: float = 1.0, margin: float | Vector | None = None, poly: float = 0.0,
        label_smoothing: float | Vector = 0.0, ignore_index: int = -100,
        normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        own = presets.focal(gamma=gamma, alpha=alpha)
        super().__init__(softmax_loss, SOFTMAX, {
            **presets.combined(own, {"weight": weight, "offset": offset}), "class_scale": class_scale, "scale": scale,
            "margin": margin, "poly": poly, "label_smoothing": label_smoothing, "ignore_index": ignore_index,
            "reduction": reduction, "normalizer": normalizer, "impl": impl, "inplace": inplace,
        })


@also_named(input="logits")
def poly_loss(
    logits: Tensor, target: Tensor, epsilon: float = 1.0, *,
    weight: Vector | None = None, sample_weight: Vector | None = None, offset: Vector | None = None,
    class_scale: Vector | None = None, scale: float = 1.0, margin: float | Vector | None = None,
    gamma: float | Vector = 0.0, label_smoothing: float | Vector = 0.0, ignore_index: int = -100,
    reduction: Reduction = "mean", normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """Poly-1 loss: cross-entropy ``+ ε (1 − p_y)``; with ``gamma`` focal loss ``+ ε (1 − p_y)^(γ+1)``.

    Args:
        logits: ``(N, C)``, ``(N, C, …)`` or ``(C,)``, any floating dtype; −inf masks a class of a row.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        epsilon: coefficient ε of the first polynomial term.
        weight: ``(C,)`` weight of each class, at least 0.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
        scale: factor of all logits, above 0.
        margin: subtracted from the target's logit before scaling; a number or ``(C,)``.
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        label_smoothing: share ε of the target spread over the classes, in [0, 1]; a number or ``(C,)``.
        ignore_index: rows with this target are left out.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Returns:
        A scalar, or ``(N, …)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Reference: Leng et al., PolyLoss, ICLR 2022 (arXiv:2204.12511).

    Example:
        >>> import torch
        >>> poly_loss(torch.zeros(1, 2), torch.tensor([0]))  # log 2 + ½
        tensor(1.1931)
    """
    return softmax_loss(
        logits, target, **presets.poly(epsilon=epsilon),
        weight=weight, sample_weight=sample_weight, offset=offset, class_scale=class_scale, scale=scale, margin=margin,
        gamma=gamma, label_smoothing=label_smoothing, ignore_index=ignore_index, reduction=reduction,
        normalizer=normalizer, impl=impl, inplace=inplace,
    )


class PolyLoss(Loss):
    """Poly-1 loss as a module; see `poly_loss` for the formula.

    Args:
        epsilon: coefficient ε of the first polynomial term.
        weight: ``(C,)`` weight of each class, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
        scale: factor of all logits, above 0.
        margin: subtracted from the target's logit before scaling; a number or ``(C,)``.
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        label_smoothing: share ε of the target spread over the classes, in [0, 1]; a number or ``(C,)``.
        ignore_index: rows with this target are left out.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> PolyLoss()(torch.zeros(1, 2), torch.tensor([0]))
        tensor(1.1931)
    """

    poly: float

    def __init__(
        self, epsilon: float = 1.0, *,
        weight: Vector | None = None, offset: Vector | None = None, class_scale: Vector | None = None,
        scale: float = 1.0, margin: float | Vector | None = None, gamma: float | Vector = 0.0,
        label_smoothing: float | Vector = 0.0, ignore_index: int = -100, reduction: Reduction = "mean",
        normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        super().__init__(softmax_loss, SOFTMAX, {
            **presets.poly(epsilon=epsilon), "weight": weight, "offset": offset, "class_scale": class_scale,
            "scale": scale, "margin": margin, "gamma": gamma, "label_smoothing": label_smoothing,
            "ignore_index": ignore_index, "reduction": reduction, "normalizer": normalizer, "impl": impl,
            "inplace": inplace,
        })

    @property
    def epsilon(self) -> float:
        """The coefficient of the first polynomial term, which the equation calls ``poly``."""
        return self.poly

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        self.poly = value
