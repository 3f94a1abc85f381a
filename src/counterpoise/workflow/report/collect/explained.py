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
    texts = [_texts([row[i] for row in sheet.rows]) for i in range(len(sheet.columns))]
    words = [any(isinstance(row[i], str) for row in sheet.rows) for i in range(len(sheet.columns))]
    columns = tuple(Column(title, numeric=not word) for title, word in zip(sheet.columns, words, strict=True))
    return Table(sheet.caption, columns, tuple(zip(*texts, strict=True)), sheet.notes)


def _texts(column: list[str | float | None]) -> list[Cell]:
    """The cells of a column, with as many decimals everywhere as somewhere, if its numbers are of like size."""
    sizes = [abs(value) for value in column if isinstance(value, float) and value]
    like = bool(sizes) and max(sizes) < 1000 * min(sizes) and max(sizes) < 1000
    digits = min(4, max((len(_number(size).partition(".")[2]) for size in sizes), default=0)) if like else None
    return [_cell(value, digits) for value in column]


def _cell(value: str | float | None, digits: int | None = None) -> Cell:
    if value is None:
        return missing("not defined")
    return Cell(value if isinstance(value, str) else _number(value, digits))


def _number(value: float, digits: int | None = None) -> str:
    """Four significant digits, large numbers in full with thin spaces, a minus sign that is one."""
    if digits is not None:
        text = f"{value:.{digits}f}"
    elif float(value).is_integer() or abs(value) >= 1e5:
        text = f"{value:,.0f}"
    else:
        text = f"{value:,.6g}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace(",", "\u202f").replace("-", "−")


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
    text = _in_words(panel)
    known = [y for curve in panel.curves for y in curve.y if y is not None]
    x, y = _across(panel), drawn.Scale(panel.y_title, min(known), max(known), panel.y_log)
    draw = partial(drawn.lines, rows, readings, series, text, x=x, y=y, rules=rules)
    return Figure(
        panel.id, panel.title, panel.caption, text, (Choice("", draw),), key=tuple(series), table=_points(panel)
    )


def _across(panel: Panel) -> drawn.Scale:
    """From end to end; a probability that nearly reaches 0 and 1 from 0 to 1."""
    low, high = min(panel.x), max(panel.x)
    if not panel.x_log and 0 < low < 0.03 and 0.97 < high < 1:
        low, high = 0.0, 1.0
    return drawn.Scale(panel.x_title, low, high, panel.x_log, fixed=True)


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
