"""Counts to weights: float64 NumPy arrays, no torch. Every loss here takes them as they are."""

from counterpoise.weights.positives import pos_weight
from counterpoise.weights.samples import sample_weights
from counterpoise.weights.schemes import SCHEMES, Scheme, class_weights

__all__ = ["SCHEMES", "Scheme", "class_weights", "pos_weight", "sample_weights"]
