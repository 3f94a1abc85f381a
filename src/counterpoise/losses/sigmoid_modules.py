"""The sigmoid family as modules: arguments stored once, the function's equation called in forward."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from counterpoise.core.counts import CountsLike
from counterpoise.losses import presets
from counterpoise.losses.base import Loss
from counterpoise.losses.options import SigmoidOptions, SigmoidPresetOptions
from counterpoise.losses.sigmoid import sigmoid_loss, sigmoid_loss_by_class

__all__ = [
    "AsymmetricLoss",
    "BinaryCrossEntropyLoss",
    "ClassBalancedSigmoidLoss",
    "SigmoidFocalLoss",
    "SigmoidLoss",
]


class SigmoidLoss(Loss):
    """`sigmoid_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> SigmoidLoss(pos_weight=3.0)(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        tensor(1.3863)
    """

    def __init__(self, **options: Unpack[SigmoidOptions]) -> None:
        super().__init__(sigmoid_loss, dict(options))


class BinaryCrossEntropyLoss(Loss):
    """`binary_cross_entropy` as a module, same keywords.

    Example:
        >>> import torch
        >>> BinaryCrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        tensor(0.6931)
    """

    def __init__(self, **options: Unpack[SigmoidOptions]) -> None:
        super().__init__(sigmoid_loss, dict(options))


class SigmoidFocalLoss(Loss):
    """`sigmoid_focal_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> SigmoidFocalLoss()(torch.zeros(1, 1), torch.tensor([[1.0]]))
        tensor(0.0433)
    """

    def __init__(
        self, *, alpha: float | None = 0.25, gamma: float = 2.0, **options: Unpack[SigmoidPresetOptions]
    ) -> None:
        own = presets.sigmoid_focal(alpha=alpha, gamma=gamma)
        super().__init__(sigmoid_loss, dict(presets.combined_sigmoid(own, options)))


class AsymmetricLoss(Loss):
    """`asymmetric_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> AsymmetricLoss()(torch.zeros(1, 1), torch.tensor([[1.0]]))
        tensor(0.3466)
    """

    def __init__(
        self,
        *,
        gamma_neg: float = 4.0,
        gamma_pos: float = 1.0,
        clip: float = 0.05,
        detach_focus: bool = True,
        **options: Unpack[SigmoidPresetOptions],
    ) -> None:
        own = presets.asymmetric(gamma_neg=gamma_neg, gamma_pos=gamma_pos, clip=clip, detach_focus=detach_focus)
        super().__init__(sigmoid_loss, dict(presets.combined_sigmoid(own, options)))


class ClassBalancedSigmoidLoss(Loss):
    """`class_balanced_sigmoid_loss` as a module, same keywords.

    Example:
        >>> import torch
        >>> ClassBalancedSigmoidLoss(class_counts=[50, 50])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(0.6931)
    """

    def __init__(
        self,
        *,
        class_counts: CountsLike | Tensor,
        beta: float = 0.9999,
        gamma: float = 0.0,
        empty: presets.Empty = "error",
        **options: Unpack[SigmoidPresetOptions],
    ) -> None:
        weight, own = presets.class_balanced_sigmoid(class_counts=class_counts, beta=beta, gamma=gamma, empty=empty)
        combined = presets.combined_sigmoid(own, options)
        super().__init__(sigmoid_loss_by_class, {"class_weight": weight, **combined})
