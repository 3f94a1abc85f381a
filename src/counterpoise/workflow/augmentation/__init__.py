"""Copies of a dataset on disk: balanced by augmented images, or long-tailed, with the source of every file."""

from counterpoise.core.lineage import read_lineage
from counterpoise.workflow.augmentation.balanced_copy import augment, preview
from counterpoise.workflow.augmentation.items import Augmented
from counterpoise.workflow.augmentation.longtail import LongTail, longtail_counts, make_longtail

__all__ = ["Augmented", "LongTail", "augment", "longtail_counts", "make_longtail", "preview", "read_lineage"]
