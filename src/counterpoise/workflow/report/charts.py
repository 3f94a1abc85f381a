"""Vega-Lite charts of strategies, classes and explanations, built with Altair from rows of numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from counterpoise.workflow.report import theme
from counterpoise.workflow.report.formatting import SPLIT_NAMES, short_labels
from counterpoise.workflow.report.page import Row, Series, VegaSpec


class _LazyAltair:
    """Altair, imported when the first chart is built."""

    def __getattr__(self, name: str) -> Any:
        import altair

        return getattr(altair, name)


alt: Any = _LazyAltair()
SPLIT_SHAPES = {"train": "circle", "val": "diamond", "test": "triangle-up"}
SPLIT_COLOURS = {"train": "accent", "val": "s5", "test": "s2"}
POINTER = "pointer"
"""Name of the parameter and the layer that follow the pointer; SVG and PNG files do without them."""
NARROW, LABEL, SHORT_LABEL, STRATEGY_LABEL = 560, 26, 16, 23
UNIT_AXIS: VegaSpec = {"format": ".0%", "values": [0, 0.2, 0.4, 0.6, 0.8, 1], "grid": True}
QUARTERS: VegaSpec = {"format": ".0%", "values": [0, 0.25, 0.5, 0.75, 1], "grid": True}
# Decimals where ticks are closer than a percentage point, so that no two ticks have the same label.
SHARE_AXIS: VegaSpec = {"format": ".2~%", "tickCount": 6, "tickMinStep": 0.0005}
# Percentage points with their sign; 0 has none.
POINTS_LABEL = "datum.value === 0 ? '0' : format(100 * datum.value, '+.3~g')"


def _data(rows: Sequence[Row]) -> Any:
    return alt.InlineData(values=list(rows))


def _layer(**encodings: Any) -> Any:
    """A layer that takes the rows of the whole chart."""
    return alt.Chart().encode(**encodings)


def _tooltips(*fields: tuple[str, str] | tuple[str, str, str]) -> list[Any]:
    """Tooltip lines: field, title, and the number format if there is one."""
    return [
        alt.Tooltip(field, title=title, format=rest[0] if rest else alt.Undefined) for field, title, *rest in fields
    ]


def _colour(series: Sequence[Series]) -> Any:
    scale = alt.Scale(domain=[s.name for s in series], range=[theme.colour(s) for s in series])
    return alt.Color("strategy:N", scale=scale, legend=None)


def _shape(series: Sequence[Series]) -> Any:
    scale = alt.Scale(domain=[s.name for s in series], range=[theme.shape(s) for s in series])
    return alt.Shape("strategy:N", scale=scale, legend=None)


def _highlighted(full: float = 1.0, faint: float = 0.1, *, among: Sequence[Series] = ()) -> Any:
    """Full opacity for the strategy that the reader selected on the page, or for all if none is selected.

    If ``among`` are the strategies of the chart, the selection of another one changes nothing.
    """
    names = json.dumps([s.name for s in among])
    elsewhere = f" || indexof({names}, focus) < 0" if among else ""
    return alt.condition(f"focus === ''{elsewhere} || datum.strategy === focus", alt.value(full), alt.value(faint))


def _axis_of_names(names: Sequence[str], *, short: bool = False, phone: int = SHORT_LABEL, **options: Any) -> Any:
    """An axis of names, shortened such that they stay distinct: to ``phone`` characters on a narrow screen.

    With ``short`` they are as short on every screen.
    """

    def labels(length: int) -> str:
        return f"{json.dumps(short_labels(names, length))}[indexof({json.dumps(list(names))}, datum.label)]"

    narrow = f"containerSize()[0] < {NARROW} ? {labels(phone)} : {labels(LABEL)}"
    look = {"title": None, "grid": False, "labelColor": theme.variable("text"), "labelOverlap": False}
    return alt.Axis(labelExpr=labels(SHORT_LABEL) if short else narrow, **{**look, **options})


def _y_of_classes(labels: Sequence[str], **options: Any) -> Any:
    return alt.Y("class:N", scale=alt.Scale(domain=list(labels)), axis=_axis_of_names(labels, **options))


def _layered(layers: Sequence[Any], text: str, *, rows: Sequence[Row], height: int, focus: bool = False) -> VegaSpec:
    """The layers over one set of rows, as wide as the page allows, with ``text`` as the description."""
    chart = alt.layer(*layers, data=_data(rows)).properties(width="container", height=height, description=text)
    if focus:
        chart = chart.add_params(alt.param(name="focus", value=""))
    spec: VegaSpec = chart.to_dict(validate=False)  # a test validates every chart
    spec.pop("config", None)
    return spec


def _whole_ticks(low: int, high: int, most: int = 8) -> list[int]:
    """Whole numbers from ``low`` to ``high`` in steps of 1, 2, 5, 10, …: Vega repeats a label if it halves them."""
    step = next(m * 10**k for k in range(19) for m in (1, 2, 5) if (high - low) <= most * m * 10**k)
    return list(range(-(-low // step) * step, high + 1, step))


def counts_chart(rows: Sequence[Row], labels: Sequence[str], text: str, *, log: bool) -> VegaSpec:
    """Images per class and split; rows: class, split, n, group. A logarithmic axis starts at 0 as well."""
    splits = [split for split in SPLIT_NAMES if any(row["split"] == split for row in rows)]
    largest = max([row["n"] for row in rows], default=0)
    scale = alt.Scale(type="symlog", constant=1, domainMin=0) if log else alt.Scale(zero=True)
    powers = [v for k in range(8) for v in (10**k, 3 * 10**k) if v <= largest]
    ticks = [0, *powers] if log else _whole_ticks(0, largest)
    x = alt.X("n:Q", scale=scale, axis=alt.Axis(title="Images", format=",d", values=ticks))
    colours = alt.Scale(domain=splits, range=[theme.variable(SPLIT_COLOURS[split]) for split in splits])
    base = _layer(y=_y_of_classes(labels), color=alt.Color("split:N", scale=colours, legend=None))
    tooltip = _tooltips(("class:N", "Class"), ("group:N", "Group"), ("name:N", "Split"), ("n:Q", "Images", ",d"))
    stem = base.transform_filter("datum.split === 'train'").mark_rule(strokeWidth=2, opacity=0.35)
    shapes = alt.Scale(domain=splits, range=[SPLIT_SHAPES[split] for split in splits])
    dot = base.mark_point(filled=True, size=72, opacity=1).encode(
        x=x, shape=alt.Shape("split:N", scale=shapes, legend=None), tooltip=tooltip
    )
    return _layered([stem.encode(x=x, x2=alt.datum(0)), dot], text, rows=rows, height=20 * len(labels))


def recall_chart(
    rows: Sequence[Row], labels: Sequence[str], series: Sequence[Series], text: str, *, split: str
) -> VegaSpec:
    """Recall per class with its interval; rows: class, strategy, recall, low, high, formatted, support."""
    names = [s.name for s in series]
    base = _layer(
        y=_y_of_classes(labels, tickBand="extent"),
        yOffset=alt.YOffset("strategy:N", scale=alt.Scale(domain=names, paddingOuter=1)),
        color=_colour(series),
        opacity=_highlighted(),
        tooltip=_tooltips(
            ("class:N", "Class"),
            ("strategy:N", "Strategy"),
            ("formatted:N", "Recall (%)"),
            ("support:Q", f"{split.capitalize()} images", ",d"),
        ),
    )
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(title=f"Recall on the {split} images", **UNIT_AXIS)
    stripes = alt.Chart(_data([{"class": label} for label in labels[1::2]]))
    band = stripes.mark_rect(color=theme.variable("surface"), opacity=0.8).encode(y=_y_of_classes(labels))
    whisker = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q")
    x = alt.X("recall:Q", scale=scale, axis=axis)
    point = base.mark_point(filled=True, size=56).encode(x=x, shape=_shape(series))
    height = len(labels) * ((11 if len(labels) <= 15 else 9) * len(names) + 10)
    return _layered([band, whisker, point], text, rows=rows, height=height, focus=True)


def gap_chart(rows: Sequence[Row], labels: Sequence[str], text: str, *, series: Series, split: str) -> VegaSpec:
    """Recall on training images and on ``split`` of one strategy; rows: class, train, evaluated, formatted, images."""
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(title="Recall", **UNIT_AXIS)
    tooltip = _tooltips(
        ("class:N", "Class"),
        ("train:Q", "Recall on the training images", ".1%"),
        ("evaluated:Q", f"Recall on the {split} images", ".1%"),
        ("formatted:N", "Gap (percentage points)"),
        ("images:Q", "Training images", ",d"),
    )
    base, colour = _layer(y=_y_of_classes(labels), tooltip=tooltip), theme.colour(series)
    x_train, x = (alt.X(f"{field}:Q", scale=scale, axis=axis) for field in ("train", "evaluated"))
    bar = base.mark_rule(strokeWidth=5, opacity=0.28, color=colour).encode(x=x, x2="train:Q")
    inside = theme.variable("background")
    train = base.mark_point(size=80, strokeWidth=2, color=colour, fill=inside, opacity=1).encode(x=x_train)
    evaluated = base.mark_point(size=80, filled=True, color=colour, opacity=1).encode(x=x)
    return _layered([bar, train, evaluated], text, rows=rows, height=22 * len(labels))


def confusion_chart(rows: Sequence[Row], labels: Sequence[str], text: str, *, numbers: bool) -> VegaSpec:
    """A confusion matrix; rows, one per non-empty cell: t (true), p (predicted), n (images), r (share), formatted."""
    scale = alt.Scale(domain=list(labels), padding=0.04)
    angle = 0 if max(map(len, labels)) <= 3 else -45
    top: VegaSpec = {"title": "Predicted class", "orient": "top", "labelAngle": angle, "labelLimit": 130}
    x = alt.X("p:N", scale=scale, axis=_axis_of_names(labels, short=True, labelFontSize=11, **top))
    y_axis = _axis_of_names(labels, title="True class", labelFontSize=11, labelLimit=200)
    y = alt.Y("t:N", scale=scale, axis=y_axis)
    tooltip = _tooltips(
        ("t:N", "True class"),
        ("p:N", "Predicted class"),
        ("n:Q", "Images", ",d"),
        ("r:Q", "Share of the true class", ".1%"),
    )
    base = _layer(x=x, y=y)
    shade = alt.Opacity("r:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 1]), legend=None)
    cells = base.mark_rect(color=theme.variable("shade")).encode(opacity=shade, tooltip=tooltip)
    diagonal = alt.Chart(_data([{"t": label, "p": label} for label in labels])).encode(x=x, y=y)
    layers = [cells, diagonal.mark_rect(fill=None, stroke=theme.variable("muted"), strokeWidth=0.8)]
    if numbers:
        colour = alt.value(theme.variable("text"))
        layers.append(base.mark_text(fontSize=11).encode(text="formatted:N", color=colour, tooltip=tooltip))
    return _layered(layers, text, rows=rows, height=(30 if numbers else 20) * len(labels))


def differences_chart(
    rows: Sequence[Row], series: Sequence[Series], text: str, *, title: str, dashed: bool = False
) -> VegaSpec:
    """A forest plot of differences; rows: strategy, estimate, low, high (shares), formatted, method."""
    names = [s.name for s in series]
    axis = _axis_of_names(names, phone=STRATEGY_LABEL, labelFontSize=12, labelLimit=240)
    tooltip = _tooltips(
        ("strategy:N", "Strategy"), ("formatted:N", "Difference (percentage points)"), ("method:N", "Bootstrap over")
    )
    y = alt.Y("strategy:N", scale=alt.Scale(domain=names), axis=axis)
    base = _layer(y=y, color=_colour(series), tooltip=tooltip)
    zero = alt.Chart(_data([{}])).mark_rule(color=theme.variable("text"), strokeWidth=1).encode(x=alt.datum(0))
    across = alt.Axis(title=title, tickCount=6, labelExpr=POINTS_LABEL)
    dash = alt.value([3, 3] if dashed else [1, 0])
    whisker = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", axis=across), x2="high:Q", strokeDash=dash)
    point = base.mark_point(size=80, strokeWidth=2, opacity=1, filled=not dashed)
    point = point.encode(x=alt.X("estimate:Q", axis=across))
    point = point.encode(fill=alt.value(theme.variable("background"))) if dashed else point
    return _layered([zero, whisker, point], text, rows=rows, height=32 * len(names))


def tradeoff_chart(
    rows: Sequence[Row], means: Sequence[Row], series: Sequence[Series], text: str, *, frequent: str, rare: str
) -> VegaSpec:
    """Recall of rare against recall of frequent classes; rows: strategy, seed, frequent, rare (shares)."""
    scale = alt.Scale(zero=False, nice=True, padding=14)
    # The padding around the marks may extend beyond 0 % and 100 %; these ticks have no label.
    inside = {**SHARE_AXIS, "labelExpr": "datum.value < 0 || datum.value > 1 ? '' : datum.label"}
    axes = {"frequent": frequent, "rare": rare}
    x, y = (
        channel(f"{field}:Q", axis=alt.Axis(title=f"{title} (test)", labelPadding=12, **inside), scale=scale)
        for channel, (field, title) in zip((alt.X, alt.Y), axes.items(), strict=True)
    )
    tooltip = _tooltips(
        ("strategy:N", "Strategy"), ("seed:N", "Seed"), *((f"{field}:Q", title, ".1%") for field, title in axes.items())
    )
    look = {"x": x, "y": y, "color": _colour(series), "shape": _shape(series), "tooltip": tooltip}
    seeds = _layer(opacity=_highlighted(0.75), **look).mark_point(size=46, strokeWidth=1.4, filled=False)
    mean = alt.Chart(_data(means)).encode(opacity=_highlighted(), **look)
    mean = mean.mark_point(size=170, filled=True, stroke=theme.variable("background"), strokeWidth=1.5)
    return _layered([seeds, mean], text, rows=rows, height=400, focus=True)


def calibration_chart(rows: Sequence[Row], series: Sequence[Series], text: str) -> VegaSpec:
    """A reliability diagram; rows: strategy, confidence, accuracy, count, share, range."""
    scale = alt.Scale(domain=[0, 1], nice=False)
    x_axis = alt.Axis(title="Confidence (highest predicted probability)", **QUARTERS)
    x, y = (
        alt.X("confidence:Q", scale=scale, axis=x_axis),
        alt.Y("accuracy:Q", scale=scale, axis=alt.Axis(title="Accuracy", **QUARTERS)),
    )
    diagonal = alt.Chart(_data([{"confidence": end, "accuracy": end} for end in (0, 1)])).encode(x=x, y=y)
    base = _layer(x=x, y=y, color=_colour(series), opacity=_highlighted(among=series))
    size = alt.Size("share:Q", scale=alt.Scale(domain=[0, 1], range=[16, 420]), legend=None)
    tooltip = _tooltips(
        ("strategy:N", "Strategy"),
        ("range:N", "Confidence bin"),
        ("count:Q", "Predictions", ",d"),
        ("confidence:Q", "Mean confidence", ".1%"),
        ("accuracy:Q", "Accuracy", ".1%"),
    )
    layers = [
        diagonal.mark_line(color=theme.variable("muted"), strokeDash=[4, 4], strokeWidth=1),
        base.mark_line(strokeWidth=1.2, strokeOpacity=0.45),
        base.mark_point(filled=True).encode(size=size, shape=_shape(series), tooltip=tooltip),
    ]
    return _layered(layers, text, rows=rows, height=400, focus=True)


def training_chart(rows: Sequence[Row], series: Sequence[Series], text: str, *, title: str, is_share: bool) -> VegaSpec:
    """Training curves, one line per seed; rows: strategy, seed, epoch, value, last."""
    axis = alt.Axis(title=title, **(SHARE_AXIS if is_share else {"format": "~g", "tickCount": 6}))
    ticks = _whole_ticks(*(end(int(row["epoch"]) for row in rows) for end in (min, max)))
    epochs = alt.Axis(title="Epoch", format="d", values=ticks, grid=False)
    x = alt.X("epoch:Q", axis=epochs, scale=alt.Scale(nice=False))
    starts_at_0 = is_share and min(row["value"] for row in rows) < 0.5
    y = alt.Y("value:Q", axis=axis, scale=alt.Scale(zero=starts_at_0))
    base = _layer(x=x, y=y, color=_colour(series), detail="seed:N", opacity=_highlighted(0.9))
    tooltip = _tooltips(
        ("strategy:N", "Strategy"),
        ("seed:N", "Seed"),
        ("epoch:Q", "Epoch"),
        ("value:Q", title, ".1%" if is_share else ".4~g"),
    )
    last = base.transform_filter("datum.last").encode(shape=_shape(series), tooltip=tooltip)
    layers = [
        base.mark_line(strokeWidth=1.6),
        base.mark_point(size=90, opacity=0, filled=True).encode(opacity=alt.value(0), tooltip=tooltip),
        last.mark_point(filled=True, size=70, stroke=theme.variable("background"), strokeWidth=1),
    ]
    return _layered(layers, text, rows=rows, height=320, focus=True)


@dataclass(frozen=True)
class Scale:
    """An axis of an explanation's chart: title, range, and whether it is logarithmic or ends exactly at the range."""

    title: str
    low: float
    high: float
    log: bool = False
    exact: bool = False

    @property
    def channel(self) -> VegaSpec:
        """Scale and axis as arguments of an Altair channel."""
        if self.log or self.exact:
            ends: VegaSpec = {"domain": [self.low, self.high], "nice": False}
        else:  # start at 0 unless that would leave most of the chart empty
            ends = {"zero": 0 <= self.low < self.high / 4}
        ticks: VegaSpec = {"values": _log_ticks(self.low, self.high)} if self.log else {"tickCount": 6}
        axis = alt.Axis(title=self.title, format=",.6~g", grid=True, **ticks)
        return {"scale": alt.Scale(type="log" if self.log else "linear", **ends), "axis": axis}


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … within the range, or powers of ten alone if there are many."""
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**k for k in powers for step in steps if low * 0.999 <= step * 10.0**k <= high * 1.001]


def curves_chart(
    rows: Sequence[Row],
    values: Sequence[Row],
    series: Sequence[Series],
    text: str,
    *,
    x: Scale,
    y: Scale,
    lines: Sequence[Row],
) -> VegaSpec:
    """Curves of an explanation, with all values at the pointer in a tooltip.

    Rows: strategy (name of the curve), x, y, marked. Values, one per x: x, y0, y1, … in the order of the series.
    Lines (vertical): strategy, x.
    """
    opacity = _highlighted(faint=0.12, among=series)
    across, colour, shape = alt.X("x:Q", **x.channel), _colour(series), _shape(series)
    base = _layer(x=across, y=alt.Y("y:Q", **y.channel), color=colour, opacity=opacity)
    layers = [base.mark_line(strokeWidth=2, strokeJoin="round")]
    layers.append(base.transform_filter("datum.marked").mark_point(filled=True, size=48).encode(shape=shape))
    if lines:
        upright = alt.Chart(_data(lines)).encode(x=across, color=colour, opacity=opacity)
        layers.append(upright.mark_rule(strokeWidth=2, strokeDash=[6, 3]))
        mark = upright.mark_point(filled=True, size=70).encode(y=alt.value(4), shape=shape)
        layers.append(mark.encode(tooltip=_tooltips(("strategy:N", " "), ("x:Q", x.title, ".4~g"))))
    layers.append(_values_at_pointer(values, series, across, x.title))
    return _layered(layers, text, rows=rows, height=280, focus=True)


def _values_at_pointer(values: Sequence[Row], series: Sequence[Series], x: Any, title: str) -> Any:
    nearest = alt.selection_point(name=POINTER, nearest=True, on="pointermove", encodings=["x"], empty=False)
    fields = ((f"y{i}:Q", s.name, ".4~g") for i, s in enumerate(series) if f"y{i}" in values[0])
    line = alt.Chart(_data(values), name=POINTER).mark_rule(color=theme.variable("muted"), strokeWidth=1)
    opacity = alt.condition(nearest, alt.value(0.8), alt.value(0))
    return line.encode(x=x, opacity=opacity, tooltip=_tooltips(("x:Q", title, ".4~g"), *fields)).add_params(nearest)
