"""Models by name or by a function of the caller: small residual networks, timm and torchvision, and their heads."""

from counterpoise.models.build import Classifier, build_head, build_model, check_model, set_memory_format
from counterpoise.models.factory import CustomModel, inspect_model
from counterpoise.models.frozen import (
    FeatureExtractor,
    FrozenClassifier,
    Standardize,
    build_extractor,
    folded,
    round_to_half,
)
from counterpoise.models.heads import CosineHead, HierarchicalHead, leaf_log_probabilities
from counterpoise.models.resnet import CifarResNet
from counterpoise.models.weight_files import WeightFile, load_weights

__all__ = [
    "CifarResNet",
    "Classifier",
    "CosineHead",
    "CustomModel",
    "FeatureExtractor",
    "FrozenClassifier",
    "HierarchicalHead",
    "Standardize",
    "WeightFile",
    "build_extractor",
    "build_head",
    "build_model",
    "check_model",
    "folded",
    "inspect_model",
    "leaf_log_probabilities",
    "load_weights",
    "round_to_half",
    "set_memory_format",
]
