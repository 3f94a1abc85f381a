"""counterpoise augment"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from counterpoise.cli.options import Data, Out, Resume, TrainingDataOptions, flag, names_in, option
from counterpoise.cli.output import Result, print_table, print_text, progress_bar

if TYPE_CHECKING:
    from counterpoise.workflow.augmentation import Augmented

_TARGET = """Images per class: balanced (as many as the largest class), count:N (at least N), or ratio:R (largest at
most R times the smallest)."""
_OPERATIONS = """Operations to draw from: hflip, vflip, rot90, rotate, crop, colour, blur, noise, erase. Default: all
that preserve the labels (--symmetries). An image gets at most one of blur, noise and erase."""
_STRENGTH = """Share of the range of each operation, above 0 and at most 1. At 1: rotation by 15 degrees, a crop of 60 %
of each side, colour changed by 40 %, erasing of a quarter of the image."""
Splits = Annotated[bool, flag("--with-splits", "Copy the validation and test images as well, unchanged.")]


def augment(
    data: Data,
    out: Out,
    reading: TrainingDataOptions,
    target: Annotated[str, option("--target", "T", _TARGET)] = "balanced",
    operations: Annotated[str | None, option("--operations", "A,B,C", _OPERATIONS)] = None,
    strength: Annotated[float, option("--strength", "S", _STRENGTH)] = 0.4,
    dry_run: Annotated[bool, flag("--dry-run", "Print what would be written, and write nothing.")] = False,
    resume: Resume = False,
    splits: Splits = False,
    no_images: Annotated[bool, flag("--no-images", "Write no contact sheet (contact-sheet.html).")] = False,
    seed: Annotated[int, option("--seed", "K", "Seed of the random operations.", min=0)] = 0,
    jobs: Annotated[int | None, option("--jobs", "J", "Processes. Default: one per CPU core.", min=1)] = None,
) -> Result:
    """Write a balanced copy of the training images, and the source of every new image."""
    from counterpoise.workflow import augmentation

    dataset: Any = reading.load(data)
    chosen: dict[str, Any] = {"target": target, "strength": strength, "seed": seed, "splits": splits, "resume": resume}
    chosen["operations"] = None if operations is None else names_in(operations)
    if dry_run:
        result = augmentation.preview(dataset, out, **chosen)
    else:
        with progress_bar("augmenting") as bar:
            result = augmentation.augment(
                dataset,
                out,
                **chosen,
                images=not no_images,
                jobs=jobs,
                progress=lambda done, total: bar("augmenting", done, total),
            )
    return Result(result, lambda: _show(result, out, written=not dry_run, has_sheet=not no_images))


def _show(result: Augmented, out: Path, *, written: bool, has_sheet: bool) -> None:
    rows = [
        (name, f"{before:,}", f"{after - before:,}", f"{after:,}")
        for name, before, after in zip(result.classes, result.before, result.after, strict=True)
    ]
    print_table(("class", "images", "new", "after"), rows)
    print_text()
    print_text(
        f"operations: {', '.join(result.operations)} (--symmetries chooses the label-preserving flips and rotations, "
        f"--operations among all)\nstrength: {result.strength:g} (--strength)"
    )
    if not written:
        print_text(
            f"nothing was written; without --dry-run: {result.copied:,} copies and {result.made:,} new images in {out}"
        )
        return
    print_text(
        f"wrote {result.copied:,} copies and {result.made:,} new images; {out}/augmented.csv lists their sources"
    )
    if has_sheet and result.made:
        print_text(f"look at {out}/contact-sheet.html before you train: it shows what was made from which image")
    if any("/" in name for name in result.classes):
        print_text("the class folders are nested: read the copy with --nested")
    if not result.splits:
        print_text("validation and test images were not copied; give --with-splits to get a complete dataset")
