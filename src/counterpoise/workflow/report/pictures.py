"""`Thumbnailer`: the pictures of one page, from the images of a dataset, limited in pixels and bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import DatasetError
from counterpoise.core.images import LabeledImages, Thumbnails
from counterpoise.core.text import plural
from counterpoise.workflow.report import formatting as fmt
from counterpoise.workflow.report.page import Cell, Paragraph, Picture
from counterpoise.workflow.report.thumbnails import data_uri

SIZE = 112
"""Pixels per side of a picture, at most."""
MAX_BYTES = 3_000_000
"""All pictures of a page have at most this many bytes, as they are in the HTML."""
_LOSSLESS = 48
"""Images of at most this many pixels per side are encoded exactly."""


class Thumbnailer:
    """Encodes images of a dataset for one page, and counts those that it cannot show."""

    def __init__(self, images: LabeledImages | Thumbnails) -> None:
        self._images = images
        self._rows: dict[str, int] | None = None
        self._bytes = 0
        self._missing = self._omitted = 0

    def picture(self, path: str, caption: tuple[Cell, ...], alt: str, *, expected: bool = True) -> Picture:
        """The image with this path; without a source if it cannot be read, which counts only if it is ``expected``."""
        pixels = self._pixels(path)
        if pixels is None:
            self._missing += expected
            return Picture("", alt, 0, 0, caption)
        source = data_uri(pixels, size=SIZE, format="PNG" if max(pixels.shape) <= _LOSSLESS else "JPEG")
        if self._bytes + len(source) > MAX_BYTES:
            self._omitted += 1
            return Picture("", alt, 0, 0, caption)
        self._bytes += len(source)
        return Picture(source, alt, pixels.shape[1], pixels.shape[0], caption)

    def note(self) -> Paragraph | None:
        """Which pictures since the last note are not shown, and why; None if all are."""
        missing, omitted, self._missing, self._omitted = self._missing, self._omitted, 0, 0
        sentences = []
        if missing:
            verb, place = ("is" if missing == 1 else "are"), fmt.clean_message(self._images.name, 120)
            sentences.append(
                f"{plural(missing, 'picture')} {verb} not shown, because the files are no longer at {place}, or cannot "
                "be read. To show them, state the place of the dataset: `counterpoise report DIR --data DATA`."
            )
        if omitted:
            verb = "is" if omitted == 1 else "are"
            limit = f"{MAX_BYTES // 1_000_000} MB"
            sentences.append(
                f"{plural(omitted, 'picture')} {verb} not shown, because a page has at most {limit} of them."
            )
        return Paragraph(" ".join(sentences)) if sentences else None

    def _pixels(self, path: str) -> NDArray[np.uint8] | None:
        if isinstance(self._images, Thumbnails):
            try:
                return self._images.thumbnail(path, SIZE)
            except DatasetError:
                return None
        try:
            return self._scaled(path, self._images)
        except Exception:  # a dataset of the user may raise anything for a broken file; the audit reports it
            return None

    def _scaled(self, path: str, images: LabeledImages) -> NDArray[np.uint8] | None:
        """An image of a dataset that has no thumbnails."""
        from PIL import Image

        row = self._row(path, images)
        if row is None:
            return None
        image = Image.fromarray(np.asarray(images[row], dtype=np.uint8)).convert("RGB")
        image.thumbnail((SIZE, SIZE))
        return np.array(image)

    def _row(self, path: str, images: LabeledImages) -> int | None:
        if self._rows is None:
            self._rows = {name: row for row, name in enumerate(images.paths)}
        return self._rows.get(path)
