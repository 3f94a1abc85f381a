"""counterpoise augment"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterpoise.cli.options import Data, Debug, Json, Nested, Out, Resume, SplitSeed, Symmetries, ValFraction
from counterpoise.cli.output import emit_json, print_table, progress_bar, say
from counterpoise.cli.running import load_data

if TYPE_CHECKING:
    from counterpoise.workflow.augmentation import Augmented


def augment(
    data: Data,
    out: Out,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="T",
            help="balanced (every class up to the largest), count:N (up to N), or ratio:R (largest over smallest).",
        ),
    ] = "balanced",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; print what would be made.")] = False,
    resume: Resume = False,
    with_splits: Annotated[
        bool, typer.Option("--with-splits", help="Copy the validation and test images too, unchanged.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="K", min=0, help="Of everything that is drawn.")] = 0,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="J", min=1, help="Processes; default: one a core.")
    ] = None,
    val_fraction: ValFraction = 0.2,
    split_seed: SplitSeed = 0,
    symmetries: Symmetries = None,
    nested: Nested = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a balanced copy of the training images, with the lineage of every new one."""
    from counterpoise.workflow import augmentation

    dataset: Any = load_data(
        data, val_fraction=val_fraction, split_seed=split_seed, symmetries=symmetries, nested=nested
    )
    if dry_run:
        result = augmentation.preview(dataset, out, target=target, seed=seed, splits=with_splits, resume=resume)
    else:
        with progress_bar("augmenting") as bar:
            result = augmentation.augment(
                dataset,
                out,
                target=target,
                seed=seed,
                splits=with_splits,
                resume=resume,
                jobs=jobs,
                progress=lambda done, total: bar("augmenting", done, total),
            )
    if as_json:
        emit_json(result.to_dict())
        return
    _print(result, str(out), written=not dry_run)


def _print(result: Augmented, out: str, *, written: bool) -> None:
    rows = [
        (name, f"{before:,}", f"{after - before:,}", f"{after:,}")
        for name, before, after in zip(result.classes, result.before, result.after, strict=True)
    ]
    print_table(("class", "images", "new", "after"), rows)
    say()
    say(f"operations: {', '.join(result.operations)} (--symmetries says which flips and turns keep the labels)")
    if not written:
        say(f"nothing was written; it would copy {result.copied:,} images and make {result.made:,} in {out}")
        return
    say(f"copied {result.copied:,} images and made {result.made:,}; lineage in {out}/augmented.csv")
    if any("/" in name for name in result.classes):
        say("folders lie within folders: read the copy with --nested")
    if not result.splits:
        say("the validation and test images stayed where they are; --with-splits copies them, so that DIR is a dataset")
