"""Colours, marks and fonts of the report.

Charts name their colours as CSS variables, so that one SVG serves the light theme, the dark theme and print. For SVG
and PNG files, `with_light_colours` replaces the variables by the colours of the light theme.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from counterpoise.workflow.report.page import Series, VegaSpec

# Text has a contrast of at least 4.5:1 and marks of at least 3:1 against the background. The colours of the strategies
# differ in lightness as well as hue, for colour-blind readers; the shape of the mark distinguishes them as well.
_COLOURS = {
    "background": ("#fdfcfa", "#151618"),
    "surface": ("#f5f3ee", "#1e2023"),
    "text": ("#1b1c1e", "#ebe9e4"),
    "muted": ("#5b5c5f", "#a9a9a6"),
    "border": ("#dedbd3", "#383a3e"),
    "gridline": ("#ebe9e3", "#27292c"),
    "accent": ("#1d5a96", "#86b9ec"),
    "shade": ("#6fa3d4", "#2f6ba8"),
    "good": ("#1e6b4a", "#74c69d"),
    "bad": ("#a3341f", "#f0937f"),
    "warn": ("#8a5a00", "#e0b25c"),
    "s0": ("#55585d", "#b4b6ba"),
    "s1": ("#1f6fb5", "#5fa8e8"),
    "s2": ("#c9501c", "#f0865a"),
    "s3": ("#0f8a6d", "#3fc1a0"),
    "s4": ("#8c3f9e", "#c78ad8"),
    "s5": ("#a67c00", "#d9b13b"),
    "s6": ("#c43c6b", "#f07ba3"),
    "s7": ("#2f9bc9", "#86d3f2"),
    "s8": ("#5f7d1c", "#a9c654"),
    "s9": ("#7a5340", "#c29a84"),
}
LIGHT = {name: light for name, (light, _) in _COLOURS.items()}
DARK = {name: dark for name, (_, dark) in _COLOURS.items()}
# The shapes of marks, with their SVG paths in a 16 × 16 box around the origin for the legends.
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
SHAPES = tuple(PATHS)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"
_TEXT = {"Color": f"var(--muted, {LIGHT['muted']})", "Font": FONT, "FontSize": 12}


def series_of(names: Sequence[str], baseline: str | None = None) -> dict[str, Series]:
    """A slot for every strategy: 0 (neutral grey) for the baseline, then one after the other."""
    others = [name for name in names if name != baseline]
    return {name: Series(name, 0 if name == baseline else 1 + others.index(name)) for name in names}


def variable(token: str) -> str:
    """The colour ``token`` as a CSS variable, with the light colour as its fallback."""
    return f"var(--{token}, {LIGHT[token]})"


def colour_token(series: Series) -> str:
    """The name of a strategy's colour; from the tenth strategy on colours repeat, with other shapes."""
    return "s0" if series.slot == 0 else f"s{1 + (series.slot - 1) % 9}"


def colour(series: Series) -> str:
    """The colour of a strategy as a CSS variable."""
    return variable(colour_token(series))


def shape(series: Series) -> str:
    """The shape of a strategy's mark."""
    return SHAPES[series.slot % len(SHAPES)]


def with_light_colours(spec: VegaSpec) -> VegaSpec:
    """The specification with every CSS variable replaced by its light colour."""
    text = re.sub(r"var\(--[a-z0-9]+, (#[0-9a-f]{6})\)", r"\1", json.dumps(spec))
    result: VegaSpec = json.loads(text)
    return result


def vega_config() -> VegaSpec:
    """The Vega-Lite config of every chart: axes without lines, a light grid, readable fonts."""
    title_or_label = {f"{part}{key}": value for part in ("label", "title") for key, value in _TEXT.items()}
    axis = {
        "domain": False,
        "ticks": False,
        "gridColor": variable("gridline"),
        "gridWidth": 1,
        **title_or_label,
        "titleFontWeight": 500,
        "titlePadding": 12,
        "labelPadding": 8,
        "labelOverlap": "parity",
        "labelSeparation": 6,
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
