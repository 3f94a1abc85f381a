"""One figure as an SVG or PNG file, in the colours of the light theme."""

from __future__ import annotations

from typing import Any

from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.report import theme
from counterpoise.workflow.report.page import Figure, Mark, Page
from counterpoise.workflow.report.text import shown

__all__ = ["figure_bytes"]

WIDTH = 720
SCALE = 2.0


def figure_bytes(page: Page, name: str, *, suffix: str) -> bytes:
    """The figure called ``name``; of several pictures the first."""
    import vl_convert

    figures = page.figures
    if name not in figures:
        have = ", ".join(figures) or "none"
        raise ArgumentError(f"`figure` must name a figure of this {page.kind.lower()} ({have}); got {name!r}")
    spec = standalone(figures[name])
    if suffix == ".svg":
        svg: str = vl_convert.vegalite_to_svg(spec)
        return svg.encode("utf-8")
    png: bytes = vl_convert.vegalite_to_png(spec, scale=SCALE)
    return png


def standalone(figure: Figure) -> dict[str, Any]:
    """The first picture's specification with title and key in it, since no page stands around it."""
    first = figure.choices[0]
    title = f"{figure.title}: {shown(first.label)}" if first.label else figure.title
    marks = [*(Mark(s.name, theme.token(s), theme.shape(s)) for s in figure.key), *figure.legend]
    spec = {
        **first.spec,
        "width": WIDTH,
        "config": {**theme.config(), "background": theme.LIGHT["paper"], "padding": 20},
        "title": {
            "text": title,
            "anchor": "start",
            "frame": "group",
            "fontSize": 15,
            "font": theme.FONT,
            "color": theme.LIGHT["ink"],
            "offset": 14,
        },
    }
    if marks:
        spec["layer"] = [*spec["layer"], _legend(marks)]
        spec["resolve"] = {"scale": {"color": "independent", "shape": "independent"}}
    return theme.resolved(spec)


def _legend(marks: list[Mark]) -> dict[str, Any]:
    """Invisible points whose only purpose is the legend they bring."""
    labels = [mark.label for mark in marks]
    scale = {"domain": labels, "range": [theme.LIGHT[mark.colour] for mark in marks]}
    legend = {
        "title": None,
        "orient": "bottom",
        "direction": "horizontal",
        "columns": 3,
        "labelLimit": 220,
        "labelFontSize": 12,
        "symbolSize": 80,
        "symbolOpacity": 1,
        "symbolStrokeWidth": 1.6,
        "offset": 12,
    }
    hollow = [theme.LIGHT["paper"] if mark.hollow else theme.LIGHT[mark.colour] for mark in marks]
    return {
        "data": {"values": [{"key": label} for label in labels]},
        "mark": {"type": "point", "opacity": 0},
        "encoding": {
            "stroke": {"field": "key", "type": "nominal", "scale": scale, "legend": legend},
            "fill": {"field": "key", "type": "nominal", "scale": {"domain": labels, "range": hollow}, "legend": legend},
            "shape": {
                "field": "key",
                "type": "nominal",
                "scale": {"domain": labels, "range": [mark.shape for mark in marks]},
                "legend": legend,
            },
        },
    }
