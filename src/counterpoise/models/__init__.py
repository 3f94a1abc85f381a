"""Networks and heads: small residual networks, a cosine head, and any model of timm or torchvision by name."""

from counterpoise.models.build import Classifier, build_model, check_model
from counterpoise.models.heads import CosineHead
from counterpoise.models.hierarchical import HierarchicalHead, leaf_log_probabilities
from counterpoise.models.resnet import CifarResNet

__all__ = [
    "CifarResNet",
    "Classifier",
    "CosineHead",
    "HierarchicalHead",
    "build_model",
    "check_model",
    "leaf_log_probabilities",
]
