"""What every lesson is made of: prose and parts about one ingredient of a strategy, and the numbers in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from counterpoise.core.counts import ClassCounts
from counterpoise.core.explanation import Chart, Curve, ExplanationSection, ExplanationTable

__all__ = ["COUNTS", "PICKED", "Lesson", "curve", "images", "over_counts", "rounded", "sheet"]

COUNTS = ClassCounts([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])
"""The example of all lessons: CIFAR-10-LT with ratio 100, n_c = 5000 · 100^(−c/9)."""
PICKED = (0, 4, 9)
"""The largest class of the example, one in the middle, the rarest."""


@dataclass(frozen=True)
class Lesson:
    """One ingredient: a sentence, what it costs, what to keep in mind, and the parts of its page."""

    summary: str
    costs: tuple[str, ...]
    notes: tuple[str, ...]
    sections: tuple[ExplanationSection, ...]


def rounded(values: Iterable[Any]) -> tuple[float, ...]:
    """Six significant digits: more than a screen shows, and a page of half the size."""
    return tuple(float(f"{float(value):.6g}") for value in values)


def curve(name: str, values: Iterable[Any]) -> Curve:
    """A curve; what is not finite has no point."""
    return Curve(name, tuple(y if np.isfinite(y) else None for y in rounded(values)))


def sheet(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *notes: str) -> ExplanationTable:
    """A table, its numbers rounded."""
    cells = (tuple(cell if isinstance(cell, str) else rounded([cell])[0] for cell in row) for row in rows)
    return ExplanationTable(caption, tuple(columns), tuple(cells), notes)


def images(c: int) -> str:
    """A class of the example, by its count."""
    return f"{COUNTS.counts[c]:,} images"


def over_counts(
    id: str, title: str, caption: str, y_title: str, curves: Mapping[str, Any], *, y_log: bool = True
) -> Chart:
    """One value a class of the example, against the images that the class has."""
    drawn = tuple(curve(name, values) for name, values in curves.items())
    return Chart(
        id,
        title,
        caption,
        "Training images of the class",
        y_title,
        rounded(COUNTS.counts),
        drawn,
        x_log=True,
        y_log=y_log,
        points=True,
    )
