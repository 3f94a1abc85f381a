"""The structure of a report page (sections of text, tables and figures), independent of the output format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from counterpoise.core.artifacts import Finding

VegaSpec = dict[str, Any]
"""A Vega-Lite specification."""
Row = dict[str, Any]
"""One row of the data of a chart."""
Tone = Literal["good", "neutral", "bad", "plain"]


@dataclass(frozen=True)
class Series:
    """A strategy (or curve) in figures: ``slot`` fixes its colour and its mark on the whole page."""

    name: str
    slot: int


@dataclass(frozen=True)
class Cell:
    """A table cell with formatted text, and ``detail`` in a smaller font.

    ``missing_reason`` explains a dash, ``full`` is the complete text if ``text`` is shortened, ``series`` the strategy
    whose mark is shown. ``is_name`` marks text from the data (class, file), which never contains markup. HTML shows
    ``picture`` before the text.
    """

    text: str
    missing_reason: str = ""
    full: str = ""
    series: Series | None = None
    is_name: bool = False
    detail: str = ""
    strong: bool = False
    picture: Picture | None = None


@dataclass(frozen=True)
class Column:
    """A column heading; ``definition`` explains it in one sentence, numeric columns are right-aligned."""

    title: str
    definition: str = ""
    numeric: bool = True


def text_columns(*titles: str) -> tuple[Column, ...]:
    """Left-aligned columns with these titles."""
    return tuple(Column(title, numeric=False) for title in titles)


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of a row is its heading, ``highlighted`` holds indices of rows."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    folded: bool = False
    highlighted: frozenset[int] = frozenset()

    @property
    def missing_reasons(self) -> tuple[str, ...]:
        """The distinct reasons for missing values, in reading order."""
        return tuple(dict.fromkeys(cell.missing_reason for row in self.rows for cell in row if cell.missing_reason))


@dataclass(frozen=True)
class Variant:
    """One version of a figure, for example of one strategy; its chart is built only when it is written.

    ``series`` are the strategies in it if they are fewer than those of the figure.
    """

    label: str
    spec: Callable[[], VegaSpec]
    series: tuple[Series, ...] = ()


@dataclass(frozen=True)
class LegendEntry:
    """A mark in a figure's legend, with the name of its colour in the theme and its shape."""

    label: str
    colour: str
    shape: str
    hollow: bool = False


@dataclass(frozen=True)
class Figure:
    """A chart with a text alternative and a table of the same numbers.

    Attributes:
        id: unique on the page; names the figure in ``render(..., figure=...)``.
        alt_text: describes the figure for readers who cannot see it.
        variants: at least one; with several, the reader selects one from a list labelled ``variant_label``.
        series: the strategies (or curves) in the chart, each of which the reader can highlight.
        legend: the meaning of the other marks.
    """

    id: str
    title: str
    caption: str
    alt_text: str
    variants: tuple[Variant, ...]
    variant_label: str = ""
    series: tuple[Series, ...] = ()
    legend: tuple[LegendEntry, ...] = ()
    table: Table | None = None


@dataclass(frozen=True)
class FigureGroup:
    """Figures that are shown side by side if the page is wide enough."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Headline:
    """The main result of the page: a label, a sentence, the trade-offs, and notes."""

    label: str
    tone: Tone
    text: str
    trade_offs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Names with values, as a list or (``wide``) as a row of large numbers."""

    facts: tuple[tuple[str, Cell], ...]
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Findings:
    """Findings in order of severity; ``fallback`` is the text if there are none."""

    findings: tuple[Finding, ...]
    fallback: str
    omitted: int = 0


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text; text in backticks is code."""

    text: str


@dataclass(frozen=True)
class Code:
    """Python code that runs as it stands, or preformatted text."""

    caption: str
    text: str
    language: Literal["python", "text"] = "python"


@dataclass(frozen=True)
class Equation:
    """Lines of an equation as plain text and in LaTeX, which HTML shows as MathML."""

    caption: str
    text: str
    latex: str


@dataclass(frozen=True)
class Definitions:
    """Terms with their definitions."""

    terms: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Images:
    """Thumbnails of the data: the label and the data URI of each image; ``large`` ones are as wide as fits six."""

    caption: str
    images: tuple[tuple[Cell, str], ...]
    large: bool = False


@dataclass(frozen=True)
class Picture:
    """A small image with the lines of its caption.

    ``source`` is a data URL, empty if the image is not available; ``alt`` says what it shows to readers who cannot see
    it, ``width`` and ``height`` are its size in pixels.
    """

    source: str
    alt: str
    width: int
    height: int
    caption: tuple[Cell, ...]


@dataclass(frozen=True)
class PictureGroup:
    """Pictures that belong together, under a heading and a sentence; either may be empty."""

    pictures: tuple[Picture, ...]
    title: Cell | None = None
    text: str = ""


@dataclass(frozen=True)
class Pictures:
    """Groups of small images under one heading, one below the other or, if ``side_by_side``, in columns.

    Only HTML shows them.
    """

    title: str
    groups: tuple[PictureGroup, ...]
    text: str = ""
    side_by_side: bool = False


Text = Headline | Paragraph | Code | Equation | Definitions
Block = Text | Facts | Table | Figure | FigureGroup | Findings | Images | Pictures


@dataclass(frozen=True)
class Section:
    """A heading with its content; ``id`` is the anchor within the page."""

    id: str
    title: str
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, id: str, title: str, *blocks: Block | None) -> Section:
        """A section of the blocks that are not None."""
        return cls(id, title, tuple(block for block in blocks if block is not None))


@dataclass(frozen=True)
class Page:
    """A complete report; ``intro`` is what precedes the sections, such as the `Headline`."""

    kind: str
    title: str
    subtitle: str
    intro: tuple[Block, ...]
    sections: tuple[Section, ...]

    @property
    def figures(self) -> dict[str, Figure]:
        """All figures by their id."""
        blocks = [block for section in self.sections for block in section.blocks]
        groups = [block.figures if isinstance(block, FigureGroup) else (block,) for block in blocks]
        return {block.id: block for group in groups for block in group if isinstance(block, Figure)}
