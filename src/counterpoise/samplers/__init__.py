"""Labels to index order: one global order from (seed, epoch), the same on every rank; hosts shard it."""

from counterpoise.samplers.balanced import ClassBalancedSampler, ProgressiveSampler
from counterpoise.samplers.labels import labels_of
from counterpoise.samplers.repeat import RepeatFactorSampler
from counterpoise.samplers.resample import ResampleSampler
from counterpoise.samplers.sampler import OrderedSampler

__all__ = [
    "ClassBalancedSampler",
    "OrderedSampler",
    "ProgressiveSampler",
    "RepeatFactorSampler",
    "ResampleSampler",
    "labels_of",
]
