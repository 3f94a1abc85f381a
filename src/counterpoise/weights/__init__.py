"""Class weights, sample weights and class priors as float64 NumPy arrays, which every loss here accepts; no torch."""

from counterpoise.weights.adaptive import AdaptiveWeights, DeferredWeights, adapt_weights
from counterpoise.weights.priors import Correction, correction, effective_prior
from counterpoise.weights.schemes import SCHEMES, Scheme, class_weights, pos_weight, sample_weights

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
