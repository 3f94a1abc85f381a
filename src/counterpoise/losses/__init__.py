"""Logits and targets to losses: two equations and an overlap, every named loss a preset of one of them."""

from counterpoise.losses.arguments import checks
from counterpoise.losses.hierarchical import HierarchicalLoss, hierarchical_loss
from counterpoise.losses.linear import linear_softmax_loss
from counterpoise.losses.normalizer import global_normalizer
from counterpoise.losses.overlap import (
    DiceLoss,
    FocalTverskyLoss,
    TverskyLoss,
    dice_loss,
    focal_tversky_loss,
    tversky_loss,
)
from counterpoise.losses.sigmoid import (
    asymmetric_loss,
    binary_cross_entropy,
    class_balanced_sigmoid_loss,
    sigmoid_focal_loss,
    sigmoid_loss,
)
from counterpoise.losses.sigmoid_modules import (
    AsymmetricLoss,
    BinaryCrossEntropyLoss,
    ClassBalancedSigmoidLoss,
    SigmoidFocalLoss,
    SigmoidLoss,
)
from counterpoise.losses.softmax import (
    balanced_softmax_loss,
    class_balanced_loss,
    cross_entropy,
    focal_loss,
    label_aware_smoothing_loss,
    ldam_loss,
    logit_adjusted_loss,
    poly_loss,
    softmax_loss,
    vector_scaling_loss,
)
from counterpoise.losses.softmax_modules import (
    BalancedSoftmaxLoss,
    ClassBalancedLoss,
    CrossEntropyLoss,
    FocalLoss,
    LabelAwareSmoothingLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    PolyLoss,
    SoftmaxLoss,
    VectorScalingLoss,
)

__all__ = [
    "AsymmetricLoss",
    "BalancedSoftmaxLoss",
    "BinaryCrossEntropyLoss",
    "ClassBalancedLoss",
    "ClassBalancedSigmoidLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "HierarchicalLoss",
    "LDAMLoss",
    "LabelAwareSmoothingLoss",
    "LogitAdjustedLoss",
    "PolyLoss",
    "SigmoidFocalLoss",
    "SigmoidLoss",
    "SoftmaxLoss",
    "TverskyLoss",
    "VectorScalingLoss",
    "asymmetric_loss",
    "balanced_softmax_loss",
    "binary_cross_entropy",
    "checks",
    "class_balanced_loss",
    "class_balanced_sigmoid_loss",
    "cross_entropy",
    "dice_loss",
    "focal_loss",
    "focal_tversky_loss",
    "global_normalizer",
    "hierarchical_loss",
    "label_aware_smoothing_loss",
    "ldam_loss",
    "linear_softmax_loss",
    "logit_adjusted_loss",
    "poly_loss",
    "sigmoid_focal_loss",
    "sigmoid_loss",
    "softmax_loss",
    "tversky_loss",
    "vector_scaling_loss",
]
