"""The report page of an explanation: its sections, with charts side by side and their values below."""

from __future__ import annotations

from functools import partial

from counterpoise.core.equations import to_mathml
from counterpoise.core.errors import ArgumentError
from counterpoise.core.explanation import (
    Chart,
    Explanation,
    ExplanationPictures,
    ExplanationSection,
    ExplanationTable,
)
from counterpoise.core.text import number_text
from counterpoise.workflow.report import charts, page
from counterpoise.workflow.report import formatting as fmt

MAX_ROWS = 11
"""Rows of the table below a figure; the JSON has every point."""
MARKS_PER_CURVE = 5
DIGITS = 4


def explanation_page(explanation: Explanation) -> page.Page:
    """The page of an explanation."""
    headline = page.Headline(
        explanation.kind.capitalize(), "plain", explanation.summary, explanation.costs, explanation.notes
    )
    sections = tuple(_section(f"section-{i}", section) for i, section in enumerate(explanation.sections, 1))
    subtitle = "All curves and numbers on this page are computed with Counterpoise itself."
    return page.Page("Explanation", explanation.name, subtitle, (headline,), sections)


def _section(id: str, section: ExplanationSection) -> page.Section:
    blocks: list[page.Block] = [page.Paragraph(text) for text in section.paragraphs]
    blocks += [_equation(section)] if section.equation else []
    blocks += [page.FigureGroup(tuple(map(_figure, section.charts)))] if section.charts else []
    blocks += [_table(table) for table in section.tables]
    blocks += [images for pictures in section.pictures for images in _images(pictures)]
    blocks += [page.Code("Example in Python", section.code)] if section.code else []
    blocks += [page.Paragraph(f"Reference: {section.reference}")] if section.reference else []
    return page.Section(id, section.title, tuple(blocks))


def _equation(section: ExplanationSection) -> page.Equation | page.Code:
    """The equation as a page draws it; as text if a file has LaTeX that cannot be converted, or none."""
    try:
        for line in section.latex.splitlines():
            to_mathml(line)
    except ArgumentError:
        return page.Code("Equation", section.equation, "text")
    if not section.latex:
        return page.Code("Equation", section.equation, "text")
    return page.Equation("Equation", section.equation, section.latex)


def _images(pictures: ExplanationPictures) -> list[page.Images]:
    """One block per row; what is no data URI of a picture is left out, since a file may hold anything."""
    rows = [
        tuple((page.Cell(p.label), p.source) for p in row if p.source.startswith("data:image/"))
        for row in pictures.rows
    ]
    return [page.Images(pictures.caption if i == 0 else "", row, large=True) for i, row in enumerate(rows) if row]


def _table(table: ExplanationTable) -> page.Table:
    values = [[row[i] for row in table.rows] for i in range(len(table.columns))]
    columns = tuple(
        page.Column(title, numeric=not any(isinstance(value, str) for value in column))
        for title, column in zip(table.columns, values, strict=True)
    )
    return page.Table(table.caption, columns, tuple(zip(*map(_column_cells, values), strict=True)), table.notes)


def _column_cells(column: list[str | float | None]) -> list[page.Cell]:
    """The cells of a column; numbers of similar size have the same number of decimals."""
    sizes = [abs(value) for value in column if isinstance(value, float) and value]
    decimals = None
    if sizes and max(sizes) < 1000 and max(sizes) < 1000 * min(sizes):
        decimals = min(4, max(len(number_text(size, DIGITS).partition(".")[2]) for size in sizes))
    return [_cell(value, decimals) for value in column]


def _cell(value: str | float | None, decimals: int | None = None) -> page.Cell:
    if value is None:
        return fmt.missing_cell("not defined")
    if isinstance(value, str):
        return page.Cell(value)
    return page.Cell(number_text(value, DIGITS) if decimals is None else f"{value:,.{decimals}f}".replace("-", "−"))


def _figure(chart: Chart) -> page.Figure:
    names = [*(curve.name for curve in chart.curves), *(line.name for line in chart.lines)]
    series = tuple(page.Series(name, slot) for slot, name in enumerate(names))
    rows: list[page.Row] = []
    for slot, curve in enumerate(chart.curves):
        marks = _marked_points(chart, slot)
        points = enumerate(zip(chart.x, curve.y, strict=True))
        rows += [
            {"strategy": curve.name, "x": x, "y": y, "marked": i in marks} for i, (x, y) in points if y is not None
        ]
    values = [
        {"x": x, **{f"y{slot}": curve.y[i] for slot, curve in enumerate(chart.curves)}} for i, x in enumerate(chart.x)
    ]
    text, defined = _text_alternative(chart), [y for curve in chart.curves for y in curve.y if y is not None]
    draw = partial(
        charts.curves_chart,
        rows,
        values,
        series,
        text,
        x=_x_scale(chart),
        y=charts.Scale(chart.y_title, min(defined), max(defined), chart.y_log),
        lines=[{"strategy": line.name, "x": line.x} for line in chart.lines],
    )
    return page.Figure(
        chart.id, chart.title, chart.caption, text, (page.Variant("", draw),), series=series, table=_values_table(chart)
    )


def _x_scale(chart: Chart) -> charts.Scale:
    """The range of the values; a probability that almost reaches 0 and 1 is shown from 0 to 1."""
    low, high = min(chart.x), max(chart.x)
    if not chart.x_log and 0 < low < 0.03 and 0.97 < high < 1:
        low, high = 0.0, 1.0
    return charts.Scale(chart.x_title, low, high, chart.x_log, exact=True)


def _marked_points(chart: Chart, slot: int) -> frozenset[int]:
    """The points of a curve that get a mark: some, spread evenly and shifted from curve to curve, or all."""
    if chart.points:
        return frozenset(range(len(chart.x)))
    first, last = chart.x[0], chart.x[-1]
    steps = ((k + (slot + 0.5) / len(chart.curves)) / MARKS_PER_CURVE for k in range(MARKS_PER_CURVE))
    targets = [first * (last / first) ** step if chart.x_log else first + step * (last - first) for step in steps]
    return frozenset(min(range(len(chart.x)), key=lambda i: abs(chart.x[i] - x)) for x in targets)


def _text_alternative(chart: Chart) -> str:
    def span(values: tuple[float, ...]) -> str:
        return f"from {number_text(values[0], DIGITS)} to {number_text(values[-1], DIGITS)}"

    ends = [
        f"{curve.name} {span(defined)}"
        for curve in chart.curves
        if (defined := tuple(y for y in curve.y if y is not None))
    ]
    ends += [f"{line.name} at {number_text(line.x, DIGITS)}" for line in chart.lines]
    return f"{chart.y_title} against {chart.x_title}, {span(chart.x)}: {'; '.join(ends)}."


def _values_table(chart: Chart) -> page.Table:
    """All values if there are few, otherwise some, spread evenly."""
    n = min(MAX_ROWS, len(chart.x))
    picked = sorted({round(k * (len(chart.x) - 1) / max(1, n - 1)) for k in range(n)})
    rows = tuple((_cell(chart.x[i]), *(_cell(curve.y[i]) for curve in chart.curves)) for i in picked)
    columns = (page.Column(chart.x_title, numeric=False), *(page.Column(curve.name) for curve in chart.curves))
    notes = tuple(f"{line.name}: {chart.x_title} {number_text(line.x, DIGITS)}." for line in chart.lines)
    caption = "Values" if len(picked) == len(chart.x) else f"Values at {len(picked)} of {len(chart.x)} points"
    return page.Table(caption, columns, rows, notes, folded=True)
