"""`Explanation`: text, equations, charts and tables that describe one loss, weighting, sampler or strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from counterpoise.core.codec import Artifact


@dataclass(frozen=True)
class Curve:
    """One curve of a chart: a value for each ``x`` of the chart, None where the value is not defined."""

    name: str
    y: tuple[float | None, ...]


@dataclass(frozen=True)
class VerticalLine:
    """A vertical line at ``x``, for example a decision boundary or a threshold."""

    name: str
    x: float


@dataclass(frozen=True)
class Chart:
    """Curves over a common x axis.

    Args:
        id: unique within the explanation.
        title: shown above the chart.
        caption: one or two sentences below the title.
        x_title: title of the x axis.
        y_title: title of the y axis.
        x: the positions at which every curve has a value.
        curves: the curves, in the order of the legend.
        lines: vertical lines.
        x_log: whether the x axis is logarithmic.
        y_log: whether the y axis is logarithmic.
        points: whether ``x`` holds separate points (for example class counts), so that each one is marked.
    """

    id: str
    title: str
    caption: str
    x_title: str
    y_title: str
    x: tuple[float, ...]
    curves: tuple[Curve, ...]
    lines: tuple[VerticalLine, ...] = ()
    x_log: bool = False
    y_log: bool = False
    points: bool = False


@dataclass(frozen=True)
class ExplanationTable:
    """A table whose cells are text or numbers; the first cell of a row is the row's heading."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A small picture with its label; ``source`` is a data URI of a PNG or JPEG file."""

    label: str
    source: str


@dataclass(frozen=True)
class ExplanationPictures:
    """Rows of pictures under one caption."""

    caption: str
    rows: tuple[tuple[Picture, ...], ...]


@dataclass(frozen=True)
class ExplanationSection:
    """A heading with paragraphs, an equation, charts, tables, pictures, Python code that can be run, and a reference.

    Args:
        equation: one or several lines of plain text.
        latex: the same lines in LaTeX, as a page draws them.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    equation: str = ""
    charts: tuple[Chart, ...] = ()
    tables: tuple[ExplanationTable, ...] = ()
    code: str = ""
    reference: str = ""
    latex: str = ""
    pictures: tuple[ExplanationPictures, ...] = ()


@dataclass(frozen=True)
class Explanation(Artifact):
    """The page of one name: a summary, its costs (each with what to do about it), notes, and sections."""

    versions: ClassVar[tuple[int, ...]] = (2,)

    name: str
    kind: str
    summary: str
    costs: tuple[str, ...]
    notes: tuple[str, ...]
    sections: tuple[ExplanationSection, ...]

    @property
    def charts(self) -> tuple[Chart, ...]:
        """The charts of all sections, in reading order."""
        return tuple(chart for section in self.sections for chart in section.charts)
