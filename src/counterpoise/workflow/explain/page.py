"""Parser of the Markdown pages: text with placeholders, charts and tables filled in from computed content."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from counterpoise.core.equations import to_mathml, to_text
from counterpoise.core.errors import ArgumentError, CounterpoiseError
from counterpoise.core.explanation import Chart, ExplanationPictures, ExplanationSection, ExplanationTable

T = TypeVar("T")
PAGES_FOLDER = Path(__file__).parent / "pages"


class PageError(CounterpoiseError):
    """A page cannot be read; the message names the file and the line."""


@dataclass(frozen=True)
class Content:
    """What Python computes for a page: its charts, tables and pictures, and the values of its placeholders.

    ``page`` is the file name without ``.md``; it is empty for the content of a section that several pages include.
    """

    page: str = ""
    charts: tuple[Chart, ...] = ()
    tables: Mapping[str, ExplanationTable] = field(default_factory=dict)
    values: Mapping[str, object] = field(default_factory=dict)
    pictures: Mapping[str, ExplanationPictures] = field(default_factory=dict)

    def __or__(self, included: Content) -> Content:
        """This page with the content of a section that it includes."""
        charts, tables = self.charts + included.charts, {**self.tables, **included.tables}
        pictures = {**self.pictures, **included.pictures}
        return Content(self.page, charts, tables, {**self.values, **included.values}, pictures)


class ExplanationPage(NamedTuple):
    """A page whose placeholders, charts and tables are filled in."""

    summary: str
    costs: tuple[str, ...]
    notes: tuple[str, ...]
    sections: tuple[ExplanationSection, ...]


class _Block(NamedTuple):
    """A part of a page with the place where it starts; ``id`` names a chart or a table."""

    kind: str
    text: str
    place: str
    id: str = ""


_CAPTIONS = {
    "ten_classes": "Ten classes; the wrong classes share the remaining probability equally.",
    "per_class": "One curve each for an image of the largest class, of a medium one and of the rarest one.",
    "gradient": "Derivative of the loss of one image by the logit, from autograd. Gradient descent raises the logit "
    "where it is negative and lowers it where it is positive.",
}
"""Placeholders that every page has."""
_INCLUDE = re.compile(r"\[include: ([a-z_]+)\]")
_DIRECTIVE = re.compile(r"\[(chart|table|pictures): ([a-z0-9-]+)\] ?(.*)")
_STARTS = {"## ": "heading", "- ": "item", "Reference: ": "reference"}
_FENCES = {"$$": ("$$", "equation"), "```python": ("```", "code")}


def load_page(content: Content, folder: Path = PAGES_FOLDER) -> ExplanationPage:
    """Read ``<content.page>.md`` of a folder and fill in its content.

    Raises:
        PageError: an unknown placeholder, chart or table, content that the page does not show, or a line that the
            format does not have.
    """
    blocks = list(_blocks(_lines(folder, content.page), {**_CAPTIONS, **content.values}))
    headings = [i for i, block in enumerate(blocks) if block.kind == "heading"]
    if not headings or [block.kind for block in blocks[: headings[0]]] != ["paragraph"]:
        raise PageError(f"{content.page}.md must start with one paragraph, the summary, and a heading")
    sections: dict[str, list[_Block]] = {}
    for start, end in zip(headings, [*headings[1:], len(blocks)], strict=True):
        if blocks[start].text in sections:
            raise PageError(f"{blocks[start].place}: the heading {blocks[start].text!r} occurs twice")
        sections[blocks[start].text] = blocks[start + 1 : end]
    shown = [(block.kind, block.id) for block in blocks]
    computed = [("chart", chart.id) for chart in content.charts]
    computed += [*(("table", id) for id in content.tables), *(("pictures", id) for id in content.pictures)]
    for kind, id in computed:
        if shown.count((kind, id)) != 1:
            raise PageError(f"{content.page}.md must show the {kind} {id!r} exactly once, as [{kind}: {id}]")
    costs, notes = (_items(sections.pop(title, [])) for title in ("Costs", "Notes"))
    return ExplanationPage(
        blocks[0].text, costs, notes, tuple(_section(*section, content) for section in sections.items())
    )


def _lines(folder: Path, page: str) -> Iterator[tuple[str, str]]:
    """The place and the text of each line; ``[include: name]`` inserts ``shared/name.md``."""
    source = folder / f"{page}.md"
    if not source.is_file():
        raise PageError(f"{page}.md does not exist")
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        include = _INCLUDE.fullmatch(line)
        if include:
            yield from _lines(folder, f"shared/{include[1]}")
        else:
            yield f"{page}.md line {number}", line


def _blocks(lines: Iterator[tuple[str, str]], values: Mapping[str, object]) -> Iterator[_Block]:
    """Group lines into blocks: a blank line, a heading, a list item or a directive starts a new one."""
    start, words, heading = "", list[str](), False
    for place, line in lines:
        if not line or line in _FENCES or line.startswith(("## ", "- ", "[")) or heading:
            yield from _text_block(start, " ".join(words))
            words = []
        if line in _FENCES:
            yield _fenced(place, lines, *_FENCES[line], values)
        elif line:
            start, heading = start if words else place, line.startswith("## ")
            words.append(_filled(line, values, place).strip())
    yield from _text_block(start, " ".join(words))


def _fenced(place: str, lines: Iterator[tuple[str, str]], end: str, kind: str, values: Mapping[str, object]) -> _Block:
    inside: list[str] = []
    for inner, line in lines:
        if line == end:
            return _Block(kind, "\n".join(inside) + ("\n" if kind == "code" else ""), place)
        inside.append(line if kind == "equation" else _filled(line, values, inner))
    raise PageError(f"{place}: the {kind} has no closing {end}")


def _filled(line: str, values: Mapping[str, object], place: str) -> str:
    try:
        return line.format_map(values)
    except KeyError as error:
        raise PageError(f"{place}: unknown placeholder {error}; there are {', '.join(sorted(values))}") from error
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise PageError(f"{place}: {error}") from error


def _text_block(place: str, text: str) -> Iterator[_Block]:
    directive = _DIRECTIVE.fullmatch(text)
    if directive:
        yield _Block(directive[1], directive[3], place, directive[2])
    elif text.startswith("["):
        expected = "[chart: id], [table: id], [pictures: id] or [include: name]"
        raise PageError(f"{place}: expected {expected}, got {text:.40}")
    elif text:
        start = next((start for start in _STARTS if text.startswith(start)), "")
        yield _Block(_STARTS.get(start, "paragraph"), text.removeprefix(start), place)


def _items(blocks: list[_Block]) -> tuple[str, ...]:
    for block in blocks:
        if block.kind != "item":
            raise PageError(f"{block.place}: expected a list item, got a {block.kind}")
    return tuple(block.text for block in blocks)


def _section(title: str, blocks: list[_Block], content: Content) -> ExplanationSection:
    known_charts = {chart.id: chart for chart in content.charts}
    single, paragraphs, charts, tables, pictures = dict[str, str](), [], [], [], []
    for block in blocks:
        head, _, rest = block.text.partition(" | ")
        if block.kind == "paragraph":
            paragraphs.append(block.text)
        elif block.kind == "chart":
            charts.append(replace(_known(known_charts, block), title=head, caption=rest))
        elif block.kind == "table":
            tables.append(replace(_known(content.tables, block), caption=head, notes=(rest,) if rest else ()))
        elif block.kind == "pictures":
            pictures.append(replace(_known(content.pictures, block), caption=head))
        elif block.kind == "item" or block.kind in single:
            raise PageError(f"{block.place}: a section cannot have this {block.kind}")
        else:
            single[block.kind] = block.text
            single |= _equation(block) if block.kind == "equation" else {}
    return ExplanationSection(
        title, tuple(paragraphs), charts=tuple(charts), tables=tuple(tables), pictures=tuple(pictures), **single
    )


def _equation(block: _Block) -> dict[str, str]:
    """The equation as text and in LaTeX; both conversions are tried here, so that a mistake names the page."""
    lines = block.text.splitlines()
    try:
        for line in lines:
            to_mathml(line)
        return {"equation": "\n".join(map(to_text, lines)), "latex": block.text}
    except ArgumentError as error:
        raise PageError(f"{block.place}: {error}") from error


def _known(named: Mapping[str, T], block: _Block) -> T:
    if block.id not in named:
        raise PageError(f"{block.place}: unknown {block.kind} {block.id!r}; there are {', '.join(named) or 'none'}")
    return named[block.id]
