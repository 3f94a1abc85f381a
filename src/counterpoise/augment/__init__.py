"""Augmentation of images: of whole batches, with a strength per class, and by mixing two images."""

from counterpoise.augment.batch import random_crop, random_symmetry
from counterpoise.augment.conditional import ClassConditional, rarity_strength, repeat_strength, some_of
from counterpoise.augment.mixing import cmo, cutmix, mixup, remix
from counterpoise.augment.operations import OPERATIONS, strengthened

__all__ = [
    "OPERATIONS",
    "ClassConditional",
    "cmo",
    "cutmix",
    "mixup",
    "random_crop",
    "random_symmetry",
    "rarity_strength",
    "remix",
    "repeat_strength",
    "some_of",
    "strengthened",
]
