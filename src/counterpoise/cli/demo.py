"""counterpoise demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli.options import Debug, Json
from counterpoise.cli.output import emit_json, note, progress_bar, say
from counterpoise.cli.running import print_comparison

STRATEGIES = (
    "baseline",
    "weighted-ce",
    "class-balanced-focal",
    "oversample",
    "logit-adjusted",
    "post-hoc-logit-adjusted",
)


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the report goes; replaced each time.")
    ] = Path("counterpoise-demo"),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The whole job on the embedded digits, made 30 : 1 imbalanced: audit, train, compare, report."""
    from counterpoise.core.files import claim
    from counterpoise.workflow.comparison import compare
    from counterpoise.workflow.dataset import load

    ours = (out / "comparison.json").exists() or (out / "runs").exists()
    claim(out, overwrite=ours)
    data = load("digits")
    counts = data.counts("train")
    note(
        f"digits: {counts.total} training images in {counts.num_classes} classes, "
        f"{counts.counts.max()} of the largest and {counts.counts.min()} of the smallest"
    )
    with progress_bar("digits") as bar:
        result = compare(
            data, strategies=STRATEGIES, seeds=2, epochs=30, out=out, overwrite=ours, jobs=None, progress=bar
        )
    if as_json:
        emit_json(result.to_dict())
        return
    print_comparison(result)
    say(f"\nreport: {out / 'report.html'}")
