"""Augmentation: image or batch → image or batch."""

from counterpoise.augment.batch import random_crop, random_symmetry

__all__ = ["random_crop", "random_symmetry"]
