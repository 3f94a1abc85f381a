"""The softmax family as modules: arguments stored once, the function's equation called in forward."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from counterpoise.core.counts import CountsLike
from counterpoise.losses import presets
from counterpoise.losses.base import Loss
from counterpoise.losses.options import ScaledOptions, SoftmaxOptions, SoftmaxPresetOptions, Vector
from counterpoise.losses.softmax import softmax_loss

__all__ = [
    "BalancedSoftmaxLoss",
    "ClassBalancedLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LDAMLoss",
    "LabelAwareSmoothingLoss",
    "LogitAdjustedLoss",
    "PolyLoss",
    "SoftmaxLoss",
    "VectorScalingLoss",
]


class SoftmaxLoss(Loss):
    """`softmax_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> SoftmaxLoss(gamma=1.0)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.3466)
    """

    def __init__(self, **options: Unpack[SoftmaxOptions]) -> None:
        super().__init__(softmax_loss, dict(options))


class CrossEntropyLoss(Loss):
    """`cross_entropy` as a module, same keywords.

    Example:
        >>> import torch
        >>> CrossEntropyLoss(weight=[1.0, 3.0])(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)
    """

    def __init__(self, **options: Unpack[SoftmaxOptions]) -> None:
        super().__init__(softmax_loss, dict(options))


class FocalLoss(Loss):
    """`focal_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> FocalLoss(gamma=1.0)(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.3466)
    """

    def __init__(
        self,
        *,
        gamma: float | Vector = 2.0,
        alpha: Vector | None = None,
        **options: Unpack[SoftmaxPresetOptions],
    ) -> None:
        own = presets.focal(gamma=gamma, alpha=alpha)
        super().__init__(softmax_loss, dict(presets.combined(own, options)))


class ClassBalancedLoss(Loss):
    """`class_balanced_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> ClassBalancedLoss(class_counts=[90, 10])(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor(0.6931)
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        beta: float = 0.9999,
        gamma: float | Vector = 0.0,
        empty: presets.Empty = "error",
        **options: Unpack[SoftmaxPresetOptions],
    ) -> None:
        own = presets.class_balanced(class_counts=class_counts, beta=beta, gamma=gamma, empty=empty)
        super().__init__(softmax_loss, dict(presets.combined(own, options)))


class LogitAdjustedLoss(Loss):
    """`logit_adjusted_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> LogitAdjustedLoss(prior=[0.9, 0.1])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(2.3026)
    """

    def __init__(
        self,
        *,
        prior: Vector,
        tau: float = 1.0,
        empty: presets.Empty = "error",
        **options: Unpack[SoftmaxOptions],
    ) -> None:
        own = presets.logit_adjusted(prior=prior, tau=tau, empty=empty)
        super().__init__(softmax_loss, dict(presets.combined(own, options)))


class BalancedSoftmaxLoss(Loss):
    """`balanced_softmax_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> BalancedSoftmaxLoss(class_counts=[90, 10])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(2.3026)
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        empty: presets.Empty = "error",
        **options: Unpack[SoftmaxOptions],
    ) -> None:
        own = presets.balanced_softmax(class_counts=class_counts, empty=empty)
        super().__init__(softmax_loss, dict(presets.combined(own, options)))


class VectorScalingLoss(Loss):
    """`vector_scaling_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> VectorScalingLoss(class_counts=[90, 10])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(2.3026)
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        gamma: float = 0.3,
        tau: float = 1.0,
        empty: presets.Empty = "error",
        **options: Unpack[SoftmaxPresetOptions],
    ) -> None:
        own = presets.vector_scaling(class_counts=class_counts, gamma=gamma, tau=tau, empty=empty)
        super().__init__(softmax_loss, dict(presets.combined(own, options)))


class LDAMLoss(Loss):
    """`ldam_loss` as a module, same keywords. Its logits are cosines.

    Example:
        >>> import torch
        >>> LDAMLoss(class_counts=[160, 10], scale=4.0)(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))
        tensor(0.3133)
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        max_margin: float = 0.5,
        scale: float = 30.0,
        empty: presets.Empty = "error",
        **options: Unpack[ScaledOptions],
    ) -> None:
        own = presets.ldam(class_counts=class_counts, max_margin=max_margin, scale=scale, empty=empty)
        super().__init__(softmax_loss, dict(presets.combined(own, options)))


class PolyLoss(Loss):
    """`poly_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> PolyLoss()(torch.zeros(1, 2), torch.tensor([0]))
        tensor(1.1931)
    """

    def __init__(self, *, epsilon: float = 1.0, **options: Unpack[SoftmaxOptions]) -> None:
        super().__init__(softmax_loss, dict(presets.combined(presets.poly(epsilon=epsilon), options)))


class LabelAwareSmoothingLoss(Loss):
    """`label_aware_smoothing_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> LabelAwareSmoothingLoss(class_counts=[90, 10])(torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        head: float = 0.4,
        tail: float = 0.1,
        **options: Unpack[SoftmaxOptions],
    ) -> None:
        own = presets.label_aware_smoothing(class_counts=class_counts, head=head, tail=tail)
        super().__init__(softmax_loss, dict(presets.combined(own, options)))
