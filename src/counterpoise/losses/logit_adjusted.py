"""Softmax losses that add the log class prior to the logits during training."""

from __future__ import annotations

from torch import Tensor

from counterpoise.kernels.dispatch import Impl
from counterpoise.kernels.reduction import Reduction
from counterpoise.losses import presets
from counterpoise.losses.arguments import SOFTMAX, Vector, also_named
from counterpoise.losses.base import Loss
from counterpoise.losses.softmax import softmax_loss


@also_named(input="logits")
def logit_adjusted_loss(
    logits: Tensor, target: Tensor, *, prior: Vector, tau: float = 1.0, empty: presets.Empty = "error",
    weight: Vector | None = None, sample_weight: Vector | None = None, offset: Vector | None = None,
    class_scale: Vector | None = None, scale: float = 1.0, margin: float | Vector | None = None,
    gamma: float | Vector = 0.0, poly: float = 0.0, label_smoothing: float | Vector = 0.0, ignore_index: int = -100,
    reduction: Reduction = "mean", normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """Logit-adjusted loss: cross-entropy of ``z + τ log π``; predict with the raw logits z.

    A rare class needs a larger logit than a frequent one to reach the same loss, which enforces a margin of
    ``τ log(π_frequent/π_rare)`` between them.

    Args:
        logits: ``(N, C)``, ``(N, C, …)`` or ``(C,)``, any floating dtype; −inf masks a class of a row.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        prior: ``(C,)`` class prior π of the training images, as sampled.
        tau: strength τ of the adjustment, at least 0; 0 is cross-entropy.
        empty: "error" refuses classes with prior 0; "exclude" masks them.
        weight: ``(C,)`` weight of each class, at least 0.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        offset: ``(C,)`` added to the logits, besides the offset of this loss; −inf masks the class.
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

    Reference: Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021 (arXiv:2007.07314).

    Example:
        >>> import torch
        >>> logit_adjusted_loss(torch.zeros(1, 2), torch.tensor([1]), prior=[0.9, 0.1])  # −log 0.1
        tensor(2.3026)
    """
    own = presets.logit_adjusted(prior=prior, tau=tau, empty=empty)
    return softmax_loss(
        logits, target, **presets.combined(own, {"weight": weight, "offset": offset}),
        sample_weight=sample_weight, class_scale=class_scale, scale=scale, margin=margin, gamma=gamma, poly=poly,
        label_smoothing=label_smoothing, ignore_index=ignore_index, reduction=reduction, normalizer=normalizer,
        impl=impl, inplace=inplace,
    )


class LogitAdjustedLoss(Loss):
    """Logit-adjusted loss as a module; predict with the raw logits.

    Args:
        prior: ``(C,)`` class prior π of the training images, as sampled.
        tau: strength τ of the adjustment, at least 0; 0 is cross-entropy.
        empty: "error" refuses classes with prior 0; "exclude" masks them.
        weight: ``(C,)`` weight of each class, at least 0.
        offset: ``(C,)`` added to the logits, besides the offset of this loss; −inf masks the class.
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
        >>> LogitAdjustedLoss(prior=[0.9, 0.1])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(2.3026)
    """

    def __init__(
        self, *, prior: Vector, tau: float = 1.0, empty: presets.Empty = "error",
        weight: Vector | None = None, offset: Vector | None = None, class_scale: Vector | None = None,
        scale: float = 1.0, margin: float | Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
        label_smoothing: float | Vector = 0.0, ignore_index: int = -100, reduction: Reduction = "mean",
        normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        own = presets.logit_adjusted(prior=prior, tau=tau, empty=empty)
        super().__init__(softmax_loss, SOFTMAX, {
            **presets.combined(own, {"weight": weight, "offset": offset}), "class_scale": class_scale, "scale": scale,
            "margin": margin, "gamma": gamma, "poly": poly, "label_smoothing": label_smoothing,
            "ignore_index": ignore_index, "reduction": reduction, "normalizer": normalizer, "impl": impl,
            "inplace": inplace,
        })


@also_named(input="logits")
def balanced_softmax_loss(
    logits: Tensor, target: Tensor, *, class_counts: presets.Counts, empty: presets.Empty = "error",
    weight: Vector | None = None, sample_weight: Vector | None = None, offset: Vector | None = None,
    class_scale: Vector | None = None, scale: float = 1.0, margin: float | Vector | None = None,
    gamma: float | Vector = 0.0, poly: float = 0.0, label_smoothing: float | Vector = 0.0, ignore_index: int = -100,
    reduction: Reduction = "mean", normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """Balanced softmax: cross-entropy of ``z + log n_c``, which is logit adjustment with τ = 1.

    Args:
        logits: ``(N, C)``, ``(N, C, …)`` or ``(C,)``, any floating dtype; −inf masks a class of a row.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        empty: "error" refuses classes without images; "exclude" masks them.
        weight: ``(C,)`` weight of each class, at least 0.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        offset: ``(C,)`` added to the logits, besides the offset of this loss; −inf masks the class.
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

    Reference: Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020 (arXiv:2007.10740).

    Example:
        >>> import torch
        >>> balanced_softmax_loss(torch.zeros(1, 2), torch.tensor([1]), class_counts=[90, 10])
        tensor(2.3026)
    """
    own = presets.balanced_softmax(class_counts=class_counts, empty=empty)
    return softmax_loss(
        logits, target, **presets.combined(own, {"weight": weight, "offset": offset}),
        sample_weight=sample_weight, class_scale=class_scale, scale=scale, margin=margin, gamma=gamma, poly=poly,
        label_smoothing=label_smoothing, ignore_index=ignore_index, reduction=reduction, normalizer=normalizer,
        impl=impl, inplace=inplace,
    )


class BalancedSoftmaxLoss(Loss):
    """Balanced softmax as a module; predict with the raw logits.

    Args:
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        empty: "error" refuses classes without images; "exclude" masks them.
        weight: ``(C,)`` weight of each class, at least 0.
        offset: ``(C,)`` added to the logits, besides the offset of this loss; −inf masks the class.
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
        >>> BalancedSoftmaxLoss(class_counts=[90, 10])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(2.3026)
    """

    def __init__(
        self, *, class_counts: presets.Counts, empty: presets.Empty = "error",
        weight: Vector | None = None, offset: Vector | None = None, class_scale: Vector | None = None,
        scale: float = 1.0, margin: float | Vector | None = None, gamma: float | Vector = 0.0, poly: float = 0.0,
        label_smoothing: float | Vector = 0.0, ignore_index: int = -100, reduction: Reduction = "mean",
        normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        own = presets.balanced_softmax(class_counts=class_counts, empty=empty)
        super().__init__(softmax_loss, SOFTMAX, {
            **presets.combined(own, {"weight": weight, "offset": offset}), "class_scale": class_scale, "scale": scale,
            "margin": margin, "gamma": gamma, "poly": poly, "label_smoothing": label_smoothing,
            "ignore_index": ignore_index, "reduction": reduction, "normalizer": normalizer, "impl": impl,
            "inplace": inplace,
        })


@also_named(input="logits")
def vector_scaling_loss(
    logits: Tensor, target: Tensor, *, class_counts: presets.Counts, gamma: float = 0.3, tau: float = 1.0,
    empty: presets.Empty = "error",
    weight: Vector | None = None, sample_weight: Vector | None = None, offset: Vector | None = None, scale: float = 1.0,
    margin: float | Vector | None = None, poly: float = 0.0, label_smoothing: float | Vector = 0.0,
    ignore_index: int = -100, reduction: Reduction = "mean", normalizer: float | Tensor | None = None,
    impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """Vector-scaling loss: cross-entropy of ``(n_c/n_max)^γ z_c + τ log π_c``; predict with the raw logits z.

    γ = 0 is logit adjustment, τ = 0 class-dependent temperatures (CDT).

    Args:
        logits: ``(N, C)``, ``(N, C, …)`` or ``(C,)``, any floating dtype; −inf masks a class of a row.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        gamma: exponent γ of the class scale, at least 0; it is not a focusing parameter.
        tau: strength τ of the adjustment, at least 0.
        empty: "error" refuses classes without images; "exclude" masks them.
        weight: ``(C,)`` weight of each class, at least 0.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        offset: ``(C,)`` added to the logits, besides the offset of this loss; −inf masks the class.
        scale: factor of all logits, above 0.
        margin: subtracted from the target's logit before scaling; a number or ``(C,)``.
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

    Reference: Kini et al., Label-Imbalanced and Group-Sensitive Classification under Overparameterization, NeurIPS 2021
    (arXiv:2103.01550).

    Example:
        >>> import torch
        >>> vector_scaling_loss(torch.zeros(1, 2), torch.tensor([1]), class_counts=[90, 10])  # −log 0.1
        tensor(2.3026)
    """
    own = presets.vector_scaling(class_counts=class_counts, gamma=gamma, tau=tau, empty=empty)
    return softmax_loss(
        logits, target, **presets.combined(own, {"weight": weight, "offset": offset}),
        sample_weight=sample_weight, scale=scale, margin=margin, poly=poly, label_smoothing=label_smoothing,
        ignore_index=ignore_index, reduction=reduction, normalizer=normalizer, impl=impl, inplace=inplace,
    )


class VectorScalingLoss(Loss):
    """Vector-scaling loss as a module; predict with the raw logits.

    Args:
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        gamma: exponent γ of the class scale, at least 0; it is not a focusing parameter.
        tau: strength τ of the adjustment, at least 0.
        empty: "error" refuses classes without images; "exclude" masks them.
        weight: ``(C,)`` weight of each class, at least 0.
        offset: ``(C,)`` added to the logits, besides the offset of this loss; −inf masks the class.
        scale: factor of all logits, above 0.
        margin: subtracted from the target's logit before scaling; a number or ``(C,)``.
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
        >>> VectorScalingLoss(class_counts=[90, 10])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(2.3026)
    """

    def __init__(
        self, *, class_counts: presets.Counts, gamma: float = 0.3, tau: float = 1.0, empty: presets.Empty = "error",
        weight: Vector | None = None, offset: Vector | None = None, scale: float = 1.0,
        margin: float | Vector | None = None, poly: float = 0.0, label_smoothing: float | Vector = 0.0,
        ignore_index: int = -100, reduction: Reduction = "mean", normalizer: float | Tensor | None = None,
        impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        own = presets.vector_scaling(class_counts=class_counts, gamma=gamma, tau=tau, empty=empty)
        super().__init__(softmax_loss, SOFTMAX, {
            **presets.combined(own, {"weight": weight, "offset": offset}), "scale": scale, "margin": margin,
            "poly": poly, "label_smoothing": label_smoothing, "ignore_index": ignore_index, "reduction": reduction,
            "normalizer": normalizer, "impl": impl, "inplace": inplace,
        })
