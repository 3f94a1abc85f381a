"""Logits and targets to losses: two equations, every named loss a preset of one of them."""

from counterpoise.losses.arguments import checks
from counterpoise.losses.modules import (
    BalancedSoftmaxLoss,
    ClassBalancedLoss,
    CrossEntropyLoss,
    FocalLoss,
    LogitAdjustedLoss,
    SoftmaxLoss,
)
from counterpoise.losses.softmax import (
    balanced_softmax_loss,
    class_balanced_loss,
    cross_entropy,
    focal_loss,
    logit_adjusted_loss,
    softmax_loss,
)

__all__ = [
    "BalancedSoftmaxLoss",
    "ClassBalancedLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LogitAdjustedLoss",
    "SoftmaxLoss",
    "balanced_softmax_loss",
    "checks",
    "class_balanced_loss",
    "cross_entropy",
    "focal_loss",
    "logit_adjusted_loss",
    "softmax_loss",
]
