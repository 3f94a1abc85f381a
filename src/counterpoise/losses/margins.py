"""Softmax losses with a margin (LDAM) or a label smoothing (MiSLAS) per class, derived from the class counts."""

from __future__ import annotations

from torch import Tensor

from counterpoise.kernels.dispatch import Impl
from counterpoise.kernels.reduction import Reduction
from counterpoise.losses import presets
from counterpoise.losses.arguments import SOFTMAX, Vector, also_named
from counterpoise.losses.base import Loss
from counterpoise.losses.softmax import softmax_loss


@also_named(input="logits")
def ldam_loss(
    logits: Tensor, target: Tensor, *, class_counts: presets.Counts, max_margin: float = 0.5, scale: float = 30.0,
    empty: presets.Empty = "error",
    weight: Vector | None = None, sample_weight: Vector | None = None, offset: Vector | None = None,
    class_scale: Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
    label_smoothing: float | Vector = 0.0, ignore_index: int = -100, reduction: Reduction = "mean",
    normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """LDAM: label-distribution-aware margins ``m_c = max_m (n_min/n_c)^¼`` subtracted from the target's logit.

    The loss is the cross-entropy of ``s (z_c − m_c t_c)``. The logits must be cosines, as
    `counterpoise.models.CosineHead` gives: on unnormalised logits a scale of 30 diverges.

    Args:
        logits: ``(N, C)``, ``(N, C, …)`` or ``(C,)`` cosines in [−1, 1], any floating dtype; −inf masks a class.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        max_margin: margin of the rarest class, at least 0.
        scale: factor s of the cosines, above 0.
        empty: "error" refuses classes without images; "exclude" masks them.
        weight: ``(C,)`` weight of each class, at least 0.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
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

    Reference: Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019
    (arXiv:1906.07413).

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.5, 0.0]])  # the margin of class 0 is ½ · (10/160)^¼ = ¼
        >>> ldam_loss(logits, torch.tensor([0]), class_counts=[160, 10], scale=4.0)  # log(1 + e^(−4·(½ − ¼)))
        tensor(0.3133)
    """
    own = presets.ldam(class_counts=class_counts, max_margin=max_margin, scale=scale, empty=empty)
    return softmax_loss(
        logits, target, **presets.combined(own, {"weight": weight, "offset": offset}),
        sample_weight=sample_weight, class_scale=class_scale, gamma=gamma, poly=poly, label_smoothing=label_smoothing,
        ignore_index=ignore_index, reduction=reduction, normalizer=normalizer, impl=impl, inplace=inplace,
    )


class LDAMLoss(Loss):
    """LDAM loss as a module; the logits must be cosines, see `ldam_loss`.

    With float16 logits use `torch.amp.GradScaler`. The loss multiplies the cosines by ``scale`` in float32, so that
    its value does not overflow. Its gradient is at most ``scale`` times the weight of the row over the denominator,
    30/N for a mean of N rows, and much of it is below the range of float16 (6e-8) unless it is scaled. The scaler
    starts at 65536, with which 30/N overflows for up to 30 rows: it then skips the step and halves its scale until it
    fits, or starts lower with ``init_scale=1024``.

    Args:
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        max_margin: margin of the rarest class, at least 0.
        scale: factor s of the cosines, above 0.
        empty: "error" refuses classes without images; "exclude" masks them.
        weight: ``(C,)`` weight of each class, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
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
        >>> LDAMLoss(class_counts=[160, 10], scale=4.0)(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))
        tensor(0.3133)
    """

    def __init__(
        self, *, class_counts: presets.Counts, max_margin: float = 0.5, scale: float = 30.0,
        empty: presets.Empty = "error",
        weight: Vector | None = None, offset: Vector | None = None, class_scale: Vector | None = None,
        gamma: float | Vector = 0.0, poly: float = 0.0, label_smoothing: float | Vector = 0.0, ignore_index: int = -100,
        reduction: Reduction = "mean", normalizer: float | Tensor | None = None, impl: Impl = "auto",
        inplace: bool = False,
    ) -> None:
        own = presets.ldam(class_counts=class_counts, max_margin=max_margin, scale=scale, empty=empty)
        super().__init__(softmax_loss, SOFTMAX, {
            **presets.combined(own, {"weight": weight, "offset": offset}), "class_scale": class_scale, "gamma": gamma,
            "poly": poly, "label_smoothing": label_smoothing, "ignore_index": ignore_index, "reduction": reduction,
            "normalizer": normalizer, "impl": impl, "inplace": inplace,
        })


@also_named(input="logits")
def label_aware_smoothing_loss(
    logits: Tensor, target: Tensor, *, class_counts: presets.Counts, head: float = 0.4, tail: float = 0.1,
    weight: Vector | None = None, sample_weight: Vector | None = None, offset: Vector | None = None,
    class_scale: Vector | None = None, scale: float = 1.0, margin: float | Vector | None = None,
    gamma: float | Vector = 0.0, poly: float = 0.0, ignore_index: int = -100, reduction: Reduction = "mean",
    normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """Cross-entropy with more label smoothing for larger classes (MiSLAS).

    ``ε_c = tail + (head − tail) sin(π/2 · (n_c − n_min)/(n_max − n_min))``.

    Args:
        logits: ``(N, C)``, ``(N, C, …)`` or ``(C,)``, any floating dtype; −inf masks a class of a row.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        head: label smoothing of the largest class, in [0, 1); not a layer.
        tail: label smoothing of the smallest class, in [0, 1).
        weight: ``(C,)`` weight of each class, at least 0.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
        scale: factor of all logits, above 0.
        margin: subtracted from the target's logit before scaling; a number or ``(C,)``.
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        poly: coefficient κ of the first polynomial term.
        ignore_index: rows with this target are left out.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Returns:
        A scalar, or ``(N, …)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Reference: Zhong et al., Improving Calibration for Long-Tailed Recognition, CVPR 2021 (arXiv:2104.00466).

    Example:
        >>> import torch
        >>> label_aware_smoothing_loss(torch.zeros(1, 2), torch.tensor([0]), class_counts=[90, 10])
        tensor(0.6931)
    """
    own = presets.label_aware_smoothing(class_counts=class_counts, head=head, tail=tail)
    return softmax_loss(
        logits, target, **own,
        weight=weight, sample_weight=sample_weight, offset=offset, class_scale=class_scale, scale=scale, margin=margin,
        gamma=gamma, poly=poly, ignore_index=ignore_index, reduction=reduction, normalizer=normalizer, impl=impl,
        inplace=inplace,
    )


class LabelAwareSmoothingLoss(Loss):
    """Label-aware smoothing as a module; see `label_aware_smoothing_loss` for the formula.

    Args:
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        head: label smoothing of the largest class, in [0, 1); not a layer.
        tail: label smoothing of the smallest class, in [0, 1).
        weight: ``(C,)`` weight of each class, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
        scale: factor of all logits, above 0.
        margin: subtracted from the target's logit before scaling; a number or ``(C,)``.
        gamma: focusing parameter γ, at least 0; a number or ``(C,)``.
        poly: coefficient κ of the first polynomial term.
        ignore_index: rows with this target are left out.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over the rows), "sum" or "none".
        normalizer: denominator of "mean" and "batchmean" instead of their own; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: reuse the memory of the logits for the gradient; their values are lost.

    Raises:
        ArgumentError, ArgumentTypeError: an argument that cannot be used; the message names it.

    Example:
        >>> import torch
        >>> LabelAwareSmoothingLoss(class_counts=[90, 10])(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)
    """

    def __init__(
        self, *, class_counts: presets.Counts, head: float = 0.4, tail: float = 0.1,
        weight: Vector | None = None, offset: Vector | None = None, class_scale: Vector | None = None,
        scale: float = 1.0, margin: float | Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
        ignore_index: int = -100, reduction: Reduction = "mean", normalizer: float | Tensor | None = None,
        impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        own = presets.label_aware_smoothing(class_counts=class_counts, head=head, tail=tail)
        super().__init__(softmax_loss, SOFTMAX, {
            **own, "weight": weight, "offset": offset, "class_scale": class_scale, "scale": scale, "margin": margin,
            "gamma": gamma, "poly": poly, "ignore_index": ignore_index, "reduction": reduction,
            "normalizer": normalizer, "impl": impl, "inplace": inplace,
        })
