"""From a dataset to a balanced copy of its training split on disk, with the lineage of every new file."""

from counterpoise.core.lineage import read_lineage
from counterpoise.workflow.augmentation.augment import Augmented, augment, preview

__all__ = ["Augmented", "augment", "preview", "read_lineage"]
