"""The sigmoid family: one equation (`sigmoid_loss`) and its named presets, for multi-label and one-vs-rest targets."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from counterpoise.core.counts import CountsLike
from counterpoise.kernels.dispatch import Impl, sigmoid_equation
from counterpoise.kernels.reduction import Reduction
from counterpoise.kernels.reference import SigmoidParameters
from counterpoise.losses import presets
from counterpoise.losses.arguments import (
    checked_choice,
    checked_inplace,
    checked_logits,
    checked_normalizer,
    checked_number,
    checked_row_vector,
    class_vector,
    number_or_vector,
)
from counterpoise.losses.labels import checked_labels, class_mass, labelled
from counterpoise.losses.options import IMPLS, REDUCTIONS, SigmoidOptions, SigmoidPresetOptions, Vector

__all__ = [
    "asymmetric_loss",
    "binary_cross_entropy",
    "class_balanced_sigmoid_loss",
    "sigmoid_focal_loss",
    "sigmoid_loss",
    "sigmoid_loss_by_class",
]


def sigmoid_loss(  # noqa: PLR0913  the equation has this many letters
    logits: Tensor,
    target: Tensor,
    *,
    weight: Vector | None = None,
    sample_weight: Vector | None = None,
    pos_weight: float | Vector | None = None,
    neg_weight: float | Vector | None = None,
    gamma_pos: float = 0.0,
    gamma_neg: float = 0.0,
    clip: float = 0.0,
    detach_focus: bool = False,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    normalizer: float | Tensor | None = None,
    impl: Impl = "auto",
    inplace: bool = False,
) -> Tensor:
    """The sigmoid equation: every loss of the sigmoid family is this function with some letters set.

    Args:
        logits: ``(N, C)`` or ``(N, C, …)``, any floating dtype; ``(N,)`` is one class.
        target: labels in [0, 1] of the logits' shape and any dtype, or ``(N, …)`` class indices (one-vs-rest).
        weight: ``(C,)`` weight of each class, positives and negatives alike, at least 0.
        sample_weight: ``(N, …)`` weight of each row, at least 0; ``(N,)`` weighs whole images.
        pos_weight: weight of the positives, a number or ``(C,)``.
        neg_weight: weight of the negatives, a number or ``(C,)``.
        gamma_pos: focusing exponent of the positives, at least 0.
        gamma_neg: focusing exponent of the negatives, at least 0.
        clip: margin taken from the probability of negatives, in [0, 1); negatives below it count nothing.
        detach_focus: treat the focusing factor as a constant in the gradient.
        ignore_index: elements (for class indices: rows) with this value count nowhere.
        reduction: "mean" (over elements), "batchmean" (over rows: summed over the classes), "sum" or "none".
        normalizer: what the sum is divided by instead, for "mean" and "batchmean".
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: write the gradient over the logits, which are empty afterwards: nothing else may use them. Where the
            reference runs, and inside `torch.compile`, it has no effect.

    Returns:
        A scalar, or the logits' shape for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError: a shape, value or choice that cannot be used; the message names the argument.
        ArgumentTypeError: an argument of the wrong type.

    Example:
        >>> import torch
        >>> sigmoid_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), pos_weight=3.0)  # (3 + 1)/2 · log 2
        tensor(1.3863)
    """
    checked_choice("reduction", reduction, REDUCTIONS)
    checked_choice("impl", impl, IMPLS)
    given, logits, target = labelled(logits, target)
    logits = checked_logits(logits)
    target = checked_labels(target, logits, ignore_index)
    terms = SigmoidParameters(
        weight=class_vector(weight, "weight", logits, low=0.0),
        pos_weight=1.0 if pos_weight is None else number_or_vector(pos_weight, "pos_weight", logits, low=0.0),
        neg_weight=1.0 if neg_weight is None else number_or_vector(neg_weight, "neg_weight", logits, low=0.0),
        gamma_pos=checked_number("gamma_pos", gamma_pos, low=0.0),
        gamma_neg=checked_number("gamma_neg", gamma_neg, low=0.0),
        clip=checked_number("clip", clip, low=0.0, below=1.0),
        detach_focus=bool(detach_focus),
    )
    normalizer = checked_normalizer(normalizer, reduction, logits)
    loss = sigmoid_equation(
        logits,
        target,
        terms,
        sample_weight=checked_row_vector(sample_weight, logits),
        ignore_index=ignore_index,
        reduction=reduction,
        denominator=normalizer,
        impl=impl,
        inplace=checked_inplace(inplace, logits, impl),
    )
    return loss.reshape(given) if reduction == "none" else loss


def binary_cross_entropy(logits: Tensor, target: Tensor, **options: Unpack[SigmoidOptions]) -> Tensor:
    """Binary cross-entropy with logits, weighted or not. Keywords as `sigmoid_loss`.

    Example:
        >>> import torch
        >>> binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))  # log 2
        tensor(0.6931)
    """
    return sigmoid_loss(logits, target, **options)


def sigmoid_focal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    **options: Unpack[SigmoidPresetOptions],
) -> Tensor:
    """Focal loss on sigmoids: ``α (1−p)^γ (−log p)`` for positives, ``(1−α) p^γ (−log(1−p))`` for negatives.

    ``alpha`` in [0, 1], or None for neither; the paper lowers it as γ rises. RetinaNet divides by the number of
    positives: ``reduction="mean", normalizer=positives``. Other keywords as `sigmoid_loss`.

    Reference: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017 (arXiv:1708.02002).

    Example:
        >>> import torch
        >>> sigmoid_focal_loss(torch.zeros(1, 1), torch.tensor([[1.0]]))  # ¼ · ¼ · log 2
        tensor(0.0433)
    """
    own = presets.sigmoid_focal(alpha=alpha, gamma=gamma)
    return sigmoid_loss(logits, target, **presets.combined_sigmoid(own, options))


def asymmetric_loss(
    logits: Tensor,
    target: Tensor,
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 1.0,
    clip: float = 0.05,
    detach_focus: bool = True,
    **options: Unpack[SigmoidPresetOptions],
) -> Tensor:
    """Asymmetric loss: easy negatives are focused away, those below the margin ``clip`` left out altogether.

    The paper sums over N and C: ``reduction="sum"``. Other keywords as `sigmoid_loss`.

    Reference: Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021 (arXiv:2009.14119).

    Example:
        >>> import torch
        >>> asymmetric_loss(torch.zeros(1, 1), torch.tensor([[1.0]]))  # ½ · log 2
        tensor(0.3466)
    """
    own = presets.asymmetric(gamma_neg=gamma_neg, gamma_pos=gamma_pos, clip=clip, detach_focus=detach_focus)
    return sigmoid_loss(logits, target, **presets.combined_sigmoid(own, options))


def class_balanced_sigmoid_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_counts: CountsLike | Tensor,
    beta: float = 0.9999,
    gamma: float = 0.0,
    empty: presets.Empty = "error",
    **options: Unpack[SigmoidPresetOptions],
) -> Tensor:
    """One-vs-rest binary cross-entropy (or focal loss), each row weighted by the class it belongs to.

    ``target`` is class indices, or rows that sum to 1. The paper sums over the classes and divides by N
    (``reduction="batchmean"``) and starts the last bias at −log(C−1). Other keywords as `sigmoid_loss`.

    Reference: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019 (arXiv:1901.05555).

    Example:
        >>> import torch
        >>> class_balanced_sigmoid_loss(torch.zeros(1, 2), torch.tensor([1]), class_counts=[50, 50])  # log 2
        tensor(0.6931)
    """
    weight, own = presets.class_balanced_sigmoid(class_counts=class_counts, beta=beta, gamma=gamma, empty=empty)
    return sigmoid_loss_by_class(logits, target, class_weight=weight, **presets.combined_sigmoid(own, options))


def sigmoid_loss_by_class(
    logits: Tensor,
    target: Tensor,
    *,
    class_weight: Vector,
    **options: Unpack[SigmoidOptions],
) -> Tensor:
    """`sigmoid_loss` with u_i = the weight of row i's class, times ``sample_weight``."""
    logits = checked_logits(logits)
    w = class_vector(class_weight, "class_weight", logits, low=0.0)
    assert w is not None
    mass = class_mass(target, logits, w, options.get("ignore_index", -100))
    u = checked_row_vector(options.get("sample_weight"), logits)
    options["sample_weight"] = mass if u is None else mass * u
    return sigmoid_loss(logits, target, **options)
