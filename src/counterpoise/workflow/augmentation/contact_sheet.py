"""The contact sheet of a balanced copy: one HTML page with some images of each class and what was made from them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.text import plural
from counterpoise.workflow.augmentation.items import Augmented, Item
from counterpoise.workflow.dataset import ImageDataset
from counterpoise.workflow.dataset.decoding import read_image
from counterpoise.workflow.report import formatting as fmt
from counterpoise.workflow.report import page
from counterpoise.workflow.report.html import page_html
from counterpoise.workflow.report.thumbnails import data_uri

CONTACT_SHEET = "contact-sheet.html"
MAX_CLASSES = 24
MAX_SOURCES = 3
"""Images per class of which the augmented ones are shown."""
MAX_VARIANTS = 5
"""Augmented images per source."""
SIZE = 192
"""Largest side of a picture, so that a page of 24 classes has at most about 5 MB."""
_LOOK = """Look for images in which you no longer recognise the class. If there are some, write the copy again with a
lower `--strength` (`strength=`) or without the operation at fault (`--operations`, `operations=`). If a flip or a
rotation changes the class, name the label-preserving ones with `--symmetries` (`symmetries=` of `load`)."""


def contact_sheet(dataset: ImageDataset, result: Augmented, items: Sequence[Item]) -> str | None:
    """The HTML page of the files that `augment` wrote; None if it made no new image.

    It shows the classes that got the most new images, at most 24, each with up to 3 images and 5 variants of each.
    """
    if not result.made:
        return None
    label_of = dict(zip(dataset.paths, dataset.labels.tolist(), strict=True))
    new = [item for item in items if item.operations]
    by_class = {label: list(group) for label, group in groupby(new, key=lambda item: label_of[item.path])}
    shown = sorted(by_class, key=lambda label: (-len(by_class[label]), label))[:MAX_CLASSES]
    sections = [_section(label, result, by_class[label]) for label in shown]
    subtitle = f"{plural(result.made, 'new image')} in {plural(len(by_class), 'class', 'classes')} of {dataset.name}"
    if len(by_class) > len(shown):
        subtitle += f"; this page shows the {len(shown)} classes with the most new images"
    return page_html(
        page.Page(
            "Contact sheet",
            "Original and augmented images",
            f"{fmt.one_line(subtitle, 200)}.",
            (page.Facts(_facts(result), wide=True), page.Paragraph(" ".join(_LOOK.split()))),
            tuple(sections),
        )
    )


def _facts(result: Augmented) -> tuple[tuple[str, page.Cell], ...]:
    return (
        ("Operations", page.Cell(", ".join(result.operations))),
        ("Strength", page.Cell(f"{result.strength:g}")),
        ("Seed", page.Cell(str(result.seed))),
        ("Target", page.Cell(result.target)),
    )


def _section(label: int, result: Augmented, new: list[Item]) -> page.Section:
    before, after = result.before[label], result.after[label]
    text = f"{plural(before, 'training image')} and {plural(after - before, 'new image')}; {after:,} in all."
    variants: dict[str, list[Item]] = {}
    for item in new:
        if item.path in variants or len(variants) < MAX_SOURCES:
            variants.setdefault(item.path, []).append(item)
    rows = [_row(of_source[:MAX_VARIANTS]) for of_source in variants.values()]
    return page.Section(f"class-{label}", fmt.one_line(result.classes[label]), (page.Paragraph(text), *rows))


def _row(variants: list[Item]) -> page.Images:
    """The original, named by its file, and its variants, named by their operations."""
    source = variants[0]
    name = page.Cell("original", strong=True, detail=fmt.one_line(source.path.rpartition("/")[2], 28))
    made = ((page.Cell(", ".join(item.operations)), _picture(item.target)) for item in variants)
    return page.Images("", ((name, _picture(source.source)), *made), large=True)


def _picture(file: str | Path) -> str:
    """A picture of the file as a data URI; small images stay exact."""
    pixels: NDArray[np.uint8] = np.asarray(read_image(file))
    return data_uri(pixels, size=SIZE, format="JPEG" if max(pixels.shape[:2]) > SIZE // 2 else "PNG")
