"""Loss functions and modules for imbalanced data.

Every classification loss is a special case of the general softmax loss or of the general sigmoid loss, and the overlap
losses are special cases of the Tversky loss. In their documentation a row is one classification: an image of ``(N, C)``
logits, or a pixel of ``(N, C, H, W)`` logits.
"""

from counterpoise.losses.arguments import checks
from counterpoise.losses.asymmetric_softmax import AsymmetricSoftmaxLoss, asymmetric_softmax_loss
from counterpoise.losses.class_balanced import (
    ClassBalancedLoss,
    ClassBalancedSigmoidLoss,
    class_balanced_loss,
    class_balanced_sigmoid_loss,
)
from counterpoise.losses.dice import DiceLoss, JaccardLoss, dice_loss, jaccard_loss
from counterpoise.losses.hierarchical import HierarchicalLoss, hierarchical_loss
from counterpoise.losses.linear import linear_softmax_loss
from counterpoise.losses.logit_adjusted import (
    BalancedSoftmaxLoss,
    LogitAdjustedLoss,
    VectorScalingLoss,
    balanced_softmax_loss,
    logit_adjusted_loss,
    vector_scaling_loss,
)
from counterpoise.losses.margins import LabelAwareSmoothingLoss, LDAMLoss, label_aware_smoothing_loss, ldam_loss
from counterpoise.losses.normalizer import global_normalizer
from counterpoise.losses.overlap import FocalTverskyLoss, TverskyLoss, focal_tversky_loss, tversky_loss
from counterpoise.losses.sigmoid import (
    AsymmetricLoss,
    BinaryCrossEntropyLoss,
    SigmoidFocalLoss,
    SigmoidLoss,
    asymmetric_loss,
    binary_cross_entropy,
    sigmoid_focal_loss,
    sigmoid_loss,
)
from counterpoise.losses.softmax import (
    CrossEntropyLoss,
    FocalLoss,
    PolyLoss,
    SoftmaxLoss,
    cross_entropy,
    focal_loss,
    poly_loss,
    softmax_loss,
)

__all__ = [
    "AsymmetricLoss",
    "AsymmetricSoftmaxLoss",
    "BalancedSoftmaxLoss",
    "BinaryCrossEntropyLoss",
    "ClassBalancedLoss",
    "ClassBalancedSigmoidLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "HierarchicalLoss",
    "JaccardLoss",
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
    "asymmetric_softmax_loss",
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
    "jaccard_loss",
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
