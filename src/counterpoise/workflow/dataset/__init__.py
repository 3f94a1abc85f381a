"""Load labelled images from a folder, a manifest or the embedded digits: `load` returns an `ImageDataset`."""

from counterpoise.workflow.dataset.images import ImageDataset
from counterpoise.workflow.dataset.loading import as_dataset, check_output, load, open_images
from counterpoise.workflow.dataset.writing import check_manifest_target, write_manifest

__all__ = [
    "ImageDataset",
    "as_dataset",
    "check_manifest_target",
    "check_output",
    "load",
    "open_images",
    "write_manifest",
]
