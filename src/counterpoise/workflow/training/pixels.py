"""Images as tensors of one size: decoded once where they fit in memory, else on demand."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from counterpoise.core.errors import DatasetError
from counterpoise.core.images import LabeledImages

__all__ = ["Batch", "Part", "Pixels", "collate", "fit_to_square"]


class Batch(TypedDict):
    """Images uint8 ``(B, 3, S, S)``, labels int64 ``(B,)``, and rows of the dataset int64 ``(B,)``."""

    images: Tensor
    labels: Tensor
    rows: Tensor


class Pixels(Dataset[Batch]):
    """A dataset of one split as batches of tensors; give it to a DataLoader with ``collate_fn=collate``.

    Args:
        images: the split.
        size: height and width; the shorter side is scaled to it and the centre is cut out.
        cache_bytes: keep the decoded images if they take no more than this; else each is decoded when needed.

    Attributes:
        faults: the images that cannot be decoded, ``{index: reason}``; each is decoded once here to find them.
    """

    def __init__(self, images: LabeledImages, *, size: int, cache_bytes: float) -> None:
        self.images, self.size = images, size
        self.labels = torch.from_numpy(np.array(images.labels, dtype=np.int64))
        self.decoded: Tensor | None = None
        if 3 * size * size * len(images) <= cache_bytes:
            self.decoded = torch.zeros((len(images), 3, size, size), dtype=torch.uint8)
        self.faults = _decode(images, size, self.decoded)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, rows: list[int]) -> Batch:
        """A whole batch at once: one gather where the images are in memory."""
        index = torch.as_tensor(rows)
        if self.decoded is not None:
            images = self.decoded[index]
        else:
            images = torch.stack([_tensor(fit_to_square(self.images[row], self.size)) for row in rows])
        return {"images": images, "labels": self.labels[index], "rows": index}

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])

    def share_memory(self) -> None:
        """Put the tensors where other processes of this machine see them without a copy."""
        for tensor in (self.labels, self.decoded):
            if tensor is not None:
                tensor.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def workers(self) -> int:
        """Worker processes a DataLoader needs: none where all is in memory."""
        return 0 if self.decoded is not None else min(4, os.cpu_count() or 1)


class Part(Dataset[Batch]):
    """Some rows of `Pixels` under other labels, as a dataset of their own."""

    def __init__(self, pixels: Pixels, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        self.pixels, self.rows, self.labels = pixels, torch.from_numpy(rows), torch.from_numpy(labels)
        self.workers = pixels.workers

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, rows: list[int]) -> Batch:
        """A whole batch at once; its rows are those of the dataset."""
        index = torch.as_tensor(rows)
        return {**self.pixels.__getitems__(self.rows[index].tolist()), "labels": self.labels[index]}

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])


def collate(batch: Any) -> Any:
    """For a DataLoader: what `Pixels.__getitems__` returns is the batch already."""
    return batch


def fit_to_square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Scale the shorter side to ``size`` (bilinear, antialiased) and cut out the centre; ``(size, size, 3)`` uint8.

    Example:
        >>> fit_to_square(np.zeros((20, 40, 3), dtype=np.uint8), 10).shape
        (10, 10, 3)
    """
    height, width = image.shape[:2]
    if height == width == size:
        return image
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    # Cut before scaling: Pillow's `box` lets the filter see what lies outside.
    centre = np.ascontiguousarray(image[top : top + side, left : left + side])
    return np.asarray(Image.fromarray(centre).resize((size, size), Image.Resampling.BILINEAR))


def _decode(images: LabeledImages, size: int, out: Tensor | None) -> dict[int, str]:
    """Decode every image into ``out`` where there is one; the reasons of those that cannot be."""

    def one(row: int) -> str | None:
        try:
            image = images[row]
        except DatasetError as error:
            return str(error)
        if out is not None:
            out[row] = _tensor(fit_to_square(image, size))
        return None

    # Decoding large images releases the interpreter; with small ones the threads only wait for each other.
    with ThreadPoolExecutor(1 if size <= 64 else os.cpu_count()) as pool:
        return {row: fault for row, fault in enumerate(pool.map(one, range(len(images)))) if fault is not None}


def _tensor(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
