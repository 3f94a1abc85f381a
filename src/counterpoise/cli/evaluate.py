"""counterpoise evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterpoise.cli.options import flag, option, read_counts
from counterpoise.cli.output import Result, print_findings, print_note, print_table, print_text
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.core.files import path_exists
from counterpoise.core.text import MISSING, listed, number_text, percent, plural

if TYPE_CHECKING:
    from counterpoise.core.artifacts import ClassScore, Evaluation, Run
    from counterpoise.core.counts import ClassCounts
    from counterpoise.workflow.evaluation import Tuned

_SOURCE = "The folder of a run, or a .npz file with logits and labels."
_SPLIT = "Split to evaluate, if a folder is given: train, val or test."
_TUNE = """Fit tau (logit adjustment), thresholds or temperature on the validation predictions, and print the metrics of
the split before and after."""
_SAVE = "With --tune: save the tuned values in the run; predict and export apply them."
_COUNTS = """Training images per class: 5000,500,50 in the order of the classes, or a JSON file {name: count}. Default:
those of the run."""
UNIFORM = 1e-9
"""Largest difference between the shares of a class prior that counts as uniform."""


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_PREDICTIONS", help=_SOURCE, readable=False)],
    split: Annotated[str, option("--split", "SPLIT", _SPLIT)] = "test",
    kind: Annotated[str | None, option("--tune", "WHAT", _TUNE)] = None,
    train_counts: Annotated[str | None, option("--counts", "N,N,…", _COUNTS)] = None,
    save: Annotated[bool, flag("--save", _SAVE)] = False,
) -> Result:
    """Evaluate saved predictions: metrics per class with confidence intervals, averages and calibration."""
    from counterpoise.workflow import evaluation

    is_folder = path_exists(source) and source.is_dir()
    if is_folder:
        _refuse_a_comparison(source)
    file = source / f"predictions-{split}.npz" if is_folder else source
    if not path_exists(file):
        raise ArtifactError(f"{file} does not exist; name the folder of a run or a .npz file with logits and labels")
    suffix = file.stem.removeprefix("predictions-")
    split = suffix if suffix in ("train", "val", "test") else "test"
    training = _training(file, train_counts)
    if train_counts is not None:
        _warn_of_empty_classes(training["train_counts"], kind)
    if save and (kind is None or _run_of(file) is None):
        raise ArgumentError("`--save` saves what `--tune` has fitted in the folder of a run: give `--tune` and a run")
    if kind is None:
        _say_what_is_not_applied(file)
        result = evaluation.evaluate(file, split=split, **training)
        return Result(result, lambda: _show(result))
    prior = _prior(file, None if train_counts is None else training["train_counts"]) if kind == "tau" else None
    without_effect = prior is not None and max(prior) - min(prior) < UNIFORM
    tuned = _tuned(kind, file, split, prior, training)
    saved = evaluation.save_tuning(tuned, file.parent) if save else None
    return Result(tuned, lambda: _show_tuned(tuned, saved, without_effect=without_effect))


def _refuse_a_comparison(folder: Path) -> None:
    """Name the runs to evaluate, if the folder holds a comparison."""
    from counterpoise.core.artifacts import Comparison

    record = folder / "comparison.json"
    if path_exists(folder / "run.json") or not path_exists(record):
        return
    arms = Comparison.load(record).arms
    runs = [str(folder / directory) for arm in arms if arm.status == "done" for directory in arm.directories]
    raise ArgumentError(
        f"{folder} holds a comparison, whose evaluation is in its report; evaluate one of its runs: {listed(runs, 5)}"
    )


def _say_what_is_not_applied(file: Path) -> None:
    """That the run has tuned values, which predictions of new images have and the saved predictions have not."""
    from counterpoise.workflow.evaluation import read_tuning

    run = _run_of(file)
    if run is not None and (tuning := read_tuning(file.parent, run)) is not None:
        print_note(
            f"these numbers are without the tuned {tuning.kind} that are saved in {file.parent} and that predict and "
            f"export apply; `counterpoise evaluate {file.parent} --tune {tuning.kind}` shows both"
        )


def _training(file: Path, counts: str | None) -> dict[str, Any]:
    """Counts and recall of the training images: from the user, or from the run that wrote the predictions."""
    from counterpoise.core.counts import ClassCounts
    from counterpoise.core.predictions import Predictions

    run = _run_of(file)
    if counts is not None:
        classes = tuple(str(name) for name in Predictions.load(file).classes)
        return {"train_counts": _in_order(read_counts(counts), classes)}
    if run is None:
        return {}
    return {"train_counts": ClassCounts(run.train_counts, run.classes), "train_recall": run.train_recall or None}


def _warn_of_empty_classes(counts: ClassCounts, kind: str | None) -> None:
    """Say what a class without training images means for the result; raise if no class has any."""
    if not counts.total:
        raise ArgumentError("`train_counts` must have at least one class with a count above 0; correct the counts")
    if counts.empty:
        number = plural(len(counts.empty), "class has", "classes have")
        consequence = "never predicted after logit adjustment" if kind == "tau" else "in the group few"
        print_note(
            f"warning: `train_counts`: {number} no training images and {'is' if len(counts.empty) == 1 else 'are'} "
            f"{consequence}: {listed(counts.empty, 5)}; correct the counts if the model was trained on images of them"
        )


def _run_of(file: Path) -> Run | None:
    from counterpoise.core.artifacts import Run

    record = file.parent / "run.json"
    of_a_run = file.stem in ("predictions-train", "predictions-val", "predictions-test")
    return Run.load(record) if of_a_run and path_exists(record) else None


def _in_order(counts: ClassCounts, classes: tuple[str, ...]) -> ClassCounts:
    """Counts without names are in the order of the classes; others are matched by name."""
    from counterpoise.core.counts import ClassCounts
    from counterpoise.workflow.evaluation.evaluate import counts_by_name

    if len(counts) != len(classes):
        raise ArgumentError(f"`train_counts` has {len(counts)} classes; the predictions have {len(classes)}")
    unnamed = counts.names == tuple(str(i) for i in range(len(counts)))
    return ClassCounts(counts.counts, classes) if unnamed else counts_by_name(counts, classes)


def _tuned(kind: Any, file: Path, split: str, prior: Any, training: dict[str, Any]) -> Tuned:
    """Fit on the validation predictions in the folder of the file, and evaluate the file before and after."""
    from counterpoise.workflow import evaluation

    validation = file.with_name("predictions-val.npz")
    if split == "train":
        raise ArgumentError("`--tune` needs images that were not trained on: give `--split val` or `--split test`")
    if not path_exists(validation):
        raise ArtifactError(
            f"{validation} does not exist, and `--tune` fits on validation predictions; name the folder of a run that "
            "has validation images, or save the validation predictions under this name"
        )
    other = None if file.name == validation.name else file
    return evaluation.tune(kind, validation, other=other, split=split, prior=prior, **training)


def _prior(file: Path, counts: ClassCounts | None) -> Any:
    """The class prior that the logits contain after training."""
    if counts is not None:
        return counts.prior()
    run = _run_of(file)
    if run is None:
        raise ArgumentError("`--tune tau` needs the class prior of training: give `--counts`")
    if not run.prior:
        raise ArgumentError(
            f"`--tune tau`: the class prior in the logits of {run.strategy.name!r} is not known, because its loss or "
            "correction does not define one; tune thresholds, or give `--counts` to adjust for the class counts"
        )
    return run.prior


def _show_tuned(result: Tuned, saved: Path | None, *, without_effect: bool) -> None:
    if without_effect:
        print_text("the prior in these logits is uniform already, so that tau has no effect; tune thresholds instead")
    else:
        _show_before_and_after(result)
    if saved is not None:
        print_text()
        print_text(f"saved: {saved}, which predict and export apply; delete it to undo")


def _show_before_and_after(result: Tuned) -> None:
    before, after = result.before, result.after
    for name, value in result.parameters.items():
        print_text(f"{name}: {_parameter(value, [score.name for score in before.classes])}")
    folds = ", each image with a fit to the other folds" if result.cross_fitted else ""
    print_text(f"fitted on the validation images; {before.num_images:,} {before.split} images before and after{folds}")
    print_text()
    after_by_name = _averages(after)
    rows = [(name, percent(value), percent(after_by_name[name])) for name, value in _averages(before).items()]
    print_table(("", "before", "after"), rows)
    print_text()
    headers = ("class", "images", "recall before", "after", "precision before", "after")
    classes = [
        (b.name, f"{b.support:,}", *map(percent, (b.recall, a.recall, b.precision, a.precision)))
        for b, a in zip(before.classes, after.classes, strict=True)
    ]
    print_table(headers, classes)


def _parameter(value: Any, classes: list[str]) -> str:
    if isinstance(value, float):
        return number_text(value, 4)
    named = value if isinstance(value, dict) else dict(zip(classes, value, strict=True))
    return ", ".join(f"{name} {number_text(number)}" for name, number in named.items())


def _show(result: Evaluation) -> None:
    title = f"{result.num_images:,} {result.split} images"
    print_table((title, ""), [(name, percent(value)) for name, value in _averages(result).items()])
    print_text()
    headers = ("class", "images", "recall", "95 %", "precision", "95 %", "F1", f"train − {result.split}")
    print_table(headers, [_row(score) for score in result.classes])
    print_findings(result.findings)


def _averages(result: Evaluation) -> dict[str, float | None]:
    """The metrics over all classes and over groups of classes, by the names that the tables print."""
    averages = {
        "accuracy": result.accuracy,
        "balanced accuracy": result.balanced_accuracy,
        "macro F1": result.macro_f1,
        "geometric mean": result.geometric_mean,
        "worst recall": result.worst_recall,
        "calibration error": result.expected_calibration_error,
    }
    return averages | {f"{group.group} (mean recall)": group.accuracy for group in result.groups}


def _row(score: ClassScore) -> tuple[str, ...]:
    recall = (percent(score.recall), _interval(score.recall_low, score.recall_high))
    precision = (percent(score.precision), _interval(score.precision_low, score.precision_high))
    return (score.name, f"{score.support:,}", *recall, *precision, percent(score.f1), percent(score.gap))


def _interval(low: float | None, high: float | None) -> str:
    return MISSING if low is None or high is None else f"{100 * low:.0f}–{100 * high:.0f}"
