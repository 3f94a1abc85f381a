"""Softmax and sigmoid losses weighted by the effective number of images per class."""

from __future__ import annotations

from torch import Tensor

from counterpoise.kernels.dispatch import Impl
from counterpoise.kernels.reduction import Reduction, accumulation_dtype
from counterpoise.losses import presets
from counterpoise.losses.arguments import SIGMOID, SOFTMAX, Vector, also_named, class_vector
from counterpoise.losses.base import Loss
from counterpoise.losses.sigmoid import sigmoid_loss
from counterpoise.losses.softmax import softmax_loss
from counterpoise.losses.targets import checked_logits, checked_row_vector, weight_of_target, with_class_dimension


@also_named(input="logits")
def class_balanced_loss(
    logits: Tensor, target: Tensor, *, class_counts: presets.Counts, beta: presets.Beta = 0.9999,
    gamma: float | Vector = 0.0, empty: presets.Empty = "error",
    weight: Vector | None = None, sample_weight: Vector | None = None, offset: Vector | None = None,
    class_scale: Vector | None = None, scale: float = 1.0, margin: float | Vector | None = None, poly: float = 0.0,
    label_smoothing: float | Vector = 0.0, ignore_index: int = -100, reduction: Reduction = "mean",
    normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """Cross-entropy or focal loss, weighted by the inverse effective number of images per class.

    ``w_c = (1 − β) / (1 − β^n_c)``, normalised to sum to C. The paper divides by N: ``reduction="batchmean"``.

    Args:
        logits: ``(N, C)``, ``(N, C, …)`` or ``(C,)``, any floating dtype; −inf masks a class of a row.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        beta: β in [0, 1]: 0 weighs all classes alike, 1 by inverse frequency; "auto" is (N − 1)/N.
        gamma: focusing parameter γ, at least 0; 0 is cross-entropy; a number or ``(C,)``.
        empty: "error" refuses classes without images; "exclude" gives them weight 0.
        weight: ``(C,)`` weight of each class, at least 0; multiplied with those of this loss.
        sample_weight: ``(N, …)`` weight of each row, or ``(N,)`` of each image, at least 0.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
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

    Reference: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019 (arXiv:1901.05555).

    Example:
        >>> import torch
        >>> class_balanced_loss(torch.zeros(2, 2), torch.tensor([0, 1]), class_counts=[90, 10])
        tensor(0.6931)
    """
    own = presets.class_balanced(class_counts=class_counts, beta=beta, gamma=gamma, empty=empty)
    return softmax_loss(
        logits, target, **presets.combined(own, {"weight": weight, "offset": offset}),
        sample_weight=sample_weight, class_scale=class_scale, scale=scale, margin=margin, poly=poly,
        label_smoothing=label_smoothing, ignore_index=ignore_index, reduction=reduction, normalizer=normalizer,
        impl=impl, inplace=inplace,
    )


class ClassBalancedLoss(Loss):
    """Class-balanced loss as a module; see `class_balanced_loss` for the formula.

    Args:
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        beta: β in [0, 1]: 0 weighs all classes alike, 1 by inverse frequency; "auto" is (N − 1)/N.
        gamma: focusing parameter γ, at least 0; 0 is cross-entropy; a number or ``(C,)``.
        empty: "error" refuses classes without images; "exclude" gives them weight 0.
        weight: ``(C,)`` weight of each class, at least 0; multiplied with those of this loss.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
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
        >>> ClassBalancedLoss(class_counts=[90, 10])(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor(0.6931)
    """

    def __init__(
        self, *, class_counts: presets.Counts, beta: presets.Beta = 0.9999, gamma: float | Vector = 0.0,
        empty: presets.Empty = "error",
        weight: Vector | None = None, offset: Vector | None = None, class_scale: Vector | None = None,
        scale: float = 1.0, margin: float | Vector | None = None, poly: float = 0.0,
        label_smoothing: float | Vector = 0.0, ignore_index: int = -100, reduction: Reduction = "mean",
        normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        own = presets.class_balanced(class_counts=class_counts, beta=beta, gamma=gamma, empty=empty)
        super().__init__(softmax_loss, SOFTMAX, {
            **presets.combined(own, {"weight": weight, "offset": offset}), "class_scale": class_scale, "scale": scale,
            "margin": margin, "poly": poly, "label_smoothing": label_smoothing, "ignore_index": ignore_index,
            "reduction": reduction, "normalizer": normalizer, "impl": impl, "inplace": inplace,
        })


@also_named(input="logits")
def class_balanced_sigmoid_loss(
    logits: Tensor, target: Tensor, *, class_counts: presets.Counts, beta: presets.Beta = 0.9999, gamma: float = 0.0,
    empty: presets.Empty = "error",
    weight: Vector | None = None, sample_weight: Vector | None = None, pos_weight: float | Vector | None = None,
    neg_weight: float | Vector | None = None, ignore_index: int = -100, reduction: Reduction = "mean",
    normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
) -> Tensor:
    """One-vs-rest binary cross-entropy or focal loss, each row weighted by the class that it belongs to.

    The paper sums over the classes and divides by N (``reduction="batchmean"``), and starts the last bias at −log(C−1).

    Args:
        logits: ``(N, C)`` or ``(N, C, …)``, any floating dtype; ``(N,)`` and ``()`` are one class.
        target: ``(N, …)`` class indices, or labels of the logits' shape whose rows sum to 1.
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        beta: β in [0, 1]: 0 weighs all classes alike, 1 by inverse frequency; "auto" is (N − 1)/N.
        gamma: focusing parameter γ, at least 0; 0 is binary cross-entropy.
        empty: "error" refuses classes without images; "exclude" gives them weight 0.
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

    Reference: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019 (arXiv:1901.05555).

    Example:
        >>> import torch
        >>> class_balanced_sigmoid_loss(torch.zeros(1, 2), torch.tensor([1]), class_counts=[50, 50])  # log 2
        tensor(0.6931)
    """
    class_weight, own = presets.class_balanced_sigmoid(class_counts=class_counts, beta=beta, gamma=gamma, empty=empty)
    shape, logits, target = with_class_dimension(logits, target, class_weight)
    sample_weight = _weight_of_class(logits, target, class_weight, sample_weight, ignore_index)
    loss = sigmoid_loss(
        logits, target, **presets.combined_sigmoid(own, {"pos_weight": pos_weight, "neg_weight": neg_weight}),
        weight=weight, sample_weight=sample_weight, ignore_index=ignore_index, reduction=reduction,
        normalizer=normalizer, impl=impl, inplace=inplace,
    )
    return loss.reshape(shape) if reduction == "none" else loss


class ClassBalancedSigmoidLoss(Loss):
    """Class-balanced sigmoid loss as a module; see `class_balanced_sigmoid_loss` for the formula.

    Args:
        class_counts: ``(C,)`` training images per class: a `ClassCounts`, an array or a ``{name: count}`` mapping.
        beta: β in [0, 1]: 0 weighs all classes alike, 1 by inverse frequency; "auto" is (N − 1)/N.
        gamma: focusing parameter γ, at least 0; 0 is binary cross-entropy.
        empty: "error" refuses classes without images; "exclude" gives them weight 0.
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
        >>> ClassBalancedSigmoidLoss(class_counts=[50, 50])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(0.6931)
    """

    class_weight: Tensor

    def __init__(
        self, *, class_counts: presets.Counts, beta: presets.Beta = 0.9999, gamma: float = 0.0,
        empty: presets.Empty = "error",
        weight: Vector | None = None, pos_weight: float | Vector | None = None,
        neg_weight: float | Vector | None = None, ignore_index: int = -100, reduction: Reduction = "mean",
        normalizer: float | Tensor | None = None, impl: Impl = "auto", inplace: bool = False,
    ) -> None:
        class_weight, own = presets.class_balanced_sigmoid(
            class_counts=class_counts, beta=beta, gamma=gamma, empty=empty
        )
        super().__init__(sigmoid_loss, SIGMOID, {
            **presets.combined_sigmoid(own, {"pos_weight": pos_weight, "neg_weight": neg_weight}), "weight": weight,
            "ignore_index": ignore_index, "reduction": reduction, "normalizer": normalizer, "impl": impl,
            "inplace": inplace,
        }, class_weight=class_weight)

    @also_named(input="logits")
    def forward(
        self, logits: Tensor, target: Tensor, *, sample_weight: Vector | None = None,
        normalizer: float | Tensor | None = None, **unknown: object,
    ) -> Tensor:
        """Return the loss of a batch; the arguments are those of `Loss.forward`."""
        shape, logits, target = with_class_dimension(logits, target, self.class_weight)
        sample_weight = _weight_of_class(logits, target, self.class_weight, sample_weight, self.ignore_index)
        loss = super().forward(logits, target, sample_weight=sample_weight, normalizer=normalizer, **unknown)
        return loss.reshape(shape) if self.reduction == "none" else loss


def _weight_of_class(
    logits: Tensor, target: Tensor, class_weight: Tensor, sample_weight: Vector | None, ignore_index: int
) -> Tensor:
    """The weight of the class that each row belongs to, ``(N, …)``, times the sample weight."""
    logits = checked_logits(logits)
    weight = class_vector(class_weight, "class_counts", logits.shape[1])
    of_class = weight_of_target(target, logits, weight.to(logits.device, accumulation_dtype(logits)), ignore_index)
    u = checked_row_vector(sample_weight, logits)
    return of_class if u is None else of_class * u
