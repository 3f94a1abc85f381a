"""What a reader of the scores should be told: memorised, absent and never predicted classes."""

from __future__ import annotations

from collections.abc import Sequence

from counterpoise.core.artifacts import ClassScore, Finding

__all__ = ["findings_of", "memorised"]

# Memorised: nearly all training images of a rare class are recognised, a good part of the new ones is not, and
# the few new ones cannot explain that (the recall's interval ends below the recall in training).
MIN_TRAIN_RECALL = 0.9
MIN_GAP = 0.2
RARE = ("few", "medium")


def findings_of(classes: Sequence[ClassScore], split: str, confidence: float) -> tuple[Finding, ...]:
    """Findings about the classes of one split, one of each kind at most."""
    if not any(c.support for c in classes):
        return (Finding("no-images", "error", f"there is no image in {split}, so no number is defined"),)
    found = (
        _absent([c for c in classes if c.support == 0], split),
        _one_answer([c for c in classes if c.predicted], classes, split),
        _never_predicted([c for c in classes if c.support and not c.predicted], split),
        _memorised([c for c in classes if memorised(c)], split, confidence),
    )
    return tuple(finding for finding in found if finding is not None)


def memorised(c: ClassScore) -> bool:
    """A rare class with a high recall in training and a recall here that is surely far lower."""
    if c.group not in RARE or c.train_recall is None or c.gap is None or c.recall_high is None:
        return False
    return c.train_recall >= MIN_TRAIN_RECALL and c.gap >= MIN_GAP and c.recall_high < c.train_recall


def _absent(absent: list[ClassScore], split: str) -> Finding | None:
    if not absent:
        return None
    predicted = [c for c in absent if c.predicted]
    reason = f"no image in {split}: {_names(absent)}. Such a class has no recall and counts in no average"
    if predicted:
        times = sum(c.predicted for c in predicted)
        reason += f"; predicted all the same ({times} times): {_names(predicted)}"
    return Finding("absent-class", "warning", reason, tuple(c.name for c in absent))


def _one_answer(predicted: list[ClassScore], classes: Sequence[ClassScore], split: str) -> Finding | None:
    if len(predicted) != 1 or sum(c.support > 0 for c in classes) < 2:
        return None
    name = predicted[0].name
    return Finding("constant", "warning", f"every image in {split} is predicted as {name!r}", (name,))


def _never_predicted(never: list[ClassScore], split: str) -> Finding | None:
    if not never:
        return None
    reason = f"never predicted in {split}, so their recall is 0 and their precision is not defined: {_names(never)}"
    return Finding("never-predicted", "warning", reason, tuple(c.name for c in never))


def _memorised(classes: list[ClassScore], split: str, confidence: float) -> Finding | None:
    if not classes:
        return None
    worst = sorted(classes, key=lambda c: -(c.gap or 0.0))
    numbers = "; ".join(
        f"{c.name!r} {_percent(c.train_recall)} in training, {_percent(c.recall)} in {split} "
        f"[{_percent(c.recall_low)}, {_percent(c.recall_high)}]"
        for c in worst[:5]
    )
    more = f"; and {len(worst) - 5} more" if len(worst) > 5 else ""
    reason = (
        "rare classes whose training images are known by heart and whose new images are not recognised "
        f"(recall with its {_percent(confidence)} interval): {numbers}{more}"
    )
    return Finding("memorised", "warning", reason, tuple(c.name for c in worst))


def _names(classes: Sequence[ClassScore]) -> str:
    listed = ", ".join(repr(c.name) for c in classes[:10])
    return listed + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")


def _percent(rate: float | None) -> str:
    return "undefined" if rate is None else f"{100 * rate:.0f} %"
