"""Small image files for the tests of features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from counterpoise.workflow.dataset import load

NUMBERS = {"train": {"dots": 7, "lines": 4}, "val": {"dots": 2, "lines": 2}, "test": {"dots": 3, "lines": 3}}
"""Images per class; 21 in all."""

OPTIONS = {"model": "resnet20", "pretrained": False, "weights": None, "image_size": 12, "resize": "crop"}
"""Of `extract_features`."""


def write_photos(folder: Path):
    """A folder of different images of 16×12 pixels, as a dataset."""
    random = np.random.default_rng(0)
    for split, classes in NUMBERS.items():
        for name, number in classes.items():
            (folder / split / name).mkdir(parents=True)
            for i in range(number):
                write_photo(folder / split / name / f"{i}.png", random)
    return load(folder)


def write_photo(path: Path, random: np.random.Generator) -> None:
    """One image of random pixels."""
    Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
