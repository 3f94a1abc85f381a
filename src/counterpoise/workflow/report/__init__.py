"""Draw any artifact: `render` for a file, `render_html` for the text of a page.

Notes for maintainers
---------------------
The way is artifact → `Page` → file, and each step knows only the one before it:

* ``collect/`` decides what is said. It takes an artifact and gives a `Page` (``page.py``): sections of
  text, tables of formatted cells, figures with their specification. Whatever is put together over seeds is
  put together in ``collect/seeds.py``; nothing is computed after this step.
* ``figures/`` draws: rows in, Vega-Lite out, through Altair. Colours are CSS variables from ``theme.py``, so
  that one SVG serves light, dark and print; `theme.resolved` puts colours in for a file of its own.
* ``html.py`` with ``templates/``, ``markdown.py`` and ``export.py`` only write. They never see an artifact.

Rules that tests hold us to: the page fetches nothing, and its policy allows our two scripts and our style sheet
by hash, no ``eval`` and no inline style (Vega runs with its interpreter, ``ast: true``; the tooltip is ours and
writes text nodes). A name from the data passes `text.shown` (one line, no control characters, bounded) and then
jinja2's autoescape or `html._json_text`. Figures show at most 40 classes and 8 strategies, so the size of a page
does not grow with the data. A dash always carries its reason. A strategy keeps its colour and mark everywhere.

To add a figure: a function in ``figures/`` that returns a specification, one in ``collect/`` that returns a `Figure`
with a text alternative and a table of the same numbers, and its place in a section.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from counterpoise.core.artifacts import AuditResult, Comparison, Evaluation, Run, Strategy
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.explanation import Explanation
from counterpoise.core.files import atomic_write, write_json
from counterpoise.core.images import LabeledImages
from counterpoise.workflow.report.page import Page

__all__ = ["Renderable", "render", "render_html"]

Renderable = Comparison | AuditResult | Run | Evaluation | Explanation | Strategy | Sequence[Strategy]

SUFFIXES = (".html", ".json", ".md", ".svg", ".png")


def render(
    artifact: Renderable,
    path: str | os.PathLike[str],
    *,
    data: LabeledImages | None = None,
    figure: str | None = None,
) -> Path:
    """Write a report of ``artifact``; the format follows from the suffix of ``path``.

    ``.html`` is one file that fetches nothing, ``.md`` has the tables, ``.json`` is the artifact itself. ``.svg`` and
    ``.png`` hold the one figure named by ``figure``; for a comparison: differences, selection, recall, tradeoff, gap,
    confusion, calibration, training, counts. Of an explanation they hold all figures where none is named.

    Args:
        artifact: a Comparison, AuditResult, Run, Evaluation, Explanation, or strategies.
        path: the file to write; it is replaced whole or not at all.
        data: the dataset, for small pictures of its classes in the HTML page.
        figure: the figure that an SVG or PNG file shows.

    Returns:
        The path written.

    Raises:
        ArgumentError: an unknown suffix or figure.
        ArgumentTypeError: not an artifact.
        ArtifactError: the disk refused.

    Example:
        >>> import tempfile
        >>> from counterpoise.core.artifacts import Strategy
        >>> folder = tempfile.TemporaryDirectory()
        >>> render([Strategy("baseline", "Plain cross-entropy.")], f"{folder.name}/plan.md").name
        'plan.md'
        >>> folder.cleanup()
    """
    target = Path(path)
    _check(artifact, target, figure)
    suffix = target.suffix.lower()
    if suffix == ".json":
        plain = artifact.to_dict() if not isinstance(artifact, Sequence) else [s.to_dict() for s in artifact]
        write_json(target, plain)
        return target
    content = _content(artifact, suffix, data=data, figure=figure)
    with atomic_write(target) as file:
        file.write(content)
    return target


def render_html(artifact: Renderable, *, data: LabeledImages | None = None) -> str:
    """The HTML page of ``artifact`` as text; see `render`."""
    from counterpoise.workflow.report.html import page_html

    _check(artifact, Path("report.html"), None)
    return page_html(_page(artifact, data))


def _content(artifact: Renderable, suffix: str, *, data: LabeledImages | None, figure: str | None) -> bytes:
    if suffix == ".html":
        return render_html(artifact, data=data).encode("utf-8")
    page = _page(artifact, None)
    if suffix == ".md":
        from counterpoise.workflow.report.markdown import page_markdown

        return page_markdown(page).encode("utf-8")
    from counterpoise.workflow.report.export import figure_bytes

    return figure_bytes(page, figure, suffix=suffix)


def _check(artifact: Renderable, path: Path, figure: str | None) -> None:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"`path` must end in one of {', '.join(SUFFIXES)}; got {path.name!r}")
    drawn = suffix in (".svg", ".png")
    if (figure is not None) != drawn and not (drawn and isinstance(artifact, Explanation)):
        raise ArgumentError(f"`figure` names the one figure of an .svg or .png file; got {figure!r} for {path.name!r}")
    listed = isinstance(artifact, list | tuple) and all(isinstance(item, Strategy) for item in artifact)
    if not listed and not isinstance(artifact, Comparison | AuditResult | Run | Evaluation | Explanation | Strategy):
        raise ArgumentTypeError(
            "`artifact` must be a Comparison, AuditResult, Run, Evaluation, Explanation, Strategy or a list of "
            f"strategies; got {type(artifact).__name__}"
        )


def _page(artifact: Renderable, data: LabeledImages | None) -> Page:
    from counterpoise.workflow.report.collect import single
    from counterpoise.workflow.report.collect.comparison import comparison_page
    from counterpoise.workflow.report.collect.explained import explanation_page
    from counterpoise.workflow.report.collect.thumbnails import thumbnails

    if isinstance(artifact, Comparison | AuditResult):
        write: Callable[..., Page] = comparison_page if isinstance(artifact, Comparison) else single.audit_page
        return write(artifact, images=() if data is None else thumbnails(data))
    if isinstance(artifact, Run):
        return single.run_page(artifact)
    if isinstance(artifact, Evaluation):
        return single.evaluation_page(artifact)
    if isinstance(artifact, Explanation):
        return explanation_page(artifact)
    return single.strategies_page([artifact] if isinstance(artifact, Strategy) else artifact)
