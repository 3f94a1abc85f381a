"""Images for a trained model: files, folders, PIL images, arrays or a dataset, prepared as in training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from counterpoise.core.errors import ArgumentTypeError, DatasetError
from counterpoise.core.files import display_name, path_exists
from counterpoise.workflow.dataset.decoding import FORMATS, decoded, extension_of, read_image
from counterpoise.workflow.training.data import fit_to_square, to_tensor
from counterpoise.workflow.training.settings import Resize

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[Any]


@dataclass(frozen=True)
class ImageTransform:
    """The preparation of an image for a model: RGB, upright, resized to a square; float32 ``(3, S, S)`` in [0, 1].

    The model itself subtracts the mean and divides by the standard deviation.

    Args:
        size: S, height and width in pixels.
        resize: how the image becomes a square, as in training: "crop" scales the shorter side and crops the centre,
            "pad" scales the longer side and adds black borders, "squash" scales both sides.

    Example:
        >>> ImageTransform(32)(np.zeros((48, 64, 3), dtype=np.uint8)).shape
        torch.Size([3, 32, 32])
    """

    size: int
    resize: Resize = "crop"

    def __call__(self, image: ImageLike) -> Tensor:
        """Prepare a path, a PIL image, or a uint8 array ``(H, W)`` or ``(H, W, 3)``.

        Raises:
            DatasetError: the file cannot be decoded.
            ArgumentTypeError: another kind of object, or an array of another shape or dtype.
        """
        return self.to_uint8(image).float().div_(255)

    def to_uint8(self, image: ImageLike) -> Tensor:
        """The same as uint8 ``(3, S, S)``."""
        return to_tensor(fit_to_square(_pixels(image), self.size, self.resize))


def _pixels(image: ImageLike) -> NDArray[np.uint8]:
    """An image as RGB, uint8 ``(H, W, 3)``."""
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        try:
            return decoded(image)
        except OSError as error:
            raise DatasetError(f"The image cannot be decoded: {error}. Load it again.") from error
    if isinstance(image, np.ndarray):
        fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        if image.dtype != np.uint8 or not fits or not image.size:
            raise ArgumentTypeError(
                f"`images` must be uint8 arrays (H, W, 3) or (H, W); got {image.dtype} {image.shape}"
            )
        grey = image.ndim == 2
        return np.ascontiguousarray(np.repeat(image[..., None], 3, axis=2) if grey else image)
    raise ArgumentTypeError(f"`images` must be paths, PIL images or uint8 arrays; got {type(image).__name__}")


class _Dataset(Sequence[Any]):
    """A dataset as a sequence of arrays."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Any:
        return self.data[index]


def listed_images(images: Any) -> tuple[Sequence[ImageLike], list[str]]:
    """The images as a sequence, and their names: paths, or positions of what has none.

    Raises:
        DatasetError: a path does not exist, or a folder has no images.
    """
    if hasattr(images, "paths") and hasattr(images, "labels"):
        return _Dataset(images), list(images.paths)
    if isinstance(images, str | os.PathLike | Image.Image) or (isinstance(images, np.ndarray) and images.ndim <= 3):
        images = [images]
    if not isinstance(images, Iterable):
        raise ArgumentTypeError(f"`images` must be paths, PIL images or uint8 arrays; got {type(images).__name__}")
    given: list[ImageLike] = []
    for image in images:
        given.extend(_files(Path(image)) if isinstance(image, str | os.PathLike) else [image])
    return given, [os.fspath(x) if isinstance(x, str | os.PathLike) else str(i) for i, x in enumerate(given)]


def _files(path: Path) -> Iterator[str]:
    """The file, or the images in a folder and below, sorted; hidden files and folders are left out."""
    if not path_exists(path):
        raise DatasetError(f"{display_name(str(path))} does not exist; name an image or a folder with images")
    if not path.is_dir():
        yield str(path)
        return
    found = False
    for folder, inner, files in os.walk(path):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if extension_of(name) in FORMATS and not name.startswith("."):
                found = True
                yield os.path.join(folder, name)  # noqa: PTH118 - names that are not UTF-8 stay as they are
    if not found:
        raise DatasetError(f"{display_name(str(path))} has no images ({', '.join(FORMATS)}); name another folder")
