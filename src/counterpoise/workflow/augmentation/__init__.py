"""Write a balanced copy of a dataset's training images to disk, with a record of the source of every new file."""

from counterpoise.core.lineage import read_lineage
from counterpoise.workflow.augmentation.balanced_copy import Augmented, augment, preview

__all__ = ["Augmented", "augment", "preview", "read_lineage"]
