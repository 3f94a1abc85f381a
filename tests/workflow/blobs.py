"""A dataset small enough to train on in a second, and hard enough that strategies differ."""

from __future__ import annotations

import numpy as np

from counterpoise.workflow.dataset.images import ImageDataset

CLASSES = ("common", "rare", "rarest")
COUNTS = {"train": (40, 10, 4), "val": (12, 4, 2), "test": (10, 10, 10)}


def blobs(counts: dict[str, tuple[int, ...]] = COUNTS, *, noise: float = 60.0, seed: int = 0) -> ImageDataset:
    """8×8 images of one colour a class under noise; learnable, not trivially."""
    rng = np.random.default_rng(seed)
    labels, splits = [], []
    for split, per_class in counts.items():
        for label, n in enumerate(per_class):
            labels += [label] * n
            splits += [split] * n
    colours = np.array([[150, 110, 110], [110, 150, 110], [110, 110, 150]], dtype=float)
    pixels = colours[labels][:, None, None, :] + rng.normal(0, noise, (len(labels), 8, 8, 3))
    return ImageDataset(
        name="blobs",
        classes=CLASSES,
        labels=np.array(labels),
        paths=tuple(
            f"{split}/{CLASSES[label]}/{i}" for i, (label, split) in enumerate(zip(labels, splits, strict=True))
        ),
        splits=np.array(splits),
        symmetries=frozenset({"hflip"}),
        origin={"kind": "blobs"},
        pixels=pixels.clip(0, 255).astype(np.uint8),
    )
