"""`ImageFiles`: thumbnails of the images in a folder by their paths; no path leads out of the folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import DatasetError
from counterpoise.workflow.dataset.decoding import read_reduced

if TYPE_CHECKING:
    from PIL.Image import Image


def scaled_down(image: Image, size: int) -> NDArray[np.uint8]:
    """The pixels of an RGB image, at most ``size`` per side; a smaller image stays as it is."""
    image.thumbnail((size, size), reducing_gap=2.0)
    return np.array(image, dtype=np.uint8)


@dataclass(frozen=True)
class ImageFiles:
    """The image files in a folder and below it; a path that leads elsewhere is refused.

    Attributes:
        name: the place of the folder, for messages.
        root: the folder to which paths are relative.
    """

    name: str
    root: Path

    def thumbnail(self, path: str, size: int) -> NDArray[np.uint8]:
        """The image as RGB, uint8 ``(h, w, 3)`` with h and w at most ``size``.

        Raises:
            DatasetError: the file does not exist, is outside the folder, or cannot be decoded.
        """
        try:
            root = Path(os.path.realpath(self.root))
            file = Path(os.path.realpath(root / path))
            is_there = file.is_relative_to(root) and file.is_file()
        except (OSError, ValueError):  # ValueError: a name that this system cannot have
            is_there = False
        if not is_there:
            raise DatasetError(f"{path!r:.200} is not a file in {self.name}; give the place of the dataset")
        return scaled_down(read_reduced(file, size), size)
