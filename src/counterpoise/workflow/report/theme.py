"""Colours, marks and type of the report, in one place.

Figures are drawn as SVG and name their colours as CSS variables, so one drawing serves light, dark and
print. For a file outside the page `resolved` puts the colours of the light theme in their place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from counterpoise.workflow.report.page import Series

__all__ = [
    "DARK",
    "LIGHT",
    "PATHS",
    "SHAPES",
    "colour",
    "config",
    "resolved",
    "series_of",
    "shape",
    "token",
    "variable",
]

# Text and marks keep 4.5:1 and 3:1 against the paper. The strategies' colours differ in lightness as well
# as hue, so that neighbours stay apart for colour-blind readers; the mark's shape says the same again.
LIGHT: dict[str, str] = {
    "paper": "#fdfcfa",
    "sheet": "#f5f3ee",
    "ink": "#1b1c1e",
    "soft": "#5b5c5f",
    "line": "#dedbd3",
    "faint": "#ebe9e3",
    "accent": "#1d5a96",
    "shade": "#6fa3d4",
    "good": "#1e6b4a",
    "bad": "#a3341f",
    "warn": "#8a5a00",
    "s0": "#55585d",
    "s1": "#1f6fb5",
    "s2": "#c9501c",
    "s3": "#0f8a6d",
    "s4": "#8c3f9e",
    "s5": "#a67c00",
    "s6": "#c43c6b",
    "s7": "#2f9bc9",
    "s8": "#5f7d1c",
    "s9": "#7a5340",
}
DARK: dict[str, str] = {
    "paper": "#151618",
    "sheet": "#1e2023",
    "ink": "#ebe9e4",
    "soft": "#a9a9a6",
    "line": "#383a3e",
    "faint": "#27292c",
    "accent": "#86b9ec",
    "shade": "#2f6ba8",
    "good": "#74c69d",
    "bad": "#f0937f",
    "warn": "#e0b25c",
    "s0": "#b4b6ba",
    "s1": "#5fa8e8",
    "s2": "#f0865a",
    "s3": "#3fc1a0",
    "s4": "#c78ad8",
    "s5": "#d9b13b",
    "s6": "#f07ba3",
    "s7": "#86d3f2",
    "s8": "#a9c654",
    "s9": "#c29a84",
}
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left")
# The same marks as paths in a box of 16 by 16 around the origin, for the keys beside the figures.
PATHS = {
    "circle": "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z",
    "square": "M-4.5,-4.5h9v9h-9z",
    "triangle-up": "M0,-5.5L5.5,4.5H-5.5z",
    "diamond": "M0,-6.5L5,0L0,6.5L-5,0z",
    "triangle-down": "M0,5.5L5.5,-4.5H-5.5z",
    "cross": "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
    "triangle-right": "M5.5,0L-4.5,5.5V-5.5z",
    "triangle-left": "M-5.5,0L4.5,5.5V-5.5z",
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"


def series_of(names: Sequence[str], baseline: str | None = None) -> dict[str, Series]:
    """A slot for every strategy: the baseline is the neutral one, the others follow in order."""
    slots, following = {}, 1
    for name in names:
        slots[name] = Series(name, 0 if name == baseline else following)
        following += name != baseline
    return slots


def variable(token: str) -> str:
    """The colour ``token`` as a CSS variable, with the light value for where no style sheet is."""
    return f"var(--{token}, {LIGHT[token]})"


def colour(series: Series) -> str:
    """A strategy's colour; from the tenth on they come round again, with another shape."""
    return variable(token(series))


def token(series: Series) -> str:
    """The name of a strategy's colour."""
    return "s0" if series.slot == 0 else f"s{1 + (series.slot - 1) % 9}"


def shape(series: Series) -> str:
    """A strategy's mark."""
    return SHAPES[series.slot % len(SHAPES)]


def resolved(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification with every CSS variable replaced by its light colour, for SVG and PNG files."""
    text = re.sub(r"var\(--[a-z0-9]+, (#[0-9a-f]{6})\)", r"\1", json.dumps(spec))
    result: dict[str, Any] = json.loads(text)
    return result


def config() -> dict[str, Any]:
    """The Vega-Lite config of every figure: quiet axes, hairline grid, readable type."""
    axis = {
        "domain": False,
        "ticks": False,
        "gridColor": variable("faint"),
        "gridWidth": 1,
        "labelColor": variable("soft"),
        "labelFont": FONT,
        "labelFontSize": 12,
        "labelPadding": 8,
        "titleColor": variable("soft"),
        "titleFont": FONT,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "titlePadding": 12,
        "labelOverlap": "greedy",
        "labelFlush": False,
    }
    return {
        "background": "transparent",
        "font": FONT,
        "padding": {"left": 2, "right": 14, "top": 6, "bottom": 4},
        "view": {"stroke": None},
        "axis": axis,
        "axisY": {"labelLimit": 220},
        "axisX": {"labelLimit": 120, "labelPadding": 6},
        "aria": False,
    }
