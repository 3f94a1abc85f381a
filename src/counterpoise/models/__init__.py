"""Models by name: small residual networks, timm and torchvision backbones, cosine and hierarchical heads."""

from counterpoise.models.build import Classifier, build_head, build_model, check_model
from counterpoise.models.frozen import FeatureExtractor, FrozenClassifier, Standardize, build_extractor, round_to_half
from counterpoise.models.heads import CosineHead, HierarchicalHead, leaf_log_probabilities
from counterpoise.models.resnet import CifarResNet

__all__ = [
    "CifarResNet",
    "Classifier",
    "CosineHead",
    "FeatureExtractor",
    "FrozenClassifier",
    "HierarchicalHead",
    "Standardize",
    "build_extractor",
    "build_head",
    "build_model",
    "check_model",
    "leaf_log_probabilities",
    "round_to_half",
]
