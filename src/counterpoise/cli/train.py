"""counterpoise train"""

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
from counterpoise.cli.output import emit_json, progress_bar, say
from counterpoise.cli.running import load_data, training_settings


def train(
    data: Data,
    strategy: Annotated[str, typer.Option("--strategy", metavar="NAME", help="A name that `counterpoise plan` lists.")],
    out: Out,
    seed: Annotated[int, typer.Option("--seed", metavar="K", min=0, help="Of weights, order and augmentation.")] = 0,
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
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train one strategy with one seed, and leave the model and its predictions in DIR."""
    from counterpoise.workflow import training
    from counterpoise.workflow.strategy import strategy_named

    chosen = strategy_named(strategy)
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
    training.Settings.of(settings)
    dataset = load_data(data, val_fraction=val_fraction, split_seed=split_seed, symmetries=symmetries, nested=nested)
    with progress_bar(f"{chosen.name}, seed {seed}") as bar:
        run = training.train(
            chosen,
            dataset,
            seed=seed,
            out=out,
            resume=resume,
            overwrite=overwrite,
            progress=lambda done, total: bar(f"{chosen.name}, seed {seed}", done, total),
            **settings,
        )
    if not training.processes().is_main_process:
        return
    if as_json:
        emit_json(run.to_dict())
        return
    say(f"{chosen}")
    say(f"trained for {run.steps} steps in {run.seconds:.0f} s; files in {out}")
    say(f"counterpoise evaluate {out}")
