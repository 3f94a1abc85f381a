"""One mark a strategy: differences, the trade-off of head against tail, calibration, training curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from counterpoise.workflow.report import theme
from counterpoise.workflow.report.figures.drawing import (
    BROAD,
    Row,
    chart,
    data,
    finished,
    focused,
    strategy_colour,
    strategy_shape,
)
from counterpoise.workflow.report.page import Series

__all__ = ["calibration", "curves", "differences", "tradeoff"]


def differences(rows: Sequence[Row], series: Sequence[Series], text: str, *, title: str, hollow: bool = False) -> Row:
    """A forest plot. Rows: strategy, estimate, low, high (rates), shown, method."""
    import altair as alt

    names = [s.name for s in series]
    labelled = alt.Axis(title=None, grid=False, labelColor=theme.variable("ink"), labelFontSize=13, labelLimit=200)
    tooltip = [
        alt.Tooltip("strategy:N", title="Strategy"),
        alt.Tooltip("shown:N", title="Difference, percentage points"),
        alt.Tooltip("method:N", title="Bootstrap over"),
    ]
    y = alt.Y("strategy:N", scale=alt.Scale(domain=names), axis=labelled)
    base = chart(y=y, color=strategy_colour(series), tooltip=tooltip)
    zero = alt.Chart(data([{}])).mark_rule(color=theme.variable("ink"), strokeWidth=1).encode(x=alt.datum(0))
    axis = alt.Axis(title=title, tickCount=6, labelExpr=_POINTS)
    dash = alt.value([3, 3] if hollow else [1, 0])
    whisker = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", axis=axis), x2="high:Q", strokeDash=dash)
    x, inside = alt.X("estimate:Q", axis=axis), alt.value(theme.variable("paper"))
    point = base.mark_point(size=80, strokeWidth=2, opacity=1, filled=not hollow).encode(x=x)
    point = point.encode(fill=inside) if hollow else point
    return finished([zero, whisker, point], text, rows=rows, height=32 * len(names))


# A zero without a sign; everything else in percentage points with one.
_POINTS = "datum.value === 0 ? '0' : format(100 * datum.value, '+.3~g')"


def tradeoff(
    rows: Sequence[Row], means: Sequence[Row], series: Sequence[Series], text: str, *, head: str, tail: str
) -> Row:
    """Recall of the larger classes against that of the rarer. Rows: strategy, seed, head, tail (rates)."""
    import altair as alt

    scale = alt.Scale(zero=False, nice=True, padding=14)
    # The padding around the marks may reach beyond what a rate can be: no number stands there.
    rates: dict[str, Any] = {
        "format": ".0%",
        "tickCount": 6,
        "labelExpr": "datum.value < 0 || datum.value > 1 ? '' : datum.label",
    }
    across = alt.Axis(title=f"Recall of the classes with {head} images", **rates)
    up = alt.Axis(title=f"Recall of the classes with {tail} images", **rates)
    x, y = alt.X("head:Q", axis=across, scale=scale), alt.Y("tail:Q", axis=up, scale=scale)
    tooltip = [
        alt.Tooltip("strategy:N", title="Strategy"),
        alt.Tooltip("seed:N", title="Seed"),
        alt.Tooltip("head:Q", title=head.capitalize(), format=".1%"),
        alt.Tooltip("tail:Q", title=tail.capitalize(), format=".1%"),
    ]
    seeds = (
        alt.Chart()
        .mark_point(size=46, strokeWidth=1.4, filled=False)
        .encode(
            x=x,
            y=y,
            color=strategy_colour(series),
            shape=strategy_shape(series),
            opacity=focused(0.75),
            tooltip=tooltip,
        )
    )
    mean = (
        alt.Chart(data(means))
        .mark_point(size=170, filled=True, stroke=theme.variable("paper"), strokeWidth=1.5)
        .encode(
            x=x, y=y, color=strategy_colour(series), shape=strategy_shape(series), opacity=focused(), tooltip=tooltip
        )
    )
    return finished([seeds, mean], text, rows=rows, height=400, focus=True)


def calibration(rows: Sequence[Row], series: Sequence[Series], text: str) -> Row:
    """A reliability diagram. Rows: strategy, confidence, accuracy, count, share, range."""
    import altair as alt

    ends = data([{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}])
    scale = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X("confidence:Q", scale=scale, axis=alt.Axis(title="Confidence: probability of the prediction", **BROAD))
    y = alt.Y("accuracy:Q", scale=scale, axis=alt.Axis(title="Accuracy", **BROAD))
    diagonal = alt.Chart(ends).mark_line(color=theme.variable("soft"), strokeDash=[4, 4], strokeWidth=1)
    base = chart(x=x, y=y, color=strategy_colour(series), opacity=focused())
    line = base.mark_line(strokeWidth=1.2, strokeOpacity=0.45)
    size = alt.Size("share:Q", scale=alt.Scale(domain=[0, 1], range=[16, 420]), legend=None)
    tooltip = [
        alt.Tooltip("strategy:N", title="Strategy"),
        alt.Tooltip("range:N", title="Confidence in"),
        alt.Tooltip("count:Q", title="Predictions", format=",d"),
        alt.Tooltip("confidence:Q", title="Mean confidence", format=".1%"),
        alt.Tooltip("accuracy:Q", title="Accuracy", format=".1%"),
    ]
    point = base.mark_point(filled=True).encode(size=size, shape=strategy_shape(series), tooltip=tooltip)
    return finished([diagonal.encode(x=x, y=y), line, point], text, rows=rows, height=400, focus=True)


def curves(rows: Sequence[Row], series: Sequence[Series], text: str, *, title: str, rate: bool) -> Row:
    """Training curves, one thin line a seed. Rows: strategy, seed, epoch, value, last."""
    import altair as alt

    axis = alt.Axis(title=title, format=".0%" if rate else "~g", tickCount=6)
    y = alt.Y("value:Q", axis=axis, scale=alt.Scale(zero=rate))
    x = alt.X(
        "epoch:Q", axis=alt.Axis(title="Epoch", format="d", tickMinStep=1, grid=False), scale=alt.Scale(nice=False)
    )
    base = chart(x=x, y=y, color=strategy_colour(series), detail="seed:N", opacity=focused(0.9))
    tooltip = [
        alt.Tooltip("strategy:N", title="Strategy"),
        alt.Tooltip("seed:N", title="Seed"),
        alt.Tooltip("epoch:Q", title="Epoch"),
        alt.Tooltip("value:Q", title=title, format=".1%" if rate else ".4~g"),
    ]
    line = base.mark_line(strokeWidth=1.6)
    reach = base.mark_point(size=90, opacity=0, filled=True).encode(opacity=alt.value(0), tooltip=tooltip)
    end = (
        base.transform_filter("datum.last")
        .mark_point(filled=True, size=70, stroke=theme.variable("paper"), strokeWidth=1)
        .encode(shape=strategy_shape(series), tooltip=tooltip)
    )
    return finished([line, reach, end], text, rows=rows, height=320, focus=True)
