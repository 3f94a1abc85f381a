"""counterpoise evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from counterpoise.cli.options import option, read_counts
from counterpoise.cli.output import Result, print_findings, print_note, print_table, print_text
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.core.text import percent

if TYPE_CHECKING:
    from counterpoise.core.artifacts import ClassScore, Evaluation, Run
    from counterpoise.core.counts import ClassCounts
    from counterpoise.workflow.evaluation import Tuned


Source = Annotated[
    Path,
    typer.Argument(metavar="RUN_OR_PREDICTIONS", help="The folder of a run, or a .npz file with logits and labels."),
]
_TUNE = """Fit tau (logit adjustment), thresholds or temperature on the validation predictions, and print the metrics of
the split before and after."""
_COUNTS = """Training images per class: 5000,500,50 in the order of the classes, or a JSON file {name: count}. Default:
those of the run."""


def evaluate(
    source: Source,
    split: Annotated[str, option("--split", "SPLIT", "Split of the run to evaluate: train, val or test.")] = "test",
    tune: Annotated[str | None, option("--tune", "WHAT", _TUNE)] = None,
    counts: Annotated[str | None, option("--counts", "N,N,…", _COUNTS)] = None,
) -> Result:
    """Evaluate saved predictions: metrics per class with confidence intervals, averages and calibration."""
    from counterpoise.workflow import evaluation

    predictions, training = _source(source, split, counts)
    if tune is not None:
        tuned = _tuned(tune, predictions, training, counts)
        return Result(tuned, lambda: _show_tuned(tuned))
    result = evaluation.evaluate(predictions, **training)
    return Result(result, lambda: _show(result))


def _source(source: Path, split: str, counts: str | None) -> tuple[Path, dict[str, Any]]:
    """The file of predictions, and what the run beside it, or the caller, knows about the training."""
    from counterpoise.core.counts import ClassCounts
    from counterpoise.core.predictions import Predictions

    file = source / f"predictions-{split}.npz" if source.is_dir() else source
    if not file.exists():
        raise ArtifactError(f"{file} does not exist; name a run's folder or a .npz with logits and labels")
    named = file.stem.removeprefix("predictions-")
    run = _run_of(file)
    known: dict[str, Any] = {"split": named if named in ("train", "val", "test") else "test"}
    if counts is not None:
        known["train_counts"] = _in_order(read_counts(counts), [str(name) for name in Predictions.load(file).classes])
    elif run is not None:
        known |= {"train_counts": ClassCounts(run.train_counts, run.classes), "train_recall": run.train_recall or None}
    return file, known


def _run_of(file: Path) -> Run | None:
    from counterpoise.core.artifacts import Run

    record = file.parent / "run.json"
    ours = file.stem in ("predictions-train", "predictions-val", "predictions-test")
    return Run.load(record) if ours and record.exists() else None


def _in_order(counts: ClassCounts, classes: list[str]) -> ClassCounts:
    """Counts without names are in the order of the classes; others are matched by name."""
    from counterpoise.core.counts import ClassCounts

    numbered = counts.names == tuple(str(i) for i in range(len(counts)))
    if len(counts) != len(classes):
        raise ArgumentError(
            f"`--counts` has {len(counts)} classes; the predictions have {len(classes)}: {classes[:10]}"
        )
    if numbered:
        return ClassCounts(counts.counts, classes)
    if unknown := set(counts.names) - set(classes):
        raise ArgumentError(f"`--counts` names {min(unknown)!r}; the predictions have the classes {classes[:10]}")
    by_name = dict(zip(counts.names, counts.counts.tolist(), strict=True))
    return ClassCounts([by_name[name] for name in classes], classes)


def _tuned(what: str, file: Path, known: dict[str, Any], counts: str | None) -> Tuned:
    """Fitted on the validation predictions that lie beside the file, or are it."""
    from counterpoise.workflow import evaluation

    kinds = get_args(evaluation.TuningKind)
    if what not in kinds:
        raise ArgumentError(f"`--tune` must be one of {', '.join(kinds)}; got {what!r}")
    validation = file.with_name("predictions-val.npz")
    if known["split"] == "train":
        raise ArgumentError("`--tune` corrects what the training has not seen: take `--split val` or test")
    if not validation.exists():
        raise ArtifactError(
            f"{validation} does not exist, and `--tune` fits on validation only; name the folder of a run that has "
            "validation images, or the validation predictions as predictions-val.npz"
        )
    split, options = known["split"], {k: v for k, v in known.items() if k != "split"}
    other = None if file.name == validation.name else file
    chosen: Any = what
    prior = _prior(file, known, counts) if what == "tau" else None
    if prior is not None and max(prior) - min(prior) < 1e-9:
        print_note(
            "these scores carry no prior any more, their classes count alike: there is nothing for tau to take out"
        )
    return evaluation.tune(chosen, validation, other=other, split=split, prior=prior, **options)


def _prior(file: Path, known: dict[str, Any], counts: str | None) -> Any:
    """The class prior that training left in the scores."""
    run = _run_of(file)
    if counts is not None:
        return known["train_counts"].prior()
    if run is None:
        raise ArgumentError("`--tune tau` needs the class prior of the training: give `--counts`")
    if not run.prior:
        raise ArgumentError(
            f"`--tune tau`: the scores of {run.strategy.name!r} carry no known prior (its loss or correction does not "
            "define one); tune thresholds, or give `--counts` to adjust for those all the same"
        )
    return run.prior


def _show_tuned(result: Tuned) -> None:
    before, after = result.before, result.after
    for name, value in result.parameters.items():
        print_text(f"{name}: {_parameter(value, [score.name for score in before.classes])}")
    how = ", each image with a fit to the other folds" if result.cross_fitted else ""
    print_text(f"fitted on the validation images; {before.num_images:,} {before.split} images before and after{how}")
    print_text()
    names = ("accuracy", "balanced_accuracy", "macro_f1", "expected_calibration_error")
    rows = [(name.replace("_", " "), percent(getattr(before, name)), percent(getattr(after, name))) for name in names]
    rows += [
        (f"{b.group} (mean recall)", percent(b.accuracy), percent(a.accuracy))
        for b, a in zip(before.groups, after.groups, strict=True)
        if b.classes
    ]
    print_table(("", "before", "after"), rows)
    print_text()
    headers = ("class", "images", "recall before", "after", "precision before", "after")
    classes = zip(before.classes, after.classes, strict=True)
    print_table(headers, [_change(b, a) for b, a in classes])


def _parameter(value: Any, classes: list[str]) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    named = value if isinstance(value, dict) else dict(zip(classes, value, strict=True))
    return ", ".join(f"{name} {number:.3g}" for name, number in named.items())


def _change(before: ClassScore, after: ClassScore) -> tuple[str, ...]:
    return (
        before.name,
        f"{before.support:,}",
        percent(before.recall),
        percent(after.recall),
        percent(before.precision),
        percent(after.precision),
    )


def _show(result: Evaluation) -> None:
    averages = {
        "accuracy": result.accuracy,
        "balanced accuracy": result.balanced_accuracy,
        "macro F1": result.macro_f1,
        "geometric mean": result.geometric_mean,
        "calibration error": result.expected_calibration_error,
    }
    averages |= {f"{group.group} (mean recall)": group.accuracy for group in result.groups}
    print_table(
        (f"{result.num_images:,} {result.split} images", ""), [(name, percent(v)) for name, v in averages.items()]
    )
    print_text()
    print_table(
        ("class", "images", "recall", "95 %", "precision", "95 %", "F1", "train − here"),
        [_row(score) for score in result.classes],
    )
    print_findings(result.findings)


def _row(score: ClassScore) -> tuple[str, ...]:
    def interval(low: float | None, high: float | None) -> str:
        return "" if low is None or high is None else f"{100 * low:.0f}–{100 * high:.0f}"

    return (
        score.name,
        f"{score.support:,}",
        percent(score.recall),
        interval(score.recall_low, score.recall_high),
        percent(score.precision),
        interval(score.precision_low, score.precision_high),
        percent(score.f1),
        percent(score.gap),
    )
