"""Counts to weights: float64 NumPy arrays, no torch. Every loss here takes them as they are."""

from counterpoise.weights.adaptive import AdaptiveWeights, DeferredWeights, adapt_weights
from counterpoise.weights.positives import pos_weight
from counterpoise.weights.priors import Correction, correction, effective_prior
from counterpoise.weights.samples import sample_weights
from counterpoise.weights.schemes import SCHEMES, Scheme, class_weights

__all__ = [
    "SCHEMES",
    "AdaptiveWeights",
    "Correction",
    "DeferredWeights",
    "Scheme",
    "adapt_weights",
    "class_weights",
    "correction",
    "effective_prior",
    "pos_weight",
    "sample_weights",
]
