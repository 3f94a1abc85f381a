"""counterpoise make-longtail"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from counterpoise.cli.options import Data, DataOptions, Out, Resume, option
from counterpoise.cli.output import Result, print_note, print_table, print_text
from counterpoise.core.text import ratio as ratio_text

if TYPE_CHECKING:
    from counterpoise.workflow.augmentation import LongTail

_RATIO = "Training images of the largest class per image of the smallest, at least 1; 0 keeps all images."
_ONE_VS_REST = "Make two classes: this one, and not-CLASS with the images of all others."


def make_longtail(
    data: Data,
    out: Out,
    reading: DataOptions,
    ratio: Annotated[float, option("--ratio", "R", _RATIO)] = 100.0,
    one_vs_rest: Annotated[str | None, option("--one-vs-rest", "CLASS", _ONE_VS_REST)] = None,
    resume: Resume = False,
    seed: Annotated[int, option("--seed", "K", "Seed of the choice of training images.", min=0)] = 0,
) -> Result:
    """Write a long-tailed version of a dataset: training classes that decrease exponentially."""
    from counterpoise.workflow.augmentation import make_longtail as make

    dataset: Any = reading.load(data)
    result = make(dataset, out, ratio=ratio or None, one_vs_rest=one_vs_rest, seed=seed, resume=resume)
    return Result(result, lambda: _show(result, out))


def _show(result: LongTail, out: Path) -> None:
    rows = zip(result.classes, result.before, result.after, strict=True)
    print_table(("class", "train images", "kept"), [(name, f"{n:,}", f"{m:,}") for name, n, m in rows])
    print_text()
    print_text(
        f"wrote {out} (imbalance ratio {ratio_text(result.imbalance_ratio)}); all validation and test images are kept"
    )
    if result.ratio is not None and result.imbalance_ratio > 1.1 * result.ratio:
        print_note(
            f"the ratio is larger than the {result.ratio:g} asked for, because a class had too few images; add images "
            "to the smallest class"
        )
