"""counterpoise report"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from counterpoise.cli.options import check_suffix, option
from counterpoise.cli.output import Result, print_text
from counterpoise.core.errors import ArtifactError
from counterpoise.core.files import path_exists

if TYPE_CHECKING:
    from counterpoise.workflow.report import Renderable

SOURCES = {"comparison.json": "report.html", "audit.json": "audit.html", "run.json": "run.html"}


Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="A folder that compare, audit or train wrote, or a JSON file in it.", readable=False
    ),
]
Target = Annotated[Path | None, option("--to", "FILE", "File to write: .html, .md or .json. Default: DIR/….html.")]


def report(directory: Folder, to: Target = None) -> Result:
    """Render the report of compare, audit or train again from its saved results, without training."""
    from counterpoise.core.artifacts import read_artifact
    from counterpoise.workflow.report import render

    if to is not None:
        check_suffix("to", to, (".html", ".md", ".json"))
    source = _source(directory)
    target = to or source.with_name(SOURCES.get(source.name, f"{source.stem}.html"))
    artifact = read_artifact(source)
    written = render(cast("Renderable", artifact), target)
    return Result(artifact, lambda: print_text(f"report: {written}"))


def _source(path: Path) -> Path:
    if path_exists(path) and path.is_file():
        return path
    for name in SOURCES:
        if path_exists(path / name) and (path / name).is_file():
            return path / name
    what = "does not exist" if not path_exists(path) else f"holds none of {', '.join(SOURCES)}"
    raise ArtifactError(f"{path} {what}; name a folder that compare, audit or train wrote")
