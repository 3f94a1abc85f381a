"""What a report says, before anyone decides how it looks: sections of text, tables and figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from counterpoise.core.artifacts import Finding

__all__ = [
    "Block",
    "Cell",
    "Choice",
    "Code",
    "Column",
    "Definitions",
    "Fact",
    "Facts",
    "Figure",
    "Figures",
    "Findings",
    "Headline",
    "Images",
    "Mark",
    "Page",
    "Prose",
    "Section",
    "Series",
    "Table",
    "Thumbnail",
]


@dataclass(frozen=True)
class Series:
    """A strategy as every figure shows it: its name, and which colour and mark it keeps throughout the page."""

    name: str
    slot: int


@dataclass(frozen=True)
class Cell:
    """One cell of a table, already formatted.

    ``missing`` is the reason why there is no value (the text is then a dash). ``full`` is the uncut
    text where ``text`` was shortened. ``series`` adds the strategy's mark. ``name`` is set for text
    that comes from the data (class, file): it is isolated from the writing direction around it.
    """

    text: str
    missing: str = ""
    full: str = ""
    series: Series | None = None
    name: bool = False
    detail: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Column:
    """A column's heading; ``about`` is the sentence that defines it; numeric ones are right-aligned."""

    title: str
    about: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns; the first cell of a row is its heading."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    folded: bool = False
    marked: frozenset[int] = frozenset()

    @property
    def missing(self) -> tuple[str, ...]:
        """The distinct reasons for the dashes in this table, in reading order."""
        return tuple(dict.fromkeys(cell.missing for row in self.rows for cell in row if cell.missing))


@dataclass(frozen=True)
class Choice:
    """One of the pictures a figure can show: its label, and how to get its Vega-Lite specification.

    It is drawn when it is written, so that Markdown and a single figure do not wait for all the others.
    """

    label: str
    draw: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Mark:
    """One entry of a figure's legend: a shape in a colour of the theme, hollow or filled."""

    label: str
    colour: str
    shape: str
    hollow: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture: ``text`` says in words what it shows, ``table`` holds the same numbers.

    ``key`` names strategies, which a reader can pick out; ``legend`` explains the other marks.
    """

    id: str
    title: str
    caption: str
    text: str
    choices: tuple[Choice, ...]
    choose: str = ""
    key: tuple[Series, ...] = ()
    legend: tuple[Mark, ...] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Figures:
    """Figures that belong together: side by side where the page is wide enough."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Headline:
    """The answer, first: one sentence, what it costs, and what to keep in mind."""

    label: str
    tone: Literal["good", "neutral", "bad", "plain"]
    text: str
    costs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fact:
    """A name and its value."""

    name: str
    value: Cell
    about: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values; ``wide`` shows them as figures across the page, otherwise as a list."""

    facts: tuple[Fact, ...]
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Findings:
    """Findings, the worst first; ``empty`` is said when there are none."""

    findings: tuple[Finding, ...]
    empty: str
    left_out: int = 0


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """Python that a reader can run, or another text in which every space counts."""

    caption: str
    text: str
    language: Literal["python", "text"] = "python"


@dataclass(frozen=True)
class Definitions:
    """Terms and the sentence that defines each."""

    terms: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Thumbnail:
    """An image as a data address, with the class it belongs to."""

    label: Cell
    source: str


@dataclass(frozen=True)
class Images:
    """Small pictures of the data."""

    caption: str
    images: tuple[Thumbnail, ...]


Block = Headline | Facts | Table | Figure | Figures | Findings | Prose | Code | Definitions | Images


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; ``id`` is its address within the page."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A whole report."""

    kind: str
    title: str
    subtitle: str
    headline: tuple[Block, ...]
    sections: tuple[Section, ...]
    made_with: tuple[str, ...] = field(default=())

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure by its id."""
        blocks = [block for part in self.sections for block in part.blocks]
        alone = [block.figures if isinstance(block, Figures) else (block,) for block in blocks]
        return {block.id: block for together in alone for block in together if isinstance(block, Figure)}
