"""counterpoise explain"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from counterpoise.cli.options import Debug, Json
from counterpoise.cli.output import emit_json, say
from counterpoise.core.errors import ArtifactError

if TYPE_CHECKING:
    from counterpoise.core.explanation import Explanation

_MADE_BY = "Made by Counterpoise"
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace FILE where it exists.")]


def explain(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A strategy, a weight scheme, a loss (focal, focal_loss), or accuracy. Without it all are listed.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Where to draw: .html, .png, .svg, .md or .json; default: explain-NAME.html."
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """How a loss, a weighting, a sampler or a correction behaves, with curves, and what it costs."""
    from counterpoise.workflow.explain import explain as explain_name
    from counterpoise.workflow.explain import explainable

    if name is None:
        _list(explainable(), as_json=as_json)
        return
    result = explain_name(name)
    target = out if out is not None or as_json else Path(f"explain-{result.name.replace('_', '-')}.html")
    if target is not None:
        _draw(result, target, overwrite=overwrite or (out is None and _ours(target)))
    if as_json:
        emit_json(result.to_dict())
        return
    _print(result)
    say(f"\npage: {target}")


def _ours(page: Path) -> bool:
    """Is it a page that an earlier call left under its default name?"""
    return page.is_file() and _MADE_BY in page.read_text(encoding="utf-8", errors="replace")


def _draw(result: Explanation, target: Path, *, overwrite: bool) -> None:
    from counterpoise.workflow.report import render

    if target.is_dir():
        raise ArtifactError(f"`out` {target} is a folder; name a file")
    if target.exists() and not overwrite:
        raise ArtifactError(f"`out` {target} exists; name another file, or give --overwrite to replace it")
    render(result, target)


def _list(names: dict[str, tuple[str, ...]], *, as_json: bool) -> None:
    if as_json:
        emit_json(names)
        return
    for kind, known in names.items():
        say(f"{kind}: {', '.join(known)}")
    say("\ncounterpoise explain NAME")


def _print(result: Explanation) -> None:
    say(f"{result.name} ({result.kind}): {result.summary}")
    for equation in (section.equation for section in result.sections if section.equation):
        say("\n" + "\n".join(f"    {line}" for line in equation.splitlines()))
    for title, texts in (("costs", result.costs), ("keep in mind", result.notes)):
        for text in texts:
            say(f"\n{title}: {text}")
