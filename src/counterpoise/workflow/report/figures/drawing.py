"""What all figures share: rows in, the strategies' colours and marks, the reader's focus on one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from counterpoise.workflow.report import theme
from counterpoise.workflow.report.page import Series

__all__ = ["Row", "chart", "data", "finished", "focused", "strategy_colour", "strategy_shape"]

Row = dict[str, Any]
WHOLE: Row = {"format": ".0%", "values": [0, 0.2, 0.4, 0.6, 0.8, 1], "grid": True}
BROAD: Row = {"format": ".0%", "values": [0, 0.25, 0.5, 0.75, 1], "grid": True}


def data(rows: Sequence[Row]) -> Any:
    """Rows as inline data."""
    import altair as alt

    return alt.InlineData(values=list(rows))


def chart(**encodings: Any) -> Any:
    """A layer without rows of its own: it takes those of the figure."""
    import altair as alt

    return alt.Chart().encode(**encodings)


def strategy_colour(series: Sequence[Series]) -> Any:
    """Colour by strategy; the key stands beside the figure, in the page."""
    import altair as alt

    scale = alt.Scale(domain=[s.name for s in series], range=[theme.colour(s) for s in series])
    return alt.Color("strategy:N", scale=scale, legend=None)


def strategy_shape(series: Sequence[Series]) -> Any:
    """The mark by strategy, which says the same as the colour."""
    import altair as alt

    scale = alt.Scale(domain=[s.name for s in series], range=[theme.shape(s) for s in series])
    return alt.Shape("strategy:N", scale=scale, legend=None)


def focused(high: float = 1.0, low: float = 0.1) -> Any:
    """Opacity: full for the strategy that the reader chose in the key, or for all when none is chosen."""
    import altair as alt

    return alt.condition("focus === '' || datum.strategy === focus", alt.value(high), alt.value(low))


def finished(layers: Sequence[Any], text: str, *, rows: Sequence[Row], height: int, focus: bool = False) -> Row:
    """The layers over one set of rows: as wide as the page allows, described in words for those who cannot see it."""
    import altair as alt

    chart = alt.layer(*layers, data=data(rows)).properties(width="container", height=height, description=text)
    if focus:
        chart = chart.add_params(alt.param(name="focus", value=""))
    spec: Row = chart.to_dict(validate=False)  # a test validates every one
    spec.pop("config", None)
    return spec
