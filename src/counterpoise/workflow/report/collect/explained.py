"""The page of an explanation: each section with its charts side by side, and their numbers below them."""

from __future__ import annotations

from functools import partial

from counterpoise.core.explanation import Chart, Explanation, ExplanationSection, ExplanationTable
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
    sections = tuple(_section(f"part-{i}", section) for i, section in enumerate(explanation.sections, 1))
    subtitle = "Every curve and number here is computed by the toolkit itself."
    return Page("Explanation", explanation.name, subtitle, (headline,), sections)


def _section(id: str, section: ExplanationSection) -> Section:
    blocks: list[Block] = [Prose(text) for text in section.paragraphs]
    blocks += [Code("Equation", section.equation, "text")] if section.equation else []
    blocks += [Figures(tuple(map(_figure, section.charts)))] if section.charts else []
    blocks += [_table(table) for table in section.tables]
    blocks += [Code("In Python", section.code)] if section.code else []
    blocks += [Prose(f"Source: {section.reference}")] if section.reference else []
    return Section(id, section.title, tuple(blocks))


def _table(table: ExplanationTable) -> Table:
    texts = [_texts([row[i] for row in table.rows]) for i in range(len(table.columns))]
    words = [any(isinstance(row[i], str) for row in table.rows) for i in range(len(table.columns))]
    columns = tuple(Column(title, numeric=not word) for title, word in zip(table.columns, words, strict=True))
    return Table(table.caption, columns, tuple(zip(*texts, strict=True)), table.notes)


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


def _figure(chart: Chart) -> Figure:
    names = [curve.name for curve in chart.curves] + [line.name for line in chart.lines]
    series = [Series(name, slot) for slot, name in enumerate(names)]
    marked = [_marked(chart, slot) for slot in range(len(chart.curves))]
    rows = [
        {"strategy": curve.name, "x": x, "y": y, "marked": chart.points or i in marked[slot]}
        for slot, curve in enumerate(chart.curves)
        for i, (x, y) in enumerate(zip(chart.x, curve.y, strict=True))
        if y is not None
    ]
    readings = [
        {"x": x, **{f"y{slot}": curve.y[i] for slot, curve in enumerate(chart.curves)}} for i, x in enumerate(chart.x)
    ]
    rules = [{"strategy": line.name, "x": line.x} for line in chart.lines]
    text = _in_words(chart)
    known = [y for curve in chart.curves for y in curve.y if y is not None]
    x, y = _across(chart), drawn.Scale(chart.y_title, min(known), max(known), chart.y_log)
    draw = partial(drawn.lines, rows, readings, series, text, x=x, y=y, rules=rules)
    return Figure(
        chart.id, chart.title, chart.caption, text, (Choice("", draw),), key=tuple(series), table=_points(chart)
    )


def _across(chart: Chart) -> drawn.Scale:
    """From end to end; a probability that nearly reaches 0 and 1 from 0 to 1."""
    low, high = min(chart.x), max(chart.x)
    if not chart.x_log and 0 < low < 0.03 and 0.97 < high < 1:
        low, high = 0.0, 1.0
    return drawn.Scale(chart.x_title, low, high, chart.x_log, fixed=True)


def _marked(chart: Chart, slot: int) -> frozenset[int]:
    """Some points of a line, evenly spread and shifted from line to line, so that marks do not hide each other."""
    first, last = chart.x[0], chart.x[-1]
    steps = ((k + (slot + 0.5) / len(chart.curves)) / MARKED for k in range(MARKED))
    wanted = [first * (last / first) ** step if chart.x_log else first + step * (last - first) for step in steps]
    return frozenset(min(range(len(chart.x)), key=lambda i: abs(chart.x[i] - x)) for x in wanted)


def _in_words(chart: Chart) -> str:
    ends = (
        f"{curve.name} from {_number(known[0])} to {_number(known[-1])}"
        for curve in chart.curves
        if (known := [y for y in curve.y if y is not None])
    )
    words = f"{chart.y_title} against {chart.x_title}, from {_number(chart.x[0])} to {_number(chart.x[-1])}: "
    at = "".join(f"; {line.name} at {_number(line.x)}" for line in chart.lines)
    return f"{words}{'; '.join(ends)}{at}."


def _points(chart: Chart) -> Table:
    """Some of the numbers, evenly spread; all of them where there are few."""
    last = len(chart.x) - 1
    few = min(LISTED, len(chart.x))
    picked = sorted({round(k * last / max(1, few - 1)) for k in range(few)})
    rows = tuple((Cell(_number(chart.x[i])), *(_cell(curve.y[i]) for curve in chart.curves)) for i in picked)
    columns = (Column(chart.x_title, numeric=False), *(Column(curve.name) for curve in chart.curves))
    notes = tuple(f"{line.name}: {chart.x_title} {_number(line.x)}." for line in chart.lines)
    caption = "Numbers" if len(picked) == len(chart.x) else f"{len(picked)} of {len(chart.x)} points as numbers"
    return Table(caption, columns, rows, notes, folded=True)
