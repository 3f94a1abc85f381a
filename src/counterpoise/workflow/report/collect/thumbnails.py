"""Small pictures of the data: pixels only, encoded anew, so that nothing else of a file travels along."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from counterpoise.core.images import LabeledImages
from counterpoise.workflow.report.collect.pieces import shown_classes
from counterpoise.workflow.report.page import Images, Thumbnail

__all__ = ["thumbnails"]

SIDE = 64


def thumbnails(data: LabeledImages) -> tuple[Images, ...]:
    """The first training image of every class shown; a class without one, or whose file cannot be read, is left out."""
    counts = data.counts("train")
    kept = shown_classes(data.classes, counts.counts.tolist())
    training = np.flatnonzero(data.splits == "train")
    pictures = []
    for index, cell in zip(kept.ids, kept.cells, strict=True):
        here = training[data.labels[training] == index]
        source = _data_address(data, int(here[0])) if here.size else None
        if source is not None:
            pictures.append(Thumbnail(cell, source))
    caption = "The first training image of each class"
    return (Images(caption, tuple(pictures)),) if pictures else ()


def _data_address(data: LabeledImages, index: int) -> str | None:
    from PIL import Image

    try:
        pixels: Any = data[index]
    except Exception:  # whatever a reader raises on a broken file: the audit reports it, a picture of it is not needed
        return None
    picture = Image.fromarray(np.asarray(pixels, dtype=np.uint8)).convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
