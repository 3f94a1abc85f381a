"""LabeledImages: what every stage may ask of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.counts import ClassCounts

__all__ = ["SPLITS", "SYMMETRIES", "LabeledImages", "Split", "Symmetry"]

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Symmetry = Literal["hflip", "vflip", "rot90"]
SYMMETRIES: tuple[Symmetry, ...] = ("hflip", "vflip", "rot90")


@runtime_checkable
class LabeledImages(Protocol):
    """Images with one class each, in splits; images are decoded only when asked for.

    Attributes:
        name: what the report calls the dataset.
        classes: C class names; the order is that of the model's outputs.
        labels: int64 ``(N,)``, indices into ``classes``.
        paths: N identifiers, relative to the dataset's root with forward slashes; unique.
        splits: N split names, a NumPy array of strings: "train", "val" or "test".
        symmetries: the changes of an image that keep its label ("hflip", "vflip", "rot90").
    """

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    paths: tuple[str, ...]
    splits: NDArray[np.str_]
    symmetries: frozenset[Symmetry]

    def __len__(self) -> int:
        """The number of images, N."""
        ...

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """The image as RGB, uint8 ``(H, W, 3)``."""
        ...

    def subset(self, split: Split) -> LabeledImages:
        """The images of one split, in order; all classes stay, also those without images."""
        ...

    def counts(self, split: Split = "train") -> ClassCounts:
        """Images per class in one split."""
        ...

    def quarantine(self, faults: Mapping[int, str]) -> LabeledImages:
        """The dataset without the images of these indices, each with the reason why it is left out."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """How the dataset was made: source, seed, fraction, faults; for the record of a run."""
        ...
