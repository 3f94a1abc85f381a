"""The page of an explanation: a section a part, its panels side by side, their numbers below them."""

from __future__ import annotations

from functools import partial

from counterpoise.core.explanation import Explanation, Panel, Part, Sheet
from counterpoise.workflow.report.figures import explained as drawn
from counterpoise.workflow.report.page import (
    Block,
    Cell,
    Choice,
    Code,
    Column,
    Figure,
    Figures,
    Headline,
    Page,
    Prose,
    Section,
    Series,
    Table,
)
from counterpoise.workflow.report.text import missing

__all__ = ["explanation_page"]

LISTED = 11
"""Rows of the table below a figure; the JSON has every point."""
MARKED = 5
"""Marks along a line, so that a curve is known by more than its colour."""


def explanation_page(explanation: Explanation) -> Page:
    """Everything an explanation says, with its curves."""
    headline = Headline(
        explanation.kind.capitalize(), "plain", explanation.summary, explanation.costs, explanation.notes
    )
    sections = tuple(_section(f"part-{i}", part) for i, part in enumerate(explanation.parts, 1))
    subtitle = "Every curve and number here is computed by the toolkit itself."
    return Page("Explanation", explanation.name, subtitle, (headline,), sections)


def _section(id: str, part: Part) -> Section:
    blocks: list[Block] = [Prose(text) for text in part.paragraphs]
    blocks += [Code("Equation", part.equation, "text")] if part.equation else []
    blocks += [Figures(tuple(map(_figure, part.panels)))] if part.panels else []
    blocks += [_table(sheet) for sheet in part.sheets]
    blocks += [Code("In Python", part.code)] if part.code else []
    blocks += [Prose(f"Source: {part.reference}")] if part.reference else []
    return Section(id, part.title, tuple(blocks))


def _table(sheet: Sheet) -> Table:
    columns = tuple(
        Column(title, numeric=i > 0 and not any(isinstance(row[i], str) for row in sheet.rows))
        for i, title in enumerate(sheet.columns)
    )
    return Table(sheet.caption, columns, tuple(tuple(map(_cell, row)) for row in sheet.rows), sheet.notes)


def _cell(value: str | float | None) -> Cell:
    if value is None:
        return missing("not defined")
    return Cell(value if isinstance(value, str) else _number(value))


def _number(value: float) -> str:
    """Four significant digits, large numbers in full with thin spaces, a minus sign that is one."""
    whole = abs(value) >= 1000 or float(value).is_integer()
    text = f"{value:,.0f}".replace(",", "\u202f") if whole else f"{value:.4g}"
    return text.replace("-", "−")


def _figure(panel: Panel) -> Figure:
    names = [curve.name for curve in panel.curves] + [rule.name for rule in panel.rules]
    series = [Series(name, slot) for slot, name in enumerate(names)]
    marked = [_marked(panel, slot) for slot in range(len(panel.curves))]
    rows = [
        {"strategy": curve.name, "x": x, "y": y, "marked": panel.points or i in marked[slot]}
        for slot, curve in enumerate(panel.curves)
        for i, (x, y) in enumerate(zip(panel.x, curve.y, strict=True))
        if y is not None
    ]
    readings = [
        {"x": x, **{f"y{slot}": curve.y[i] for slot, curve in enumerate(panel.curves)}} for i, x in enumerate(panel.x)
    ]
    rules = [{"strategy": rule.name, "x": rule.x} for rule in panel.rules]
    probability = panel.x[0] > 0 and panel.x[-1] < 1 and not panel.x_log and panel.x[-1] > 0.9
    x = drawn.Scale(panel.x_title, panel.x_log, (0.0, 1.0) if probability else (panel.x[0], panel.x[-1]))
    text = _in_words(panel)
    draw = partial(
        drawn.lines, rows, readings, series, text, x=x, y=drawn.Scale(panel.y_title, panel.y_log), rules=rules
    )
    return Figure(
        panel.id, panel.title, panel.caption, text, (Choice("", draw),), key=tuple(series), table=_points(panel)
    )


def _marked(panel: Panel, slot: int) -> frozenset[int]:
    """Some points of a line, evenly spread and shifted from line to line, so that marks do not hide each other."""
    first, last = panel.x[0], panel.x[-1]
    steps = ((k + (slot + 0.5) / len(panel.curves)) / MARKED for k in range(MARKED))
    wanted = [first * (last / first) ** step if panel.x_log else first + step * (last - first) for step in steps]
    return frozenset(min(range(len(panel.x)), key=lambda i: abs(panel.x[i] - x)) for x in wanted)


def _in_words(panel: Panel) -> str:
    ends = (
        f"{curve.name} from {_number(known[0])} to {_number(known[-1])}"
        for curve in panel.curves
        if (known := [y for y in curve.y if y is not None])
    )
    words = f"{panel.y_title} against {panel.x_title}, from {_number(panel.x[0])} to {_number(panel.x[-1])}: "
    at = "".join(f"; {rule.name} at {_number(rule.x)}" for rule in panel.rules)
    return f"{words}{'; '.join(ends)}{at}."


def _points(panel: Panel) -> Table:
    """Some of the numbers, evenly spread; all of them where there are few."""
    last = len(panel.x) - 1
    few = min(LISTED, len(panel.x))
    picked = sorted({round(k * last / max(1, few - 1)) for k in range(few)})
    rows = tuple((Cell(_number(panel.x[i])), *(_cell(curve.y[i]) for curve in panel.curves)) for i in picked)
    columns = (Column(panel.x_title, numeric=False), *(Column(curve.name) for curve in panel.curves))
    notes = tuple(f"{rule.name}: {panel.x_title} {_number(rule.x)}." for rule in panel.rules)
    caption = "Numbers" if len(picked) == len(panel.x) else f"{len(picked)} of {len(panel.x)} points as numbers"
    return Table(caption, columns, rows, notes, folded=True)
