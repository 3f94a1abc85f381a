"""A `Page` as one HTML file that fetches nothing.

The policy in the page's head allows exactly the two scripts and the one style sheet written here, by
their hash, and nothing from anywhere. That works because Vega runs its expressions in an interpreter
(``ast: true``, part of the bundle) instead of compiling them with ``new Function``: no ``unsafe-eval``,
no ``unsafe-inline``. Names from the data reach the page as escaped text or as JSON, never as code.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from counterpoise.workflow.report import theme
from counterpoise.workflow.report.page import Block, Page, Series

__all__ = ["page_html"]

TEMPLATES = Path(__file__).parent / "templates"


def page_html(page: Page) -> str:
    """The whole file; scripts only where there is a figure to draw."""
    from markupsafe import Markup

    environment = _environment()
    style = environment.get_template("report.css").render(light=theme.LIGHT, dark=theme.DARK)
    scripts = [_script((TEMPLATES / "report.js").read_text(encoding="utf-8"))]
    if page.figures:
        scripts.insert(0, _script(_vega()))
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    html: str = environment.get_template("report.html").render(
        page=page,
        policy=policy,
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        config=theme.config(),
    )
    return html


@cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = _kind
    environment.filters["json_text"] = _json_text
    environment.filters["token"] = theme.token
    environment.filters["mark_path"] = _mark_path
    return environment


def _kind(block: Block) -> str:
    return type(block).__name__.lower()


def _mark_path(mark: Series | str) -> str:
    return theme.PATHS[theme.shape(mark) if isinstance(mark, Series) else mark]


def _json_text(value: Any) -> Any:
    """JSON that can stand inside a script element: nothing in it can end the element or open a comment."""
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


@cache
def _vega() -> str:
    """Vega, Vega-Lite, Vega-Embed and Vega's expression interpreter, as one script."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle


def _script(text: str) -> str:
    """A script as the parser will see it: the hash is taken of exactly this text."""
    return text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
