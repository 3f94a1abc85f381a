"""The softmax family: one equation (`softmax_loss`) and its named presets.

A preset sets some letters of the equation and takes all the others by keyword, so presets combine freely: a weight
given besides the preset's own is multiplied with it, an offset added to it.
"""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from counterpoise.core.counts import CountsLike
from counterpoise.kernels.dispatch import Impl, softmax_equation
from counterpoise.kernels.reduction import Reduction
from counterpoise.losses import presets
from counterpoise.losses.arguments import (
    checked_choice,
    checked_inplace,
    checked_logits,
    checked_normalizer,
    checked_row_vector,
    checked_target,
    warn_if_massless,
)
from counterpoise.losses.letters import softmax_terms
from counterpoise.losses.options import (
    IMPLS,
    REDUCTIONS,
    ScaledOptions,
    SoftmaxOptions,
    SoftmaxPresetOptions,
    Vector,
)

__all__ = [
    "balanced_softmax_loss",
    "class_balanced_loss",
    "cross_entropy",
    "focal_loss",
    "label_aware_smoothing_loss",
    "ldam_loss",
    "logit_adjusted_loss",
    "poly_loss",
    "softmax_loss",
    "vector_scaling_loss",
]


def softmax_loss(  # noqa: PLR0913  the equation has this many letters
    logits: Tensor,
    target: Tensor,
    *,
    weight: Vector | None = None,
    sample_weight: Vector | None = None,
    offset: Vector | None = None,
    class_scale: Vector | None = None,
    scale: float = 1.0,
    margin: float | Vector | None = None,
    gamma: float | Vector = 0.0,
    poly: float = 0.0,
    label_smoothing: float | Vector = 0.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    normalizer: float | Tensor | None = None,
    impl: Impl = "auto",
    inplace: bool = False,
) -> Tensor:
    """The softmax equation: every loss of the softmax family is this function with some letters set.

    Args:
        logits: ``(N, C)`` or ``(N, C, …)``, any floating dtype; −inf masks a class of a row.
        target: ``(N, …)`` class indices of any integer dtype, or ``(N, C, …)`` probabilities.
        weight: ``(C,)`` weight of each class, at least 0.
        sample_weight: ``(N, …)`` weight of each row, at least 0; ``(N,)`` weighs whole images.
        offset: ``(C,)`` added to the logits; −inf masks the class.
        class_scale: ``(C,)`` factor of each logit, above 0.
        scale: factor of all logits.
        margin: taken from the target's logit, before the scales.
        gamma: focusing exponent, at least 0; ``(C,)`` for one per class.
        poly: factor of the first polynomial term.
        label_smoothing: share of the target spread over the row's classes, in [0, 1); ``(C,)`` for one per class.
        ignore_index: rows with this index count nowhere, also when it is a valid class.
        reduction: "mean" (over the summed weight of the targets), "batchmean" (over rows), "sum" or "none".
        normalizer: what the sum is divided by instead, for "mean" and "batchmean"; see `global_normalizer`.
        impl: "auto", "reference", "closed_form" or "triton".
        inplace: write the gradient over the logits, which are empty afterwards: nothing else may use them. Where the
            reference runs, and inside `torch.compile`, it has no effect.

    Returns:
        A scalar, or ``(N, …)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ArgumentError: a shape, value or choice that cannot be used; the message names the argument.
        ArgumentTypeError: an argument of the wrong type.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> softmax_loss(logits, torch.tensor([0, 2]), weight=[1.0, 1.0, 3.0], gamma=2.0)
        tensor(0.7253)
    """
    checked_choice("reduction", reduction, REDUCTIONS)
    checked_choice("impl", impl, IMPLS)
    logits = checked_logits(logits)
    target = checked_target(target, logits, ignore_index)
    terms = softmax_terms(
        logits,
        weight=weight,
        offset=offset,
        class_scale=class_scale,
        scale=scale,
        margin=margin,
        gamma=gamma,
        poly=poly,
        label_smoothing=label_smoothing,
    )
    u = checked_row_vector(sample_weight, logits)
    normalizer = checked_normalizer(normalizer, reduction, logits)
    if reduction == "mean" and normalizer is None:
        warn_if_massless(target, ignore_index, terms.weight, u)
    return softmax_equation(
        logits,
        target,
        terms,
        sample_weight=u,
        ignore_index=ignore_index,
        reduction=reduction,
        denominator=normalizer,
        impl=impl,
        inplace=checked_inplace(inplace, logits, impl),
    )


def cross_entropy(logits: Tensor, target: Tensor, **options: Unpack[SoftmaxOptions]) -> Tensor:
    """Cross-entropy, weighted or not: ``−w_y log p_y``. Keywords as `softmax_loss`.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3]))  # log 4
        tensor(1.3863)
    """
    return softmax_loss(logits, target, **options)


def focal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: float | Vector = 2.0,
    alpha: Vector | None = None,
    **options: Unpack[SoftmaxPresetOptions],
) -> Tensor:
    """Focal loss on a softmax: ``−w_y (1 − p_y)^γ log p_y``. Other keywords as `softmax_loss`.

    ``alpha`` is the paper's name of ``weight`` and must be one value per class: for more than two classes one number
    only rescales the loss. p never contains the weight.

    Reference: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017 (arXiv:1708.02002).

    Example:
        >>> import torch
        >>> focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=1.0)  # ½ · log 2
        tensor(0.3466)
    """
    return softmax_loss(logits, target, **presets.combined(presets.focal(gamma=gamma, alpha=alpha), options))


def class_balanced_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_counts: CountsLike | Tensor,
    beta: float = 0.9999,
    gamma: float | Vector = 0.0,
    empty: presets.Empty = "error",
    **options: Unpack[SoftmaxPresetOptions],
) -> Tensor:
    """Cross-entropy (or, with ``gamma``, focal loss) weighted by the inverse effective number of images.

    ``w_c = (1 − β) / (1 − β^n_c)``, normalised to sum to C. The paper divides by N: ``reduction="batchmean"``.
    ``empty="exclude"`` gives classes without images weight 0 instead of refusing them. Other
    keywords as `softmax_loss`.

    Reference: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019 (arXiv:1901.05555).

    Example:
        >>> import torch
        >>> class_balanced_loss(torch.zeros(2, 2), torch.tensor([0, 1]), class_counts=[90, 10])
        tensor(0.6931)
    """
    own = presets.class_balanced(class_counts=class_counts, beta=beta, gamma=gamma, empty=empty)
    return softmax_loss(logits, target, **presets.combined(own, options))


def logit_adjusted_loss(
    logits: Tensor,
    target: Tensor,
    *,
    prior: Vector,
    tau: float = 1.0,
    empty: presets.Empty = "error",
    **options: Unpack[SoftmaxOptions],
) -> Tensor:
    """Cross-entropy of ``z + τ log π``; predict with the raw logits z. Other keywords as `softmax_loss`.

    ``prior`` is the class prior of training as sampled, ``(C,)``; its scale has no effect. ``empty="exclude"`` masks
    classes of prior 0 instead of refusing them.

    Reference: Menon et al., Long-tail learning via logit adjustment, ICLR 2021 (arXiv:2007.07314).

    Example:
        >>> import torch
        >>> logit_adjusted_loss(torch.zeros(1, 2), torch.tensor([1]), prior=[0.9, 0.1])  # −log 0.1
        tensor(2.3026)
    """
    own = presets.logit_adjusted(prior=prior, tau=tau, empty=empty)
    return softmax_loss(logits, target, **presets.combined(own, options))


def balanced_softmax_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_counts: CountsLike | Tensor,
    empty: presets.Empty = "error",
    **options: Unpack[SoftmaxOptions],
) -> Tensor:
    """Cross-entropy of ``z + log n_c``: logit adjustment with τ = 1. Other keywords as `softmax_loss`.

    Reference: Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020 (arXiv:2007.10740).

    Example:
        >>> import torch
        >>> balanced_softmax_loss(torch.zeros(1, 2), torch.tensor([1]), class_counts=[90, 10])
        tensor(2.3026)
    """
    own = presets.balanced_softmax(class_counts=class_counts, empty=empty)
    return softmax_loss(logits, target, **presets.combined(own, options))


def vector_scaling_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_counts: CountsLike | Tensor,
    gamma: float = 0.3,
    tau: float = 1.0,
    empty: presets.Empty = "error",
    **options: Unpack[SoftmaxPresetOptions],
) -> Tensor:
    """Cross-entropy of ``(n_c/n_max)^γ z_c + τ log π_c``; predict with the raw logits z.

    γ = 0 is logit adjustment, τ = 0 class-dependent temperature (CDT). Here ``gamma`` scales logits and focuses
    nothing. Other keywords as `softmax_loss`.

    Reference: Kini et al., Label-Imbalanced and Group-Sensitive Classification under Overparameterization, NeurIPS
    2021 (arXiv:2103.01550).

    Example:
        >>> import torch
        >>> vector_scaling_loss(torch.zeros(1, 2), torch.tensor([1]), class_counts=[90, 10])  # −log 0.1
        tensor(2.3026)
    """
    own = presets.vector_scaling(class_counts=class_counts, gamma=gamma, tau=tau, empty=empty)
    return softmax_loss(logits, target, **presets.combined(own, options))


def ldam_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_counts: CountsLike | Tensor,
    max_margin: float = 0.5,
    scale: float = 30.0,
    empty: presets.Empty = "error",
    **options: Unpack[ScaledOptions],
) -> Tensor:
    """Label-distribution-aware margins: cross-entropy of ``s (z_c − m_c t_c)``, ``m_c = max_m (n_min/n_c)^¼``.

    ``logits`` must be cosines, in [−1, 1], from a head that normalises features and class vectors (`models`'s cosine
    head): on unnormalised logits a scale of 30 diverges. Other keywords as `softmax_loss`.

    Reference: Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019
    (arXiv:1906.07413).

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.5, 0.0]])  # the margin of class 0 is ½ · (10/160)^¼ = ¼
        >>> ldam_loss(logits, torch.tensor([0]), class_counts=[160, 10], scale=4.0)  # log(1 + e^(−4·(½ − ¼)))
        tensor(0.3133)
    """
    own = presets.ldam(class_counts=class_counts, max_margin=max_margin, scale=scale, empty=empty)
    return softmax_loss(logits, target, **presets.combined(own, options))


def poly_loss(
    logits: Tensor,
    target: Tensor,
    *,
    epsilon: float = 1.0,
    **options: Unpack[SoftmaxOptions],
) -> Tensor:
    """Poly-1: cross-entropy ``+ ε (1 − p_y)``; with ``gamma`` focal, ``+ ε (1 − p_y)^(γ+1)``.

    Other keywords as `softmax_loss`.

    Reference: Leng et al., PolyLoss, ICLR 2022 (arXiv:2204.12511).

    Example:
        >>> import torch
        >>> poly_loss(torch.zeros(1, 2), torch.tensor([0]))  # log 2 + ½
        tensor(1.1931)
    """
    return softmax_loss(logits, target, **presets.combined(presets.poly(epsilon=epsilon), options))


def label_aware_smoothing_loss(
    logits: Tensor,
    target: Tensor,
    *,
    class_counts: CountsLike | Tensor,
    head: float = 0.4,
    tail: float = 0.1,
    **options: Unpack[SoftmaxOptions],
) -> Tensor:
    """Cross-entropy with more label smoothing for the larger classes: ``head`` for the largest, ``tail`` the smallest.

    ``ε_c = tail + (head − tail) sin(π/2 · (n_c − n_min)/(n_max − n_min))``. Other keywords as `softmax_loss`.

    Reference: Zhong et al., Improving Calibration for Long-Tailed Recognition (MiSLAS), CVPR 2021 (arXiv:2104.00466).

    Example:
        >>> import torch
        >>> label_aware_smoothing_loss(torch.zeros(1, 2), torch.tensor([0]), class_counts=[90, 10])
        tensor(0.6931)
    """
    own = presets.label_aware_smoothing(class_counts=class_counts, head=head, tail=tail)
    return softmax_loss(logits, target, **presets.combined(own, options))
