"""A `Page` as Markdown (GitHub's), for pull requests and wikis: tables and text, without the figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from counterpoise.workflow.report.page import (
    Block,
    Cell,
    Code,
    Definitions,
    Facts,
    Figure,
    Figures,
    Findings,
    Headline,
    Page,
    Prose,
    Table,
)

__all__ = ["page_markdown"]

# Whatever can begin markup in the middle of a line; at its start the text is never alone.
_SPECIAL = re.compile(r"([\\`*_\[\]|~#$])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# GitHub makes links of bare addresses and mentions: a word joiner after the scheme or the sign keeps them text.
_AUTOLINK = re.compile(r"(?i)(https?:|ftp:|www\.|mailto:|javascript:|@)(?=\S)")


def page_markdown(page: Page) -> str:
    """The whole page; what the HTML draws is left to its table."""
    lines = [f"# {escaped(page.title)}", "", escaped(page.subtitle), ""]
    for block in page.headline:
        lines += _block(block)
    for section in page.sections:
        lines += [f"## {escaped(section.title)}", ""]
        for block in section.blocks:
            lines += _block(block)
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """Text that stays text: no emphasis, link, cell border, HTML or mention comes of it."""
    text = "".join(_ENTITIES.get(char, char) for char in " ".join(text.splitlines()))
    return _AUTOLINK.sub("\\1\u2060", _SPECIAL.sub(r"\\\1", text))


def _block(block: Block) -> list[str]:
    write: dict[type, Callable[[Any], list[str]]] = {
        Headline: _headline,
        Facts: _facts,
        Table: _table,
        Figure: _figure,
        Figures: lambda b: [line for figure in b.figures for line in _figure(figure)],
        Findings: _findings,
        Prose: lambda b: [escaped(b.text), ""],
        Code: lambda b: [f"{escaped(b.caption)}:", "", f"```{b.language}", *b.text.rstrip().splitlines(), "```", ""],
        Definitions: lambda b: [*(f"- **{escaped(term)}**: {escaped(text)}" for term, text in b.terms), ""],
    }
    return write[type(block)](block) if type(block) in write else []


def _headline(b: Headline) -> list[str]:
    lines = [f"**{escaped(b.label)}.** {escaped(b.text)}", ""]
    for title, texts in (("What it costs", b.costs), ("Keep in mind", b.notes)):
        lines += [f"**{title}**", "", *_list(texts)] if texts else []
    return lines


def _list(texts: Iterable[str]) -> list[str]:
    return [*(f"- {escaped(text)}" for text in texts), ""]


def _facts(b: Facts) -> list[str]:
    head = [f"### {escaped(b.caption)}", ""] if b.caption else []
    return [*head, *(f"- {escaped(f.name)}: {_cell(f.value)}" for f in b.facts), ""]


def _table(b: Table) -> list[str]:
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in b.rows]
    head = "| " + " | ".join(escaped(c.title) or " " for c in b.columns) + " |"
    rule = "|" + "|".join(" ---: " if c.numeric else " --- " for c in b.columns) + "|"
    table = [f"**{escaped(b.caption)}**", "", head, rule, *rows, ""]
    notes = [*b.notes, *([f"– stands for no value: {'; '.join(b.missing[:8])}."] if b.missing else [])]
    if b.folded:
        opened = ["<details>", f"<summary>{escaped(b.caption)}</summary>", ""]
        return [*opened, *table[2:], *_list(notes), "</details>", ""]
    return [*table, *(_list(notes) if notes else [])]


def _cell(c: Cell) -> str:
    text = f"**{escaped(c.text)}**" if c.strong else escaped(c.text)
    return f"{text} {escaped(c.detail)}" if c.detail else text


def _figure(b: Figure) -> list[str]:
    head = [f"### {escaped(b.title)}", "", escaped(b.text), ""]
    return [*head, *_table(b.table)] if b.table else head


def _findings(b: Findings) -> list[str]:
    if not b.findings:
        return [escaped(b.empty), ""] if b.empty else []
    lines = [f"- **{f.severity}**: {escaped(f.reason)} {escaped(', '.join(f.about))}".rstrip() for f in b.findings]
    lines += [f"- {b.left_out} more are in the JSON file."] if b.left_out else []
    return [*lines, ""]
