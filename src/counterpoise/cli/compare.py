"""counterpoise compare"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from counterpoise.cli.options import (
    Data,
    Device,
    NoImages,
    Out,
    Overwrite,
    Resume,
    Tracker,
    TrainingDataOptions,
    TrainingOptions,
    flag,
    option,
    typed_command,
)
from counterpoise.cli.output import Result, print_note, print_table, print_text
from counterpoise.cli.progress import training_progress
from counterpoise.core.text import metric_name, percent, plural, points

if TYPE_CHECKING:
    from counterpoise.core.artifacts import Arm, Comparison, Difference, Spread

_STRATEGIES = """Strategies, optionally with other hyperparameters: focal:gamma=1,logit-adjusted. Default: those that
`counterpoise plan` recommends."""
_FOLDS = """Divide the images of train and val into K folds and validate every strategy on each of them
(cross-validation), for data with few images of a class. Cost: K × strategies × seeds trainings. Default: one
validation split."""
_MAX_DROP = """Recommend no strategy whose validation accuracy is more than this many percentage points below the
baseline's. Default: no limit."""
_FINETUNE = """With --frozen: then train the whole network with the best strategy and, as a control, with the baseline,
from the trained heads. Cost: at most 2 × seeds trainings."""
_FINETUNE_EPOCHS = "With --finetune: passes over the training images of each of these trainings. Default: 5."
_SHORT = {"balanced_accuracy": "bal. acc."}
_NOT_REPEATED = ("out", "resume", "overwrite", "select_by", "keep", "patience")
"""Options of `compare` that the training of a final model states anew, or that it cannot have: a training on the
validation images as well cannot choose its epoch by them."""
_JOBS = "Trainings at a time. Default: one per CPU core for small images without a GPU, else 1."


def compare(
    context: typer.Context,
    data: Data,
    out: Out,
    reading: TrainingDataOptions,
    training: TrainingOptions,
    strategies: Annotated[str, option("--strategies", "A,B,C", _STRATEGIES)] = "",
    seeds: Annotated[int, option("--seeds", "K", "Number of seeds per strategy.", min=1)] = 3,
    folds: Annotated[int | None, option("--folds", "K", _FOLDS, min=2)] = None,
    max_accuracy_drop: Annotated[float | None, option("--max-accuracy-drop", "POINTS", _MAX_DROP, min=0.0)] = None,
    finetune: Annotated[bool, flag("--finetune", _FINETUNE)] = False,
    finetune_epochs: Annotated[int | None, option("--finetune-epochs", "E", _FINETUNE_EPOCHS, min=1)] = None,
    jobs: Annotated[int | None, option("--jobs", "J", _JOBS, min=1)] = None,
    device: Device = "auto",
    no_images: NoImages = False,
    tracker: Tracker = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> Result:
    """Train several strategies with several seeds on equal budgets; write a report with a recommendation."""
    from counterpoise.workflow import comparison
    from counterpoise.workflow.strategy import split_strategies, strategy_named

    chosen = [strategy_named(name) for name in split_strategies(strategies)] or None
    settings = training.settings(device)
    dataset = reading.load(data)
    with training_progress("reading images") as progress:
        result = comparison.compare(
            dataset,
            strategies=chosen,
            seeds=seeds,
            folds=folds,
            max_accuracy_drop=max_accuracy_drop,
            out=out,
            resume=resume,
            overwrite=overwrite,
            images=not no_images,
            jobs=jobs,
            device=device,
            tracker=tracker,
            finetune=finetune,
            finetune_epochs=finetune_epochs,
            progress=progress,
            **settings,
        )
    if chosen and result.baseline not in [strategy.name for strategy in chosen]:
        print_note(f"{result.baseline} was trained as well, because every strategy is compared with it")
    if result.tree and training.tree == "auto" and not any("/" in name for name in result.tree["classes"]):
        print_note("class tree: balanced by the class counts, because no class has a name like animal/dog; see --tree")
    again = typed_command(context, without=("seeds", "resume", "overwrite"))
    train = typed_command(context, without=_NOT_REPEATED, name="train")
    return Result(result, lambda: print_comparison(result, out, again, train), saved=saved_if_large(result, out))


def saved_if_large(comparison: Comparison, out: Path) -> Path | None:
    """The file to print with ``--json`` if there are many classes: its confusion matrices are in a file beside it."""
    from counterpoise.core import codec

    return out / "comparison.json" if len(comparison.audit.classes) > codec.MANY_CLASSES else None


def print_comparison(comparison: Comparison, out: Path, again: str, train: str = "") -> None:
    """Print one row per strategy, remarks about the numbers, the verdict, the report and the next step.

    ``again`` is the command that made the comparison, without the number of seeds, and ``train`` that of a training
    with the same options.
    """
    from counterpoise.workflow.comparison.next_step import final_training, has_own_features, next_step

    final, own = final_training(comparison, train), has_own_features(comparison)
    gains = {
        d.strategy: d
        for d in comparison.differences
        if (d.split, d.metric, d.baseline) == ("test", comparison.metric, comparison.baseline)
    }
    metrics = _metrics(comparison)
    name = _SHORT.get(comparison.metric, metric_name(comparison.metric))
    headers = ("strategy", f"val {name}", f"test {name}", "vs baseline [95 %]", *metrics.values(), "time")
    rows = [_row(arm, comparison.metric, gains.get(arm.strategy.name), list(metrics)) for arm in comparison.arms]
    print_table(headers, rows)
    print_text()
    for line in _remarks(comparison, any("[?]" in cell for row in rows for cell in row)):
        print_text(line)
    verdict = comparison.verdict
    for line in (verdict.headline, *(f"  cost: {cost}" for cost in verdict.costs), *verdict.notes):
        print_text(line)
    print_text(f"\nreport: {out / 'report.html'}")
    folder, seeds = shlex.quote(str(out)), len(comparison.seeds)
    print_text(next_step(verdict, again=again, folder=folder, seeds=seeds, final=final, own_features=own))


def _remarks(comparison: Comparison, undefined: bool) -> list[str]:
    """What the intervals do not include, and files that were left out."""
    from counterpoise.metrics.bootstrap import SEEDS_FOR_TWO_LEVELS

    lines = []
    if undefined:
        lines.append("[?]: too few images for an interval: in every class that differs, all predictions agree")
    if comparison.folds is not None:
        lines.append(f"val: the held-out images of {comparison.folds} folds together; test: the mean over their models")
    if 1 < len(comparison.seeds) < SEEDS_FOR_TWO_LEVELS:
        lines.append("intervals are over the images; ± is the standard deviation over the seeds")
    if left := len(comparison.audit.quarantined):
        lines.append(f"{plural(left, 'file')} could not be used; the report lists the reasons")
    return lines


def _metrics(comparison: Comparison) -> dict[str, str]:
    """Columns besides the metric chosen by: accuracies, recall of the groups, false positives of the rarest group."""
    scores = next((arm.scores["test"] for arm in comparison.arms if arm.status == "done"), {})
    groups = [g for g in ("many", "medium", "few") if g in scores and scores[g].mean is not None]
    columns = {name: _SHORT.get(name, name) for name in ("balanced_accuracy", "accuracy", *groups)}
    columns.pop(comparison.metric, None)
    if groups and groups[-1] != "many":
        columns[f"{groups[-1]}_false_positives"] = f"{groups[-1]}: false pos."
    return columns


def _row(arm: Arm, metric: str, gain: Difference | None, metrics: list[str]) -> tuple[str, ...]:
    if arm.status == "failed":
        return (arm.strategy.name, f"failed: {(arm.error or '')[:60]}", *[""] * (len(metrics) + 3))
    val, test = arm.scores["val"], arm.scores["test"]
    shares = [percent(test[name].mean) for name in metrics]
    interval = "" if gain is None else points(gain.estimate)
    if gain is not None:
        interval += " [?]" if gain.low is None or gain.high is None else f" [{points(gain.low)}, {points(gain.high)}]"
    both = (_spread(val[metric]), _spread(test[metric]))
    return (arm.strategy.name, *both, interval, *shares, f"{sum(arm.seconds):.0f} s")


def _spread(spread: Spread) -> str:
    return percent(spread.mean) + (f" ± {100 * spread.sd:.1f}" if spread.sd is not None else "")
