"""load: an image folder, a manifest or the embedded digits → `ImageDataset`, a `LabeledImages`."""

from counterpoise.workflow.dataset.images import ImageDataset
from counterpoise.workflow.dataset.loading import load

__all__ = ["ImageDataset", "load"]
