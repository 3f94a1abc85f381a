"""counterpoise report"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from counterpoise.cli.options import Debug, Json
from counterpoise.cli.output import emit_json, say
from counterpoise.core.errors import ArtifactError

if TYPE_CHECKING:
    from counterpoise.workflow.report import Renderable

SOURCES = {"comparison.json": "report.html", "audit.json": "audit.html", "run.json": "run.html"}


def report(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder that compare, audit or train wrote, or one JSON file of theirs."),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Where to write: .html, .md or .json; default: beside the data."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw the report again from the numbers on disk: no training, no GPU."""
    from counterpoise.core.artifacts import read_artifact
    from counterpoise.workflow.report import render

    source = _source(directory)
    target = to or source.with_name(SOURCES.get(source.name, f"{source.stem}.html"))
    artifact = read_artifact(source)
    written = render(cast("Renderable", artifact), target)
    if as_json:
        emit_json(artifact.to_dict())
    else:
        say(f"report: {written}")


def _source(path: Path) -> Path:
    if path.is_file():
        return path
    for name in SOURCES:
        if (path / name).is_file():
            return path / name
    what = "does not exist" if not path.exists() else f"holds none of {', '.join(SOURCES)}"
    raise ArtifactError(f"{path} {what}; name a folder that compare, audit or train wrote")
