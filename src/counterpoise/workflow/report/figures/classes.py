"""One row a class: counts, recall by strategy, training against validation recall, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from counterpoise.workflow.report import theme
from counterpoise.workflow.report.figures.drawing import (
    WHOLE,
    Row,
    chart,
    data,
    finished,
    focused,
    strategy_colour,
    strategy_shape,
)
from counterpoise.workflow.report.page import Series

__all__ = ["SPLITS", "SPLIT_COLOURS", "confusion", "counts", "gap", "recall"]

SPLITS = (("train", "circle"), ("val", "diamond"), ("test", "triangle-up"))
SPLIT_COLOURS = {"train": "accent", "val": "s5", "test": "s2"}


def _class_axis(labels: Sequence[str], **more: Any) -> Any:
    import altair as alt

    axis = alt.Axis(title=None, grid=False, labelColor=theme.variable("ink"), labelOverlap=False, **more)
    return alt.Y("class:N", scale=alt.Scale(domain=list(labels)), axis=axis)


def counts(rows: Sequence[Row], labels: Sequence[str], text: str, *, log: bool) -> Row:
    """Images per class and split. Rows: class, split, n, group. On a log scale 0 stands at the left edge."""
    import altair as alt

    splits = [(split, mark) for split, mark in SPLITS if any(row["split"] == split for row in rows)]
    top = max([row["n"] for row in rows], default=0)
    kind = alt.Scale(type="symlog", constant=1, domainMin=0) if log else alt.Scale(zero=True)
    values = [v for k in range(8) for v in (10**k, 3 * 10**k) if v <= top] if log else None
    axis = alt.Axis(title="Images", format=",d", **({"values": [0, *(values or [])]} if log else {"tickCount": 6}))
    x = alt.X("n:Q", scale=kind, axis=axis)
    domain = [split for split, _ in splits]
    colours = [theme.variable(SPLIT_COLOURS[split]) for split in domain]
    base = chart(
        y=_class_axis(labels),
        color=alt.Color("split:N", scale=alt.Scale(domain=domain, range=colours), legend=None),
    )
    tooltip = [
        alt.Tooltip("class:N", title="Class"),
        alt.Tooltip("group:N", title="Group"),
        alt.Tooltip("split:N", title="Split"),
        alt.Tooltip("n:Q", title="Images", format=",d"),
    ]
    stem = (
        base.transform_filter("datum.split === 'train'")
        .mark_rule(strokeWidth=2, opacity=0.35)
        .encode(x=x, x2=alt.datum(0))
    )
    shape = alt.Shape("split:N", scale=alt.Scale(domain=domain, range=[mark for _, mark in splits]), legend=None)
    dot = base.mark_point(filled=True, size=72, opacity=1).encode(x=x, shape=shape, tooltip=tooltip)
    return finished([stem, dot], text, rows=rows, height=20 * len(labels))


def recall(rows: Sequence[Row], labels: Sequence[str], series: Sequence[Series], text: str, *, split: str) -> Row:
    """Recall with its interval. Rows: class, strategy, recall, low, high (rates), shown."""
    import altair as alt

    names = [s.name for s in series]
    base = chart(
        y=_class_axis(labels, tickBand="extent"),
        yOffset=alt.YOffset("strategy:N", scale=alt.Scale(domain=names, paddingOuter=1)),
        color=strategy_colour(series),
        opacity=focused(),
        tooltip=[
            alt.Tooltip("class:N", title="Class"),
            alt.Tooltip("strategy:N", title="Strategy"),
            alt.Tooltip("shown:N", title="Recall, %"),
            alt.Tooltip("support:Q", title=f"{split.capitalize()} images", format=",d"),
        ],
    )
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(title=f"Recall on the {split} images", **WHOLE)
    x = alt.X("recall:Q", scale=scale, axis=axis)
    band = (
        alt.Chart(data([{"class": label} for label in labels[1::2]]))
        .mark_rect(color=theme.variable("sheet"), opacity=0.8)
        .encode(y=_class_axis(labels))
    )
    whisker = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q")
    point = base.mark_point(filled=True, size=56).encode(x=x, shape=strategy_shape(series))
    height = len(labels) * ((11 if len(labels) <= 15 else 9) * len(names) + 10)
    return finished([band, whisker, point], text, rows=rows, height=height, focus=True)


def gap(rows: Sequence[Row], labels: Sequence[str], text: str, *, series: Series) -> Row:
    """Training against validation recall of one strategy. Rows: class, train, val, shown."""
    import altair as alt

    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(title="Recall", **WHOLE)
    tooltip = [
        alt.Tooltip("class:N", title="Class"),
        alt.Tooltip("train:Q", title="Recall on training images", format=".1%"),
        alt.Tooltip("val:Q", title="Recall on the others", format=".1%"),
        alt.Tooltip("shown:N", title="Gap, percentage points"),
        alt.Tooltip("images:Q", title="Training images", format=",d"),
    ]
    base = chart(y=_class_axis(labels), tooltip=tooltip)
    tint = theme.colour(series)
    link = base.mark_rule(strokeWidth=5, opacity=0.28, color=tint).encode(
        x=alt.X("val:Q", scale=scale, axis=axis), x2="train:Q"
    )
    train = base.mark_point(size=80, strokeWidth=2, color=tint, fill=theme.variable("paper"), opacity=1).encode(
        x=alt.X("train:Q", scale=scale, axis=axis)
    )
    val = base.mark_point(size=80, filled=True, color=tint, opacity=1).encode(x=alt.X("val:Q", scale=scale, axis=axis))
    return finished([link, train, val], text, rows=rows, height=22 * len(labels))


def confusion(rows: Sequence[Row], labels: Sequence[str], text: str, *, written: bool) -> Row:
    """A confusion matrix. Rows, one a non-empty cell: t (true), p (predicted), n (count), r (share of the row)."""
    import altair as alt

    scale = alt.Scale(domain=list(labels), padding=0.04)
    ink = theme.variable("ink")
    small: dict[str, Any] = {"labelFontSize": 11, "labelOverlap": False, "labelColor": ink, "grid": False}
    angle = 0 if max(map(len, labels)) <= 3 else -45
    above = alt.Axis(title="Predicted", orient="top", labelAngle=angle, labelLimit=96, **small)
    x = alt.X("p:N", scale=scale, axis=above)
    y = alt.Y("t:N", scale=scale, axis=alt.Axis(title="True class", labelLimit=130, **small))
    tooltip = [
        alt.Tooltip("t:N", title="True class"),
        alt.Tooltip("p:N", title="Predicted"),
        alt.Tooltip("n:Q", title="Images", format=",d"),
        alt.Tooltip("r:Q", title="Share of the true class", format=".1%"),
    ]
    base = chart(x=x, y=y)
    shade = alt.Opacity("r:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 1]), legend=None)
    cells = base.mark_rect(color=theme.variable("shade")).encode(opacity=shade, tooltip=tooltip)
    diagonal = alt.Chart(data([{"t": label, "p": label} for label in labels])).mark_rect(
        fill=None, stroke=theme.variable("soft"), strokeWidth=0.8
    )
    layers = [cells, diagonal.encode(x=x, y=y)]
    if written:
        layers.append(base.mark_text(fontSize=11).encode(text="shown:N", color=alt.value(ink), tooltip=tooltip))
    return finished(layers, text, rows=rows, height=(30 if written else 20) * len(labels))
