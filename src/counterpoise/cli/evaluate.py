"""counterpoise evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterpoise.cli.options import Debug, Json
from counterpoise.cli.output import emit_json, findings_text, percent, print_table, say
from counterpoise.core.errors import ArtifactError

if TYPE_CHECKING:
    from counterpoise.core.artifacts import ClassScore, Evaluation


def evaluate(
    source: Annotated[
        Path, typer.Argument(metavar="RUN_OR_PREDICTIONS", help="A run's folder, or a .npz with logits and labels.")
    ],
    split: Annotated[str, typer.Option("--split", help="Of a run's folder: train, val or test.")] = "test",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Every number about saved predictions: per class with intervals, averages, calibration."""
    from counterpoise.workflow import evaluation

    predictions, known = _source(source, split)
    result = evaluation.evaluate(predictions, **known)
    if as_json:
        emit_json(result.to_dict())
        return
    _print(result)


def _source(source: Path, split: str) -> tuple[Path, dict[str, Any]]:
    """The file of predictions, and what the run beside it knows about the training."""
    from counterpoise.core.artifacts import Run
    from counterpoise.core.counts import ClassCounts

    file = source / f"predictions-{split}.npz" if source.is_dir() else source
    if not file.exists():
        raise ArtifactError(f"{file} does not exist; name a run's folder or a .npz with logits and labels")
    record = file.parent / "run.json"
    split = file.stem.removeprefix("predictions-")
    if not record.exists() or split not in ("train", "val", "test"):
        return file, {"split": split if split in ("train", "val", "test") else "test"}
    run = Run.load(record)
    counts = ClassCounts(run.train_counts, run.classes)
    return file, {"split": split, "train_counts": counts, "train_recall": run.train_recall or None}


def _print(result: Evaluation) -> None:
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
    say()
    print_table(
        ("class", "images", "recall", "95 %", "precision", "95 %", "F1", "train − here"),
        [_row(score) for score in result.classes],
    )
    for line in findings_text(result.findings):
        say(line)


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
