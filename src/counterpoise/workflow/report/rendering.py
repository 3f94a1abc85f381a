"""`render`: writes the report of an artifact in the format of the file suffix."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from counterpoise.core.artifacts import AuditResult, Comparison, Evaluation, Run, Strategy
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.explanation import Explanation
from counterpoise.core.files import atomic_write, write_json
from counterpoise.core.images import LabeledImages, Thumbnails
from counterpoise.workflow.report import collect_single, theme
from counterpoise.workflow.report.charts import POINTER
from counterpoise.workflow.report.collect_comparison import comparison_page
from counterpoise.workflow.report.collect_explanation import explanation_page
from counterpoise.workflow.report.collect_pictures import comparison_section, run_section
from counterpoise.workflow.report.collect_run import run_page
from counterpoise.workflow.report.formatting import one_line, short_labels
from counterpoise.workflow.report.html import page_html
from counterpoise.workflow.report.markdown import page_markdown
from counterpoise.workflow.report.page import Figure, LegendEntry, Page, VegaSpec
from counterpoise.workflow.report.pictures import Thumbnailer

Renderable = Comparison | AuditResult | Run | Evaluation | Explanation | Strategy | Sequence[Strategy]

SUFFIXES = (".html", ".json", ".md", ".svg", ".png")
WIDTH = 720
PNG_SCALE = 2.0
LEGEND_COLUMNS = 3
SHARED = ("$schema", "datasets", "params")
"""Parts of a specification that belong to the file, not to one chart in it."""


def render(
    artifact: Renderable,
    path: str | os.PathLike[str],
    *,
    data: LabeledImages | Thumbnails | None = None,
    figure: str | None = None,
    images: bool = True,
    folder: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the report of an artifact; the suffix of ``path`` decides on the format.

    An ``.html`` file is self-contained, an ``.md`` file has the text and the tables, and a ``.json`` file is the
    artifact itself. An ``.svg`` or ``.png`` file shows one figure.

    Args:
        artifact: a Comparison, AuditResult, Run, Evaluation, Explanation, Strategy, or a list of strategies.
        path: the file to write; an existing file is replaced.
        data: the dataset of the artifact. The HTML page then shows small images, at most 3 MB in all: one per class,
            copies with several labels, quarantined files, and the mistakes of a Run or a Comparison.
        figure: the figure that an ``.svg`` or ``.png`` file shows. The figures of a comparison are differences,
            selection, recall, tradeoff, gap, confusion, calibration, training and counts. Without a name, the file of
            an Explanation shows all of its figures.
        images: whether the HTML page shows images.
        folder: the folder that `train` or `compare` wrote, with the predictions, which tell the mistakes. None is the
            folder of the run, or for a Comparison that of ``path``.

    Returns:
        The path of the file.

    Raises:
        ArgumentError: the suffix or the figure is unknown.
        ArgumentTypeError: ``artifact`` is not an artifact.
        ArtifactError: the file cannot be written.

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
    if target.suffix.lower() == ".json":
        if isinstance(artifact, Sequence):
            write_json(target, [strategy.to_dict() for strategy in artifact])
        else:
            artifact.save(target)
        return target
    if target.suffix.lower() == ".html":
        place = _predictions_folder(artifact, target.parent if folder is None else Path(folder), is_given=bool(folder))
        content = render_html(artifact, data=data if images else None, folder=place).encode("utf-8")
    else:
        content = _text_or_image(_page(artifact), target.suffix.lower(), figure)
    with atomic_write(target) as file:
        file.write(content)
    return target


def render_html(
    artifact: Renderable,
    *,
    data: LabeledImages | Thumbnails | None = None,
    folder: str | os.PathLike[str] = ".",
) -> str:
    """The HTML page of ``artifact`` as a string; see `render`."""
    _check(artifact, Path("report.html"), None)
    return page_html(_page(artifact, None if data is None else Thumbnailer(data), Path(folder)))


def _predictions_folder(artifact: Renderable, folder: Path, *, is_given: bool) -> Path:
    """Where predictions are: a run knows its folder while it is in memory, and run.json says that it is its own."""
    own = Path(artifact.directory) if isinstance(artifact, Run) else Path()
    return folder if is_given or own == Path() else own


def _check(artifact: Renderable, path: Path, figure: str | None) -> None:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"`path` must end in one of {', '.join(SUFFIXES)}; got {path.name!r}")
    is_image = suffix in (".svg", ".png")
    if figure is not None and not is_image:
        raise ArgumentError(f"`figure` is for .svg and .png files only; leave it out for {path.name!r}")
    if figure is None and is_image and not isinstance(artifact, Explanation):
        raise ArgumentError(f"`figure` must name the figure that {path.name!r} shows, for example figure='recall'")
    is_list = isinstance(artifact, list | tuple) and all(isinstance(item, Strategy) for item in artifact)
    if not is_list and not isinstance(artifact, Comparison | AuditResult | Run | Evaluation | Explanation | Strategy):
        raise ArgumentTypeError(
            "`artifact` must be a Comparison, AuditResult, Run, Evaluation, Explanation, Strategy or a list of "
            f"strategies; got {type(artifact).__name__}"
        )


def _text_or_image(page: Page, suffix: str, figure: str | None) -> bytes:
    return page_markdown(page).encode("utf-8") if suffix == ".md" else _image(page, figure, suffix)


def _page(artifact: Renderable, thumbnails: Thumbnailer | None = None, folder: Path = Path()) -> Page:
    match artifact:
        case Comparison():
            section = None if thumbnails is None else comparison_section(artifact, thumbnails, folder)
            return comparison_page(artifact, section, thumbnails)
        case AuditResult():
            return collect_single.audit_page(artifact, thumbnails)
        case Run():
            section = None if thumbnails is None else run_section(artifact, thumbnails, folder)
            return run_page(artifact, section)
        case Evaluation():
            return collect_single.evaluation_page(artifact)
        case Explanation():
            return explanation_page(artifact)
        case Strategy():
            return collect_single.strategies_page([artifact])
        case _:
            return collect_single.strategies_page(artifact)


def _image(page: Page, figure: str | None, suffix: str) -> bytes:
    """The figure as SVG or PNG, of several variants the first; without a name all figures of the page."""
    import vl_convert

    figures = page.figures
    if figure is None:
        spec = _all_figures(page)
    elif figure in figures:
        spec = _standalone(figures[figure])
    else:
        names = ", ".join(figures) or "none"
        raise ArgumentError(f"`figure` must name a figure of this {page.kind.lower()} ({names}); got {figure!r}")
    if suffix == ".svg":
        svg: str = vl_convert.vegalite_to_svg(spec)
        return svg.encode("utf-8")
    png: bytes = vl_convert.vegalite_to_png(spec, scale=PNG_SCALE)
    return png


def _standalone(figure: Figure) -> VegaSpec:
    """The chart of the first variant with its title and legend, without what follows the pointer."""
    first = figure.variants[0]
    chart = first.spec()
    chart["layer"] = [layer for layer in chart["layer"] if layer.get("name") != POINTER]
    params = [param for param in chart.get("params", []) if "select" not in param]
    title = f"{figure.title}: {one_line(first.label)}" if first.label else figure.title
    shown = first.series or figure.series
    named = zip(shown, short_labels([s.name for s in shown], 36), strict=True)
    entries = [*(LegendEntry(name, theme.colour_token(s), theme.shape(s)) for s, name in named), *figure.legend]
    picture = {key: value for key, value in chart.items() if key not in SHARED}
    spec = {
        **{key: chart[key] for key in SHARED if key in chart},
        "params": params,
        "title": {"text": title, "anchor": "start", "fontSize": 15, "color": theme.LIGHT["text"], "offset": 14},
        "vconcat": [{**picture, "width": WIDTH}, *([_legend(entries)] if entries else [])],
        "resolve": {"scale": dict.fromkeys(("color", "fill", "stroke", "shape"), "independent")},
        "config": {**theme.vega_config(), "background": theme.LIGHT["background"], "padding": 20},
    }
    return theme.with_light_colours(spec)


def _all_figures(page: Page) -> VegaSpec:
    """Every figure of the page, one below the other."""
    specs = [_standalone(figure) for figure in page.figures.values()]
    if not specs:
        raise ArgumentError(f"this {page.kind.lower()} has no figure; write an .html, .md or .json file")
    shared = (*SHARED, "config")
    title = {"text": one_line(page.title, 80), "anchor": "start", "fontSize": 20, "color": theme.LIGHT["text"]}
    return {
        **{key: specs[0][key] for key in shared if key in specs[0]},
        "datasets": {name: rows for spec in specs for name, rows in spec.get("datasets", {}).items()},
        "title": {**title, "offset": 18},
        "vconcat": [{key: value for key, value in spec.items() if key not in shared} for spec in specs],
        "spacing": 36,
        "resolve": specs[0]["resolve"],
    }


def _legend(entries: list[LegendEntry]) -> VegaSpec:
    """A legend in columns, built from data because Vega's legends do not merge across layers."""
    rows = [
        {
            "x": 8 + (i % LEGEND_COLUMNS) * WIDTH // LEGEND_COLUMNS,
            "y": 8 + (i // LEGEND_COLUMNS) * 22,
            "label": one_line(entry.label),
            "stroke": theme.LIGHT[entry.colour],
            "fill": theme.LIGHT["background" if entry.hollow else entry.colour],
            "shape": entry.shape,
        }
        for i, entry in enumerate(entries)
    ]
    place = {axis: {"field": axis, "type": "quantitative", "scale": None, "axis": None} for axis in ("x", "y")}
    look = {channel: {"field": channel, "scale": None} for channel in ("stroke", "fill", "shape")}
    text = {"text": {"field": "label"}, "color": {"value": theme.LIGHT["text"]}}
    return {
        "data": {"values": rows},
        "width": WIDTH,
        "height": 22 * (1 + (len(entries) - 1) // LEGEND_COLUMNS),
        "encoding": place,
        "layer": [
            {"mark": {"type": "point", "size": 70, "opacity": 1, "strokeWidth": 1.6}, "encoding": look},
            {"mark": {"type": "text", "align": "left", "dx": 12, "fontSize": 12}, "encoding": text},
        ],
    }
