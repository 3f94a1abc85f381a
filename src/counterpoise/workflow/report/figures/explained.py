"""Curves over one axis, for explanations: a reading for every curve follows the pointer."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from counterpoise.workflow.report import theme
from counterpoise.workflow.report.figures.drawing import Row, chart, data, finished
from counterpoise.workflow.report.page import Series

__all__ = ["READING", "Scale", "lines"]

READING = "reading"
"""Name of the parameter, and of the layer, that follow the pointer; a file that stands still goes without."""


@dataclass(frozen=True)
class Scale:
    """One axis: its title, what it must show, and whether it is logarithmic; ``fixed`` ends where the numbers end."""

    title: str
    low: float
    high: float
    log: bool = False
    fixed: bool = False

    @property
    def altair(self) -> dict[str, Any]:
        """The scale and the axis, as keywords of a channel."""
        import altair as alt

        ends: dict[str, Any] = {"domain": [self.low, self.high], "nice": False} if self.fixed else {}
        if self.log:
            ends = {"domain": [self.low, self.high], "nice": False}
        else:
            # A rate or a loss starts at 0 unless that would leave most of the figure empty.
            ends.setdefault("zero", 0 <= self.low < self.high / 4)
        ticks: dict[str, Any] = {"values": _ticks(self.low, self.high)} if self.log else {"tickCount": 6}
        axis = alt.Axis(title=self.title, format=",.6~g", grid=True, **ticks)
        return {"scale": alt.Scale(type="log" if self.log else "linear", **ends), "axis": axis}


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 … between both, or powers of ten alone where there are many."""
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**k for k in powers for step in steps if low * 0.999 <= step * 10.0**k <= high * 1.001]


def lines(
    rows: Sequence[Row],
    readings: Sequence[Row],
    series: Sequence[Series],
    text: str,
    *,
    x: Scale,
    y: Scale,
    rules: Sequence[Row] = (),
) -> Row:
    """Rows: strategy, x, y, marked. Readings, one an x: x, y0, y1 … in the order of the series. Rules: strategy, x."""
    import altair as alt

    # A name chosen in another figure of the page that is none of ours leaves all of ours as they are.
    names = [s.name for s in series]
    bright = f"focus === '' || indexof({json.dumps(names)}, focus) < 0 || datum.strategy === focus"
    opacity = alt.condition(bright, alt.value(1.0), alt.value(0.12))
    across, up = alt.X("x:Q", **x.altair), alt.Y("y:Q", **y.altair)
    colour = alt.Color("strategy:N", scale=alt.Scale(domain=names, range=[theme.colour(s) for s in series]))
    colour = colour.legend(None)
    shapes = alt.Scale(domain=names, range=[theme.shape(s) for s in series])
    shape = alt.Shape("strategy:N", scale=shapes).legend(None)
    base = chart(x=across, y=up, color=colour, opacity=opacity)
    layers = [base.mark_line(strokeWidth=2, strokeJoin="round")]
    layers.append(base.transform_filter("datum.marked").mark_point(filled=True, size=48).encode(shape=shape))
    if rules:
        upright = alt.Chart(data(rules)).encode(x=across, color=colour, opacity=opacity)
        layers.append(upright.mark_rule(strokeWidth=2, strokeDash=[6, 3]))
        top = upright.mark_point(filled=True, size=70).encode(y=alt.value(4), shape=shape)
        layers.append(top.encode(tooltip=[alt.Tooltip("strategy:N", title=" "), alt.Tooltip("x:Q", format=".4~g")]))
    layers.append(_reading(readings, names, across, x.title))
    return finished(layers, text, rows=rows, height=280, focus=True)


def _reading(readings: Sequence[Row], names: Sequence[str], across: Any, title: str) -> Any:
    """A rule at the x nearest to the pointer, whose tooltip has every curve's value there."""
    import altair as alt

    near = alt.selection_point(name=READING, nearest=True, on="pointermove", encodings=["x"], empty=False)
    shown = [
        alt.Tooltip(f"y{i}:Q", title=name, format=".4~g") for i, name in enumerate(names) if f"y{i}" in readings[0]
    ]
    return (
        alt.Chart(data(readings), name=READING)
        .mark_rule(color=theme.variable("soft"), strokeWidth=1)
        .encode(
            x=across,
            opacity=alt.condition(near, alt.value(0.8), alt.value(0)),
            tooltip=[alt.Tooltip("x:Q", title=title, format=".4~g"), *shown],
        )
        .add_params(near)
    )
