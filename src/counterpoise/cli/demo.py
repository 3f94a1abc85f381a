"""counterpoise demo"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from counterpoise.cli.compare import print_comparison, saved_if_large
from counterpoise.cli.options import NoImages, option
from counterpoise.cli.output import Result, print_note
from counterpoise.cli.progress import training_progress

STRATEGIES = (
    "baseline",
    "weighted-ce",
    "class-balanced-focal",
    "oversample",
    "logit-adjusted",
    "post-hoc-logit-adjusted",
)


OUT = Path("counterpoise-demo")


def demo(
    out: Annotated[Path, option("--out", "DIR", "Folder of the report; replaces an earlier demo.")] = OUT,
    no_images: NoImages = False,
) -> Result:
    """Run the whole workflow on the embedded digits (imbalance ratio 30:1): audit, train, compare, report."""
    from counterpoise.core.files import claim, path_exists
    from counterpoise.workflow.comparison import compare
    from counterpoise.workflow.dataset import load

    has_demo = path_exists(out / "comparison.json") or path_exists(out / "runs")
    claim(out, resume=None, overwrite=has_demo or None)
    data = load("digits")
    counts = data.counts("train")
    print_note(
        f"digits: {counts.total} training images in {counts.num_classes} classes, {counts.counts.max()} in the largest "
        f"and {counts.counts.min()} in the smallest"
    )
    with training_progress("digits") as progress:
        result = compare(
            data,
            strategies=STRATEGIES,
            seeds=2,
            images=not no_images,
            out=out,
            overwrite=has_demo,
            jobs=None,
            progress=progress,
        )
    again = f"counterpoise compare digits --strategies {','.join(STRATEGIES)} --out {shlex.quote(str(out))}"
    return Result(result, lambda: print_comparison(result, out, again), saved=saved_if_large(result, out))
