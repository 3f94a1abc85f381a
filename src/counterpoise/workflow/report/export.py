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
COLUMNS = 3


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
    drawn = first.draw()
    title = f"{figure.title}: {shown(first.label)}" if first.label else figure.title
    marks = [*(Mark(s.name, theme.token(s), theme.shape(s)) for s in figure.key), *figure.legend]
    whole = ("$schema", "datasets", "params")  # what belongs to a file, not to one picture in it
    picture = {key: value for key, value in drawn.items() if key not in whole}
    spec = {
        **{key: drawn[key] for key in whole if key in drawn},
        "title": {"text": title, "anchor": "start", "fontSize": 15, "color": theme.LIGHT["ink"], "offset": 14},
        "vconcat": [{**picture, "width": WIDTH}, *([_key(marks)] if marks else [])],
        "resolve": {"scale": dict.fromkeys(("color", "fill", "stroke", "shape"), "independent")},
        "config": {**theme.config(), "background": theme.LIGHT["paper"], "padding": 20},
    }
    return theme.resolved(spec)


def _key(marks: list[Mark]) -> dict[str, Any]:
    """The marks and what they stand for, in columns; drawn as data, since Vega's legends do not merge across layers."""
    rows = [
        {
            "x": 8 + (i % COLUMNS) * WIDTH // COLUMNS,
            "y": 8 + (i // COLUMNS) * 22,
            "label": shown(mark.label, 30),
            "stroke": theme.LIGHT[mark.colour],
            "fill": theme.LIGHT["paper" if mark.hollow else mark.colour],
            "shape": mark.shape,
        }
        for i, mark in enumerate(marks)
    ]
    place = {axis: {"field": axis, "type": "quantitative", "scale": None, "axis": None} for axis in ("x", "y")}
    look = {channel: {"field": channel, "scale": None} for channel in ("stroke", "fill", "shape")}
    text = {"text": {"field": "label"}, "color": {"value": theme.LIGHT["ink"]}}
    return {
        "data": {"values": rows},
        "width": WIDTH,
        "height": 22 * (1 + (len(marks) - 1) // COLUMNS),
        "encoding": place,
        "layer": [
            {"mark": {"type": "point", "size": 70, "opacity": 1, "strokeWidth": 1.6}, "encoding": look},
            {"mark": {"type": "text", "align": "left", "dx": 12, "fontSize": 12}, "encoding": text},
        ],
    }
