"""One figure, or all of a page, as an SVG or PNG file in the colours of the light theme."""

from __future__ import annotations

from typing import Any

from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.report import theme
from counterpoise.workflow.report.figures.explained import READING
from counterpoise.workflow.report.page import Figure, Mark, Page
from counterpoise.workflow.report.text import shown

__all__ = ["figure_bytes"]

WIDTH = 720
SCALE = 2.0
COLUMNS = 3


def figure_bytes(page: Page, name: str | None, *, suffix: str) -> bytes:
    """The figure called ``name``, of several pictures the first; all figures one below the other for None."""
    import vl_convert

    figures = page.figures
    if name is None:
        spec = together(page)
    elif name in figures:
        spec = _still(standalone(figures[name]))
    else:
        have = ", ".join(figures) or "none"
        raise ArgumentError(f"`figure` must name a figure of this {page.kind.lower()} ({have}); got {name!r}")
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


def together(page: Page) -> dict[str, Any]:
    """Every figure of the page, one below the other."""
    specs = [_still(standalone(figure)) for figure in page.figures.values()]
    if not specs:
        raise ArgumentError(f"`path`: this {page.kind.lower()} has no figure; write .html, .md or .json")
    whole = ("$schema", "datasets", "params", "config")
    datasets = {name: rows for spec in specs for name, rows in spec.get("datasets", {}).items()}
    title = {"text": shown(page.title, 80), "anchor": "start", "fontSize": 20, "color": theme.LIGHT["ink"]}
    return {
        **{key: specs[0][key] for key in whole if key in specs[0]},
        "datasets": datasets,
        "title": {**title, "offset": 18},
        "vconcat": [{key: value for key, value in spec.items() if key not in whole} for spec in specs],
        "spacing": 36,
        "resolve": {"scale": dict.fromkeys(("color", "fill", "stroke", "shape"), "independent")},
    }


def _still(spec: dict[str, Any]) -> dict[str, Any]:
    """Without what follows a pointer."""
    spec = {**spec, "params": [param for param in spec.get("params", []) if "select" not in param]}
    first = spec["vconcat"][0]
    layers = [layer for layer in first.get("layer", []) if layer.get("name") != READING]
    return {**spec, "vconcat": [{**first, "layer": layers}, *spec["vconcat"][1:]]} if layers else spec


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
