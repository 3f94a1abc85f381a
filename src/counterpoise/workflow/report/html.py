"""Writes a `Page` as one self-contained HTML file.

The content security policy of the page allows exactly our two scripts and our style sheet, by their hash, and nothing
from the network. This is possible because Vega runs its expressions in an interpreter (``ast: true``) instead of
compiling them: neither ``unsafe-eval`` nor ``unsafe-inline`` is needed. Names from the data are in the page as escaped
text or as JSON, never as code.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from counterpoise.core.equations import to_mathml
from counterpoise.workflow.report import theme
from counterpoise.workflow.report.formatting import JSON_EXPORT, code_spans
from counterpoise.workflow.report.page import Block, Page, Series

TEMPLATES = Path(__file__).parent / "templates"
UNBROKEN = 36


def page_html(page: Page) -> str:
    """The complete file; it contains Vega only if there is a figure."""
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
        config=theme.vega_config(),
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
    environment.globals["json_export"] = JSON_EXPORT
    environment.filters["kind"] = _kind
    environment.filters["json_text"] = _json_text
    environment.filters["colour_token"] = theme.colour_token
    environment.filters["mark_path"] = _mark_path
    environment.filters["with_code"] = _with_code
    environment.filters["mathml"] = _mathml
    return environment


def _kind(block: Block) -> str:
    return type(block).__name__.lower()


def _mark_path(mark: Series | str) -> str:
    return theme.PATHS[theme.shape(mark) if isinstance(mark, Series) else mark]


def _with_code(text: str) -> Any:
    """Escaped text in which text in backticks is a code element."""
    from markupsafe import Markup, escape

    def code(piece: str) -> Any:  # an option is not broken at its hyphens
        words = (Markup("<span>{}</span>").format(w) if len(w) <= UNBROKEN else escape(w) for w in piece.split(" "))
        return Markup("<code>{}</code>").format(Markup(" ").join(words))

    return Markup("").join(
        code(piece) if is_code else escape(piece) for is_code, piece in code_spans(text, unescaped=False)
    )


def _mathml(latex: str) -> Any:
    from markupsafe import Markup

    return Markup(to_mathml(latex))


def _json_text(value: Any) -> Any:
    """JSON for a script element: nothing in it can end the element or start a comment."""
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
    """The script exactly as the HTML parser reads it, since the policy has the hash of this text."""
    return text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
