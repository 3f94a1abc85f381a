"""counterpoise train"""

from __future__ import annotations

from typing import Annotated

from counterpoise.cli.options import (
    Data,
    Device,
    Out,
    Overwrite,
    Resume,
    Tracker,
    TrainingDataOptions,
    TrainingOptions,
    flag,
    option,
)
from counterpoise.cli.output import Result, print_text
from counterpoise.cli.progress import training_progress
from counterpoise.core.text import plural

Strategy = Annotated[
    str, option("--strategy", "NAME", "One that `counterpoise explain` lists: focal, focal:gamma=1, …")
]
_WITH_VAL = """Train on the validation images as well: for the model to use, after a comparison has chosen the strategy.
Strategies that fit something on validation images need them."""
WithVal = Annotated[bool, flag("--with-val", _WITH_VAL)]
Seed = Annotated[int, option("--seed", "K", "Seed of the weights, the order of the images and augmentation.", min=0)]


def train(
    data: Data,
    strategy: Strategy,
    out: Out,
    reading: TrainingDataOptions,
    training: TrainingOptions,
    seed: Seed = 0,
    with_val: WithVal = False,
    device: Device = "auto",
    tracker: Tracker = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> Result | None:
    """Train one strategy with one seed; write the model and its predictions to DIR."""
    from counterpoise.workflow import training as stage
    from counterpoise.workflow.strategy import strategy_named

    chosen, settings = strategy_named(strategy), training.settings(device)
    dataset = reading.load(data)
    with training_progress("reading images") as progress:
        run = stage.train(
            chosen,
            dataset,
            seed=seed,
            with_val=with_val,
            out=out,
            resume=resume,
            overwrite=overwrite,
            device=device,
            tracker=tracker,
            progress=progress,
            **settings,
        )
    if not stage.distributed_state().is_main_process:
        return None

    def show() -> None:
        print_text(str(chosen))
        print_text(f"trained for {plural(run.steps, 'step')} in {run.seconds:.0f} s; files in {out}")
        print_text(f"counterpoise evaluate {out}")

    return Result(run, show)
