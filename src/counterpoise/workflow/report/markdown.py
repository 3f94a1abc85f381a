"""Writes a `Page` as GitHub-flavoured Markdown with its text and tables, for pull requests and wikis."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from counterpoise.workflow.report.formatting import JSON_EXPORT, code_spans
from counterpoise.workflow.report.page import (
    Block,
    Cell,
    Code,
    Definitions,
    Equation,
    Facts,
    Figure,
    FigureGroup,
    Findings,
    Headline,
    Page,
    Paragraph,
    Table,
)

# Characters that can start markup within a line; a name or text is never alone at the start of a line.
_SPECIAL = re.compile(r"([\\`*_\[\]|~#$])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# GitHub turns bare addresses and mentions into links: a word joiner after the scheme or the @ prevents it.
_AUTOLINK = re.compile(r"(?i)(https?:|ftp:|www\.|mailto:|javascript:|@)(?=\S)")


def page_markdown(page: Page) -> str:
    """The whole page; each figure is represented by its text and its table."""
    lines = [f"# {escaped(page.title)}", "", _text(page.subtitle), ""]
    for block in page.intro:
        lines += _block(block)
    for section in page.sections:
        lines += [f"## {_text(section.title)}", ""]
        for block in section.blocks:
            lines += _block(block)
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """Text without markup: it contains no emphasis, link, cell border, HTML or mention."""
    text = "".join(_ENTITIES.get(char, char) for char in " ".join(text.splitlines()))
    return _AUTOLINK.sub("\\1\u2060", _SPECIAL.sub(r"\\\1", text))


def _text(text: str) -> str:
    """Escaped text in which code in backticks stays code."""
    return "".join(f"`{piece}`" if is_code else escaped(piece) for is_code, piece in code_spans(text))


def _block(block: Block) -> list[str]:
    write: dict[type, Callable[[Any], list[str]]] = {
        Headline: _headline,
        Facts: _facts,
        Table: _table,
        Figure: _figure,
        FigureGroup: lambda b: [line for figure in b.figures for line in _figure(figure)],
        Findings: _findings,
        Paragraph: lambda b: [_text(b.text), ""],
        Code: lambda b: [f"{_text(b.caption)}:", "", f"```{b.language}", *b.text.rstrip().splitlines(), "```", ""],
        Equation: lambda b: [f"{_text(b.caption)}:", "", "```text", *b.text.splitlines(), "```", ""],
        Definitions: lambda b: [*(f"- **{_text(term)}**: {_text(text)}" for term, text in b.terms), ""],
    }
    return write[type(block)](block) if type(block) in write else []


def _headline(b: Headline) -> list[str]:
    lines = [f"**{_text(b.label)}.** {_text(b.text)}", ""]
    for title, texts in (("Trade-offs", b.trade_offs), ("Notes", b.notes)):
        lines += [f"**{title}**", "", *_list(texts)] if texts else []
    return lines


def _list(texts: Iterable[str]) -> list[str]:
    return [*(f"- {_text(text)}" for text in texts), ""]


def _facts(b: Facts) -> list[str]:
    heading = [f"### {_text(b.caption)}", ""] if b.caption else []
    return [*heading, *(f"- {escaped(name)}: {_cell(value)}" for name, value in b.facts), ""]


def _table(b: Table) -> list[str]:
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in b.rows]
    header = "| " + " | ".join(escaped(c.title) or " " for c in b.columns) + " |"
    rule = "|" + "|".join(" ---: " if c.numeric else " --- " for c in b.columns) + "|"
    table = [header, rule, *rows, ""]
    missing = (
        [f"A dash (–) means that there is no value: {'; '.join(b.missing_reasons[:8])}."] if b.missing_reasons else []
    )
    notes = _list((*b.notes, *missing)) if b.notes or missing else []
    if b.folded:
        return ["<details>", f"<summary>{escaped(b.caption)}</summary>", "", *table, *notes, "</details>", ""]
    return [f"**{_text(b.caption)}**", "", *table, *notes]


def _cell(c: Cell) -> str:
    text = escaped(c.text) if c.is_name else _text(c.text)
    text = f"**{text}**" if c.strong else text
    return f"{text} {_text(c.detail)}" if c.detail else text


def _figure(b: Figure) -> list[str]:
    lines = [f"### {_text(b.title)}", "", _text(b.alt_text), "", _text(b.caption), ""]
    return [*lines, *_table(b.table)] if b.table else lines


def _findings(b: Findings) -> list[str]:
    if not b.findings:
        return [_text(b.fallback), ""] if b.fallback else []
    lines = [f"- **{f.severity}**: {_text(f.reason)} {escaped(', '.join(f.about))}".rstrip() for f in b.findings]
    lines += [f"- {b.omitted} more findings are {_text(JSON_EXPORT)}."] if b.omitted else []
    return [*lines, ""]
