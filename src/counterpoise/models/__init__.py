"""Models by name: small residual networks, timm and torchvision backbones, cosine and hierarchical heads."""

from counterpoise.models.build import Classifier, build_model, check_model
from counterpoise.models.heads import CosineHead, HierarchicalHead, leaf_log_probabilities
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
