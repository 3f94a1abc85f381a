"""counterpoise train"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from counterpoise.core.files import NEW, path_exists
from counterpoise.core.text import metric_name, percent, plural

if TYPE_CHECKING:
    from counterpoise.core.artifacts import Run

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
    was_finished = resume and _is_finished(out)
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
        before = "this run was already finished, and nothing was trained now: " if was_finished else ""
        print_text(f"{before}trained for {plural(run.steps, 'step')} in {run.seconds:.0f} s; files in {out}")
        for line in _outcome(run):
            print_text(line)
        print_text(f"\nNext: counterpoise evaluate {out}")

    return Result(run, show)


def _is_finished(out: Path) -> bool:
    """Whether the folder has a finished run, and not a new one that is to replace it."""
    from counterpoise.workflow.training import RunFolder

    run = None if path_exists(out / NEW) else RunFolder(out).read_run()
    return run is not None and run.status == "done"


def _outcome(run: Run) -> Iterator[str]:
    """The score on validation, and the epoch whose weights the model has."""
    from counterpoise.workflow.comparison.engine import validation_value

    metric = str(run.settings.get("select_by") or "balanced_accuracy")
    if (value := validation_value(run, metric)) is not None:
        yield f"validation {metric_name(metric)}: {percent(value)}"
    if run.best_epoch is not None:
        yield f"the model has the weights of epoch {run.best_epoch}, the best one on validation"
