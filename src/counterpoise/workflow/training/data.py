"""Training images as tensors, and the batches of image indices of every epoch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from counterpoise.core.errors import DatasetError
from counterpoise.core.images import LabeledImages
from counterpoise.samplers import OrderedSampler

__all__ = [
    "EpochBatches",
    "ImageBatch",
    "ImageTensors",
    "PairedEpochBatches",
    "RelabeledImages",
    "SampleOrder",
    "collate",
    "fit_to_square",
    "sampler_order",
    "shuffled_order",
]


class ImageBatch(TypedDict):
    """Images uint8 ``(B, 3, S, S)``, labels int64 ``(B,)``, and indices into the dataset int64 ``(B,)``."""

    images: Tensor
    labels: Tensor
    rows: Tensor


class ImageTensors(Dataset[ImageBatch]):
    """The images of one split as tensors of one size, for a DataLoader with ``collate_fn=collate``.

    Args:
        images: the split.
        size: height and width; the shorter side is scaled to it and the centre is cropped.
        cache_bytes: the decoded images are kept if they need no more than this; else each is decoded when needed.

    Attributes:
        faults: images that cannot be decoded, ``{index: reason}``; every image is decoded once to find them.
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

    def __getitems__(self, rows: list[int]) -> ImageBatch:
        """A whole batch at once: one gather if the images are in memory."""
        index = torch.as_tensor(rows)
        if self.decoded is not None:
            images = self.decoded[index]
        else:
            images = torch.stack([_tensor(fit_to_square(self.images[row], self.size)) for row in rows])
        return {"images": images, "labels": self.labels[index], "rows": index}

    def __getitem__(self, row: int) -> ImageBatch:
        return self.__getitems__([row])

    def share_memory(self) -> None:
        """Move the tensors to shared memory, so that other processes of this machine read them without a copy."""
        for tensor in (self.labels, self.decoded):
            if tensor is not None:
                tensor.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def workers(self) -> int:
        """Worker processes that a DataLoader needs: none if the images are in memory."""
        return 0 if self.decoded is not None else min(4, os.cpu_count() or 1)


class RelabeledImages(Dataset[ImageBatch]):
    """A subset of `ImageTensors` with other labels."""

    def __init__(self, images: ImageTensors, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        self.images, self.rows, self.labels = images, torch.from_numpy(rows), torch.from_numpy(labels)
        self.workers = images.workers

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, rows: list[int]) -> ImageBatch:
        """A whole batch at once; its ``rows`` are indices into the whole dataset."""
        index = torch.as_tensor(rows)
        return {**self.images.__getitems__(self.rows[index].tolist()), "labels": self.labels[index]}

    def __getitem__(self, row: int) -> ImageBatch:
        return self.__getitems__([row])


def collate(batch: Any) -> Any:
    """Collate function of a DataLoader: `ImageTensors.__getitems__` already returns a batch."""
    return batch


def fit_to_square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Scale the shorter side to ``size`` (bilinear, antialiased) and crop the centre; ``(size, size, 3)`` uint8.

    Example:
        >>> fit_to_square(np.zeros((20, 40, 3), dtype=np.uint8), 10).shape
        (10, 10, 3)
    """
    height, width = image.shape[:2]
    if height == width == size:
        return image
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    # Crop before scaling: with Pillow's `box` the filter would read pixels outside the crop.
    centre = np.ascontiguousarray(image[top : top + side, left : left + side])
    return np.asarray(Image.fromarray(centre).resize((size, size), Image.Resampling.BILINEAR))


def _decode(images: LabeledImages, size: int, out: Tensor | None) -> dict[int, str]:
    """Decode every image, into ``out`` if given; return the reasons for those that cannot be decoded."""

    def decode_one(row: int) -> str | None:
        try:
            image = images[row]
        except DatasetError as error:
            return str(error)
        if out is not None:
            out[row] = _tensor(fit_to_square(image, size))
        return None

    # Decoding large images releases the interpreter lock; with small ones threads would only wait for it.
    with ThreadPoolExecutor(1 if size <= 64 else os.cpu_count()) as pool:
        reasons = pool.map(decode_one, range(len(images)))
        return {row: reason for row, reason in enumerate(reasons) if reason is not None}


def _tensor(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True)
class SampleOrder:
    """Passes over the training images: ``draw(number)`` returns the ``length`` indices of one pass.

    Every process draws the same. ``prior`` is the class prior that the passes produce (of the last one, if it
    changes); None for that of the data.
    """

    length: int
    draw: Callable[[int], NDArray[np.int64]]
    prior: NDArray[np.float64] | None = None


def shuffled_order(n: int, seed: int) -> SampleOrder:
    """Instance-balanced sampling: every image once per pass, in an order that depends on (seed, pass)."""
    return SampleOrder(n, lambda number: np.random.default_rng((seed, number)).permutation(n))


def sampler_order(sampler: OrderedSampler) -> SampleOrder:
    """One epoch of a sampler per pass."""

    def draw(number: int) -> NDArray[np.int64]:
        sampler.set_epoch(number)
        return np.concatenate(list(sampler.batches(1 << 16)))

    return SampleOrder(len(sampler), draw, sampler.prior)


class EpochBatches:
    """Batch sampler whose epochs all have ``steps`` batches of ``batch_size`` indices: the equal budget.

    The passes of a strategy that repeats or leaves out images have another length. They follow one another, and each
    epoch takes the next ``steps * batch_size`` indices. The batches are a function of (order, epoch), so that nothing
    has to be saved to resume a training.

    Example:
        >>> batches = EpochBatches(SampleOrder(3, lambda number: np.arange(3)), steps=2, batch_size=2)
        >>> batches.set_epoch(1)
        >>> list(batches)
        [[1, 2], [0, 1]]
    """

    drop_last = False

    def __init__(self, order: SampleOrder, *, steps: int, batch_size: int) -> None:
        self.order, self.steps, self.batch_size = order, steps, batch_size
        self.epoch = 0
        self._last_pass: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        indices = self._indices(self.epoch)
        for start in range(0, len(indices), self.batch_size):
            yield indices[start : start + self.batch_size].tolist()

    def _indices(self, epoch: int) -> NDArray[np.int64]:
        wanted = self.steps * self.batch_size
        number, skip = divmod(epoch * wanted, self.order.length)
        passes, have = [], -skip
        while have < wanted:
            passes.append(self._pass(number))
            have, number = have + self.order.length, number + 1
        return np.concatenate(passes)[skip : skip + wanted]

    def _pass(self, number: int) -> NDArray[np.int64]:
        # An epoch may end within a pass, which the next epoch continues.
        if self._last_pass[0] != number:
            self._last_pass = (number, self.order.draw(number))
        return self._last_pass[1]


class PairedEpochBatches:
    """Batches whose indices alternate between two batch samplers: ``a0 b0 a1 b1 …``.

    Every process thus gets whole pairs, however the batch is divided.

    Example:
        >>> ones, twos = (
        ...     EpochBatches(SampleOrder(1, lambda n, v=v: np.array([v])), steps=1, batch_size=2) for v in (1, 2)
        ... )
        >>> list(PairedEpochBatches(ones, twos))
        [[1, 2, 1, 2]]
    """

    drop_last = False

    def __init__(self, first: EpochBatches, second: EpochBatches) -> None:
        self.first, self.second = first, second
        self.batch_size = first.batch_size + second.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.first.set_epoch(epoch)
        self.second.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[list[int]]:
        for a, b in zip(self.first, self.second, strict=True):
            yield [row for pair in zip(a, b, strict=True) for row in pair]
