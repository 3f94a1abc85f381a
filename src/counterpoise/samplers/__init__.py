"""Samplers for imbalanced classes: each yields one global index order from (seed, epoch), the same on every rank."""

from counterpoise.samplers.balanced import ClassBalancedSampler, ProgressiveSampler
from counterpoise.samplers.base import OrderedSampler
from counterpoise.samplers.labels import labels_of
from counterpoise.samplers.repeat_factor import RepeatFactorSampler
from counterpoise.samplers.resample import ResampleSampler

__all__ = [
    "ClassBalancedSampler",
    "OrderedSampler",
    "ProgressiveSampler",
    "RepeatFactorSampler",
    "ResampleSampler",
    "labels_of",
]
