"""From a dataset to a balanced copy of its training split on disk, with the lineage of every new file."""

from counterpoise.workflow.augmentation.augment import Augmented, augment, preview
from counterpoise.workflow.augmentation.lineage import read_lineage

__all__ = ["Augmented", "augment", "preview", "read_lineage"]
