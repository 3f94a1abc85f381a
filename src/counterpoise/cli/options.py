"""Arguments and options that several commands share, with their help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from counterpoise.core.errors import ArgumentError

if TYPE_CHECKING:
    from counterpoise.core.counts import ClassCounts

__all__ = [
    "Augment",
    "BatchSize",
    "Data",
    "Debug",
    "Epochs",
    "ImageSize",
    "Jobs",
    "Json",
    "LearningRate",
    "Model",
    "Nested",
]
__all__ += [
    "Out",
    "Overwrite",
    "Precision",
    "Pretrained",
    "Resume",
    "SplitSeed",
    "Symmetries",
    "Tree",
    "ValFraction",
    "read_counts",
]

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="An image folder (train/, optional val/ and test/, or class folders alone), a CSV or Parquet manifest "
        "(path, label, optional split), or 'digits' (embedded).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write; a new or empty folder.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", metavar="J", min=1, help="Runs at a time; default: what suits the machine."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what DIR holds, from the start if nothing.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace our earlier files in DIR.")]
Model = Annotated[
    str,
    typer.Option("--model", metavar="M", help="resnet20, resnet32, timm:NAME, torchvision:NAME; auto: by image size."),
]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Start from published weights (timm, torchvision).")]
Epochs = Annotated[int, typer.Option("--epochs", metavar="E", min=1, help="Passes over the training images.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", metavar="B", min=1, help="Images a step.")]
LearningRate = Annotated[float | None, typer.Option("--lr", metavar="LR", help="Peak learning rate of SGD.")]
ImageSize = Annotated[int | None, typer.Option("--image-size", metavar="PX", min=4, help="Side of the images.")]
Precision = Annotated[str, typer.Option("--precision", help="no (float32), bf16 or fp16.")]
Augment = Annotated[
    str, typer.Option("--augment", help="auto, none, or a list of crop, hflip, vflip, rot90 (with commas).")
]
ValFraction = Annotated[
    float, typer.Option("--val-fraction", metavar="F", help="Share drawn for validation where the data have none.")
]
Symmetries = Annotated[
    str | None,
    typer.Option(
        "--symmetries",
        help="What keeps the labels: some of hflip,vflip,rot90, or none; default: hflip, for digits none.",
    ),
]
Nested = Annotated[
    bool,
    typer.Option("--nested", help="Class folders lie within folders: each, like animal/cat, is a class of its own."),
]
Tree = Annotated[
    str,
    typer.Option(
        "--tree",
        metavar="T",
        help="Class tree of hierarchical strategies: a YAML, JSON or CSV file, folders (names such as animal/dog), "
        "balanced (from the counts), predictions (.npz) whose confusions make it, or auto.",
    ),
]
SplitSeed = Annotated[int, typer.Option("--split-seed", metavar="S", help="Seed of the splits that are drawn.")]


def read_counts(text: str) -> ClassCounts:
    """Counts as a caller writes them: ``5000,500,50``, or a JSON file with ``{name: count}`` or a list."""
    from counterpoise.core.counts import ClassCounts

    if text.endswith(".json"):
        try:
            value = json.loads(Path(text).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArgumentError(f"{text} cannot be read as counts: {error}") from error
        if not isinstance(value, dict | list):
            raise ArgumentError(f"{text} must hold {{name: count}} or a list of counts")
        return ClassCounts(value)
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ArgumentError(f"counts must be whole numbers with commas, or a JSON file; got {text!r}")
    return ClassCounts([int(part) for part in parts])
