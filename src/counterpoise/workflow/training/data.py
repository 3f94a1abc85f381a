"""Training images as tensors, and the batches of image indices of every epoch."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
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
from counterpoise.workflow.training.settings import Resize


class ImageBatch(TypedDict):
    """Images uint8 ``(B, 3, S, S)``, labels int64 ``(B,)``, and indices into the dataset int64 ``(B,)``."""

    images: Tensor
    labels: Tensor
    rows: Tensor


class ImageTensors(Dataset[ImageBatch]):
    """The images of one split as tensors of one size, for a DataLoader with ``collate_fn=collate``.

    Args:
        images: the split.
        size: height and width.
        resize: "crop", "pad" or "squash"; see `fit_to_square`.
        cache_bytes: the decoded images are kept if they need no more than this; else each is decoded when needed.

    Attributes:
        faults: images that cannot be decoded, ``{index: reason}``; every image is decoded once to find them.
    """

    def __init__(self, images: LabeledImages, *, size: int, cache_bytes: float, resize: Resize = "crop") -> None:
        self.images, self.size, self.resize = images, size, resize
        self.labels = torch.from_numpy(np.array(images.labels, dtype=np.int64))
        self.rows: Tensor | None = None  # of the images in ``decoded``; None for all
        self.decoded: Tensor | None = None
        if 3 * size * size * len(images) <= cache_bytes:
            self.decoded = torch.zeros((len(images), 3, size, size), dtype=torch.uint8)
        self.faults = self._decode()

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, rows: list[int]) -> ImageBatch:
        """A whole batch at once: one gather if the images are in memory."""
        index = torch.as_tensor(rows)
        if self.decoded is not None:
            images = self.decoded[index if self.rows is None else self.rows[index]]
        else:
            images = torch.stack([self._tensor(self.images[row]) for row in rows])
        return {"images": images, "labels": self.labels[index], "rows": index}

    def __getitem__(self, row: int) -> ImageBatch:
        """A batch of one image, for a DataLoader that does not call `__getitems__`."""
        return self.__getitems__([row])

    def share_memory(self) -> None:
        """Move the tensors to shared memory, so that other processes of this machine read them without a copy."""
        for tensor in (self.labels, self.decoded):
            if tensor is not None:
                tensor.share_memory_()  # type: ignore[no-untyped-call]

    def with_labels(self, labels: NDArray[np.int64]) -> ImageTensors:
        """The same images with other labels ``(N,)``; the tensors of the images are shared."""
        relabelled = copy.copy(self)
        relabelled.labels = torch.from_numpy(labels)
        return relabelled

    def select(self, rows: NDArray[np.int64], images: LabeledImages) -> ImageTensors:
        """Some of the images, which are ``images`` as a dataset; the tensors of the images are shared."""
        selected = copy.copy(self)
        index = torch.from_numpy(rows)
        selected.images, selected.labels, selected.faults = images, self.labels[index], {}
        selected.rows = index if self.rows is None else self.rows[index]
        return selected

    @property
    def workers(self) -> int:
        """Worker processes that a DataLoader needs: none if the images are in memory."""
        return 0 if self.decoded is not None else min(4, os.cpu_count() or 1)

    def _tensor(self, image: NDArray[np.uint8]) -> Tensor:
        return to_tensor(fit_to_square(image, self.size, self.resize))

    def _decode(self) -> dict[int, str]:
        """Decode every image, and keep it if there is memory; return the reasons for those that cannot be decoded."""

        def decode_one(row: int) -> str | None:
            try:
                image = self.images[row]
            except DatasetError as error:
                return str(error)
            if self.decoded is not None:
                self.decoded[row] = self._tensor(image)
            return None

        # Decoding large images releases the interpreter lock; with small ones threads would only wait for it.
        with ThreadPoolExecutor(1 if self.size <= 64 else os.cpu_count()) as pool:
            reasons = pool.map(decode_one, range(len(self.images)))
            return {row: reason for row, reason in enumerate(reasons) if reason is not None}


def collate(batch: Any) -> Any:
    """Collate function of a DataLoader: `ImageTensors.__getitems__` already returns a batch."""
    return batch


def fit_to_square(image: NDArray[np.uint8], size: int, resize: Resize = "crop") -> NDArray[np.uint8]:
    """Scale an image (bilinear, antialiased) to a square ``(size, size, 3)`` uint8.

    Args:
        image: uint8 ``(H, W, 3)``.
        size: side of the square in pixels.
        resize: "crop" scales the shorter side and crops the centre; "pad" scales the longer side and adds black borders
            of equal width; "squash" scales both sides.

    Example:
        >>> fit_to_square(np.zeros((20, 40, 3), dtype=np.uint8), 10).shape
        (10, 10, 3)
    """
    height, width = image.shape[:2]
    if height == width == size:
        return image
    if resize != "crop":
        return _whole(image, size, pad=resize == "pad")
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    # Crop before scaling: with Pillow's `box` the filter would read pixels outside the crop.
    centre = np.ascontiguousarray(image[top : top + side, left : left + side])
    return np.asarray(Image.fromarray(centre).resize((size, size), Image.Resampling.BILINEAR))


def _whole(image: NDArray[np.uint8], size: int, *, pad: bool) -> NDArray[np.uint8]:
    """The whole image scaled to a square, with its proportions and black borders or without."""
    height, width = image.shape[:2]
    longer = max(height, width)
    shape = (max(1, round(width * size / longer)), max(1, round(height * size / longer))) if pad else (size, size)
    scaled = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(shape, Image.Resampling.BILINEAR))
    square = np.zeros((size, size, 3), dtype=np.uint8)
    left, top = (size - shape[0]) // 2, (size - shape[1]) // 2
    square[top : top + shape[1], left : left + shape[0]] = scaled
    return square


def to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """An image ``(H, W, 3)`` as a tensor uint8 ``(3, H, W)``."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True)
class SampleOrder:
    """Deterministic order of the training images: ``draw(pass_index)`` returns the ``length`` indices of that pass.

    Every process gets the same order. ``sampling_prior`` is the class prior that the passes produce (of the last one,
    if it changes); None for that of the data.
    """

    length: int
    draw: Callable[[int], NDArray[np.int64]]
    sampling_prior: NDArray[np.float64] | None = None

    def within(self, rows: NDArray[np.int64]) -> SampleOrder:
        """The order of a subset as indices into the whole dataset; ``rows`` has the indices of the subset."""
        return replace(self, draw=lambda pass_index: rows[self.draw(pass_index)])


def shuffled_order(n: int, seed: int) -> SampleOrder:
    """Instance-balanced sampling: every image once per pass, in an order that depends on (seed, pass)."""
    return SampleOrder(n, lambda pass_index: np.random.default_rng((seed, pass_index)).permutation(n))


def sampler_order(sampler: OrderedSampler) -> SampleOrder:
    """One epoch of a sampler per pass."""

    def draw(pass_index: int) -> NDArray[np.int64]:
        sampler.set_epoch(pass_index)
        return np.concatenate(list(sampler.batches(1 << 16)))

    return SampleOrder(len(sampler), draw, sampler.prior)


class EpochBatches:
    """Batch sampler whose epochs all have ``steps`` batches of ``batch_size`` indices: the equal budget.

    The passes of a strategy that repeats or leaves out images have another length. They follow one another, and each
    epoch takes the next ``steps * batch_size`` indices. The batches are a function of (orders, epoch), so that nothing
    has to be saved to resume training. With two orders their indices alternate, ``a0 b0 a1 b1 …``, and a batch has
    ``batch_size`` of each; every process thus gets whole pairs.

    Example:
        >>> batches = EpochBatches(SampleOrder(3, lambda pass_index: np.arange(3)), steps=2, batch_size=2)
        >>> batches.set_epoch(1)
        >>> list(batches)
        [[1, 2], [0, 1]]
    """

    drop_last = False

    def __init__(self, *orders: SampleOrder, steps: int, batch_size: int) -> None:
        # An epoch may end within a pass, which the next epoch continues: the last pass is kept.
        self.draws = [(order.length, lru_cache(maxsize=1)(order.draw)) for order in orders]
        self.steps, self.batch_size, self.epoch = steps, batch_size * len(orders), 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        wanted = self.steps * self.batch_size // len(self.draws)
        indices = []
        for length, draw in self.draws:
            first, skip = divmod(self.epoch * wanted, length)
            passes = range(first, first - (-(skip + wanted) // length))
            indices.append(np.concatenate([draw(n) for n in passes])[skip : skip + wanted])
        for batch in np.stack(indices, axis=1).reshape(self.steps, self.batch_size):
            yield batch.tolist()
