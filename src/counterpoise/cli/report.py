"""counterpoise report"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from counterpoise.cli.compare import saved_if_large
from counterpoise.cli.options import NoImages, check_suffix, option
from counterpoise.cli.output import Result, print_text
from counterpoise.core.errors import ArtifactError
from counterpoise.core.files import path_exists

if TYPE_CHECKING:
    from counterpoise.core.artifacts import Run
    from counterpoise.core.codec import Artifact
    from counterpoise.workflow.report import Renderable

SOURCES = {"comparison.json": "report.html", "audit.json": "audit.html", "run.json": "run.html"}


Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="A folder that compare, audit or train wrote, or a JSON file in it.", readable=False
    ),
]
_DATA = """The dataset, for the small images of the report. Default: the folder or file of its name, in the working
directory."""
Target = Annotated[Path | None, option("--to", "FILE", "File to write: .html, .md or .json. Default: DIR/….html.")]


def report(
    directory: Folder,
    to: Target = None,
    data: Annotated[str | None, option("--data", "DATA", _DATA)] = None,
    no_images: NoImages = False,
) -> Result:
    """Render the report of compare, audit or train again from its saved results, without training."""
    from counterpoise.core.artifacts import Comparison, Run, read_artifact
    from counterpoise.workflow.dataset import open_images
    from counterpoise.workflow.report import render

    if to is not None:
        if path_exists(to) and to.is_dir():
            raise ArtifactError(f"`to` {to} is a folder; name a file, such as {to / 'report.html'}")
        check_suffix("to", to, (".html", ".md", ".json"))
    source = _source(directory)
    target = to or source.with_name(SOURCES.get(source.name, f"{source.stem}.html"))
    artifact = read_artifact(source)
    if isinstance(artifact, Run) and target.suffix.lower() != ".json":
        artifact = _with_tuning(artifact, source.parent)
    images = open_images(_source_of(artifact) if data is None else data)
    written = render(cast("Renderable", artifact), target, data=images, images=not no_images, folder=source.parent)
    saved = saved_if_large(artifact, source.parent) and source if isinstance(artifact, Comparison) else None
    return Result(artifact, lambda: print_text(f"report: {written}"), saved=saved)


def _with_tuning(run: Run, folder: Path) -> Run:
    """The run with the values that `evaluate --tune --save` has saved beside it."""
    from counterpoise.workflow.evaluation import TUNING_FILE, read_tuning

    tuning = read_tuning(folder, run)
    if tuning is None:
        return run
    note = (
        f"{TUNING_FILE} has tuned values ({tuning.kind}), which predict and export apply: they are among the steps "
        "below. Recall and images on this page are without them. To undo the tuning, delete the file."
    )
    transforms = (*(run.transforms or ()), *tuning.transforms)
    return replace(run, transforms=transforms, prior=tuning.prior, notes=(*run.notes, note))


def _source_of(artifact: Artifact) -> str:
    """The dataset of an artifact as it was typed, without the folders above it."""
    from counterpoise.core.artifacts import AuditResult, Comparison, Run

    match artifact:
        case Comparison():
            return artifact.audit.source
        case AuditResult():
            return artifact.source
        case Run():
            return str(artifact.data.get("source", ""))
    return ""


def _source(path: Path) -> Path:
    if path_exists(path) and path.is_file():
        return path
    for name in SOURCES:
        if path_exists(path / name) and (path / name).is_file():
            return path / name
    what = "does not exist" if not path_exists(path) else f"holds none of {', '.join(SOURCES)}"
    raise ArtifactError(f"{path} {what}; name a folder that compare, audit or train wrote")
