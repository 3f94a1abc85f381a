"""From an image file to RGB uint8; the one place where pixels are read."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from counterpoise.workflow.dataset.header import MAX_PIXELS, UnreadableImage

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["opened", "read_image", "to_rgb"]

# Nothing else is ever tried: Pillow would run Ghostscript on an EPS that calls itself x.jpg.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Decode an image file: RGB, uint8 ``(H, W, 3)``, upright as its EXIF orientation says.

    Of an animation, the first frame. See `to_rgb` for the other colour modes.

    Raises:
        UnreadableImage: it cannot be decoded, whatever the reason.
    """
    with opened(path, _FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImage(f"refused: {image.width}×{image.height} pixels, the limit is {MAX_PIXELS:,}")
        image.load()
        return np.array(to_rgb(_upright(image)), dtype=np.uint8)


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], formats: tuple[str, ...]) -> Iterator[Image]:
    """Open an image with Pillow; whatever goes wrong in the block is an `UnreadableImage` with the reason."""
    from PIL import Image, UnidentifiedImageError

    # Pillow warns of odd metadata (damaged EXIF, unknown TIFF tags), which does not touch the pixels. With threads
    # this filter may outlive the block; it names Pillow alone, so nobody else's warnings are lost.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            with Image.open(path, formats=formats) as image:
                yield image
        except UnreadableImage:
            raise
        except UnidentifiedImageError as error:  # its message has the absolute path
            raise UnreadableImage(f"cannot be decoded: no {'/'.join(formats)} inside") from error
        except Exception as error:  # damaged bytes make decoders raise anything: struct.error, SyntaxError …
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UnreadableImage(f"cannot be decoded: {reason}") from error


def to_rgb(image: Image) -> Image:
    """RGB from any mode, by these rules.

    Grey (``1``, ``L``) is repeated; palettes are looked up; transparency is dropped, as torchvision does; CMYK, YCbCr,
    LAB and HSV are converted; 16-bit grey (``I;16``, and ``I`` clipped to 16 bits) is divided by 257, where Pillow
    alone would clip everything above 255 to white. Floating point (``F``) is refused: its range is unknown.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels have no known range; save the image with 8 or 16 bits")
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _from_16_bits(image: Image) -> Image:
    from PIL import Image as pillow

    grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
    return pillow.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")


def _upright(image: Image) -> Image:
    """Turn the image as its EXIF orientation says; damaged EXIF turns nothing."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF is foreign bytes too; the pixels are fine without it
        return image
