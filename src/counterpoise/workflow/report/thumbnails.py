"""Small pictures of images as data URIs, encoded again, so that no metadata of a file is in a page."""

from __future__ import annotations

import base64
import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray

THUMBNAIL_SIZE = 64
JPEG_QUALITY = 85


def data_uri(pixels: NDArray[np.uint8], *, size: int = THUMBNAIL_SIZE, format: Literal["PNG", "JPEG"] = "PNG") -> str:
    """Encode an image of at most ``size`` × ``size`` pixels as a data URI; a larger one is scaled down.

    Args:
        pixels: uint8 ``(H, W, 3)`` or ``(H, W)``.
        size: largest width and height.
        format: "PNG" is exact; "JPEG" is about a quarter of the size for photographs.

    Example:
        >>> data_uri(np.zeros((8, 8, 3), dtype=np.uint8))[:22]
        'data:image/png;base64,'
    """
    from PIL import Image

    picture = Image.fromarray(np.asarray(pixels, dtype=np.uint8)).convert("RGB")
    picture.thumbnail((size, size))
    buffer = io.BytesIO()
    options = {"quality": JPEG_QUALITY} if format == "JPEG" else {}
    picture.save(buffer, format, optimize=True, **options)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
