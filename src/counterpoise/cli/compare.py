"""counterpoise compare"""

from __future__ import annotations

from typing import Annotated

import typer

from counterpoise.cli.options import (
    Augment,
    BatchSize,
    Data,
    Debug,
    Epochs,
    ImageSize,
    Jobs,
    Json,
    LearningRate,
    Model,
    Nested,
    Out,
    Overwrite,
    Precision,
    Pretrained,
    Resume,
    SplitSeed,
    Symmetries,
    Tree,
    ValFraction,
)
from counterpoise.cli.output import emit_json, note, progress_bar, say
from counterpoise.cli.running import load_data, print_comparison, training_settings


def compare(
    data: Data,
    out: Out,
    strategies: Annotated[
        str, typer.Option("--strategies", metavar="A,B,C", help="Names from the catalog; default: what `plan` advises.")
    ] = "",
    seeds: Annotated[int, typer.Option("--seeds", metavar="K", min=1, help="How many seeds each strategy gets.")] = 3,
    model: Model = "auto",
    pretrained: Pretrained = False,
    epochs: Epochs = 30,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    image_size: ImageSize = None,
    augment: Augment = "auto",
    precision: Precision = "no",
    val_fraction: ValFraction = 0.2,
    split_seed: SplitSeed = 0,
    symmetries: Symmetries = None,
    nested: Nested = False,
    tree: Tree = "auto",
    jobs: Jobs = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train strategies × seeds at equal budget; one table, one verdict, one report."""
    from counterpoise.workflow import comparison
    from counterpoise.workflow.strategy import strategy_named
    from counterpoise.workflow.training import Settings

    chosen = [strategy_named(name.strip()) for name in strategies.split(",")] if strategies else None
    settings = training_settings(
        model=model,
        pretrained=pretrained,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        image_size=image_size,
        augment=augment,
        precision=precision,
        tree=tree,
    )
    Settings.of(settings)
    dataset = load_data(data, val_fraction=val_fraction, split_seed=split_seed, symmetries=symmetries, nested=nested)
    with progress_bar("reading images") as bar:
        result = comparison.compare(
            dataset,
            strategies=chosen,
            seeds=seeds,
            out=out,
            resume=resume,
            overwrite=overwrite,
            jobs=jobs,
            progress=bar,
            **settings,
        )
    if chosen and "baseline" not in strategies.split(","):
        note("baseline was run too: everything is measured against it")
    if result.tree and tree == "auto" and not any("/" in name for name in result.tree["classes"]):
        note("class tree: balanced by the counts, as no class has a name like animal/dog; --tree names another")
    if as_json:
        emit_json(result.to_dict())
        return
    print_comparison(result)
    say(f"\nreport: {out / 'report.html'}")
