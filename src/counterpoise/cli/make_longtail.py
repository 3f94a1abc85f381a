"""counterpoise make-longtail"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from counterpoise.cli.options import Data, DataOptions, Out, Resume, option
from counterpoise.cli.output import Result, print_note, print_table, print_text
from counterpoise.core.text import listed, plural
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
    _show_limits(result)


def _show_limits(result: LongTail) -> None:
    """Say which classes have too few images for the ratio that was asked for, and what to do."""
    limited = [
        f"{name} ({n:,})" for name, n, k in zip(result.classes, result.before, result.profile, strict=True) if 0 < n < k
    ]
    if limited and result.ratio is not None:
        print_note(
            "note: the classes do not decrease exponentially from the largest to the smallest with the ratio of "
            f"{result.ratio:g} that was asked for; the ratio reached is {ratio_text(result.imbalance_ratio)}, because "
            f"{plural(len(limited), 'class has', 'classes have')} too few training images: {listed(limited, 5)}; "
            "choose a smaller --ratio, add images, or make two classes with --one-vs-rest"
        )
