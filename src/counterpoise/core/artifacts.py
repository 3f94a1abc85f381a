"""What one stage hands to the next: frozen, versioned, to and from JSON.

Every number that may be undefined (the recall of a class without images) is ``float | None``:
None in Python, null in JSON. Numbers of a report are these numbers; nothing is computed while rendering.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal

from counterpoise.core.codec import Artifact
from counterpoise.core.errors import ArtifactError
from counterpoise.core.explanation import Explanation
from counterpoise.core.files import read_json
from counterpoise.core.predictions import Predictions
from counterpoise.core.strategy import Strategy

__all__ = [
    "Arm",
    "AuditResult",
    "CalibrationBin",
    "ClassAudit",
    "ClassScore",
    "Comparison",
    "Difference",
    "Evaluation",
    "Finding",
    "GroupScore",
    "NodeScore",
    "Predictions",
    "Quarantined",
    "Run",
    "Spread",
    "Strategy",
    "TreeScore",
    "Verdict",
    "read_artifact",
]

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that a reader should know: what kind, how bad, why, and about what."""

    kind: str
    severity: Severity
    reason: str
    about: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quarantined:
    """A file that was left out of the dataset, and why; ``label`` is its class where it is known."""

    path: str
    reason: str
    label: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class ClassAudit:
    """One class: images in each split, its share of the training images, its shot group."""

    name: str
    train: int
    val: int
    test: int
    share: float | None
    group: str


@dataclass(frozen=True)
class AuditResult(Artifact):
    """Facts about a dataset. Accuracies are in [0, 1].

    ``constant_accuracy`` is the accuracy of always predicting the largest training class, on the test
    split (validation or training where there is none: ``reference_split``); ``constant_balanced_accuracy``
    its balanced accuracy there.
    """

    name: str
    source: str
    num_images: int
    splits: dict[str, int]
    classes: tuple[ClassAudit, ...]
    imbalance_ratio: float | None
    groups: dict[str, tuple[str, ...]]
    reference_split: str
    constant_class: str
    constant_accuracy: float | None
    constant_balanced_accuracy: float | None
    findings: tuple[Finding, ...]
    quarantined: tuple[Quarantined, ...]
    num_files: int
    num_ignored: int
    partial: bool = False


@dataclass(frozen=True)
class Run(Artifact):
    """One training of one strategy with one seed, and where its files are.

    ``starts`` has the first optimiser step of every start (0, then one for each resumption). ``train_recall`` is
    the recall per class on the training images without augmentation; None for a class without any. ``prior`` is the
    class prior that is left in the scores (uniform once it is corrected; empty where the loss does not define it),
    ``fitted`` what a correction chose on validation, ``notes`` what the reader should know, ``tree`` the class tree of
    a hierarchical strategy.
    """

    strategy: Strategy
    seed: int
    status: Literal["running", "done", "failed"]
    model: str
    settings: dict[str, Any]
    environment: dict[str, str]
    data: dict[str, Any]
    classes: tuple[str, ...]
    train_counts: tuple[int, ...]
    starts: tuple[int, ...] = ()
    steps: int = 0
    seconds: float = 0.0
    train_recall: tuple[float | None, ...] = ()
    prior: tuple[float, ...] = ()
    fitted: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tree: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    directory: str = ""


@dataclass(frozen=True)
class ClassScore:
    """One class on one split. Intervals are Wilson's; None where nothing was there to count.

    ``train_recall`` minus ``recall`` is the ``gap``: large and positive where the class is memorised.
    """

    name: str
    support: int
    predicted: int
    true_positives: int
    false_positives: int
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    f1: float | None
    group: str | None = None
    train_count: int | None = None
    train_recall: float | None = None
    gap: float | None = None


@dataclass(frozen=True)
class GroupScore:
    """Many, medium or few: the mean recall of the group's classes that have images here."""

    group: str
    classes: tuple[str, ...]
    support: int
    accuracy: float | None


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions whose top probability is in (low, high]: how many, how sure, how right."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Evaluation(Artifact):
    """Every number about one set of predictions. Rates are in [0, 1].

    ``confusion[i][j]`` counts images of class i predicted as class j. A class absent from the labels
    counts in no average.
    """

    split: str
    num_images: int
    confidence: float
    accuracy: float | None
    balanced_accuracy: float | None
    balanced_error: float | None
    macro_f1: float | None
    geometric_mean: float | None
    expected_calibration_error: float | None
    classes: tuple[ClassScore, ...]
    groups: tuple[GroupScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[CalibrationBin, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Spread:
    """A number over seeds: mean, sample standard deviation (None for one seed), and each seed's value."""

    mean: float | None
    sd: float | None
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class NodeScore:
    """One inner node of the class tree, all seeds together.

    Of the test images whose path passes it and that were right so far (``reached``), how many went ``wrong`` here;
    ``train`` has its training images.
    """

    name: str
    depth: int
    train: int
    reached: int
    wrong: int


@dataclass(frozen=True)
class TreeScore:
    """Test predictions of all seeds by the class tree.

    ``level_error`` is the share that goes wrong at level 1, 2, …, of the images that are right so far;
    ``tree_distance`` the mean number of edges between label and wrong prediction.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    level_accuracy: tuple[float | None, ...]
    level_error: tuple[float | None, ...]
    tree_distance: float | None
    nodes: tuple[NodeScore, ...]


@dataclass(frozen=True)
class Arm:
    """One strategy in a comparison: its runs, seed by seed, in the order of the seeds.

    ``validation`` and ``test`` have one evaluation a finished seed; ``scores`` maps split and metric to the
    `Spread` over seeds: ``scores["test"]["balanced_accuracy"].mean``. Metrics: accuracy, balanced_accuracy, macro_f1,
    geometric_mean, expected_calibration_error, many, medium, few (mean recall of the group),
    few_false_positives (images wrongly given to the few-shot classes, a share of all images of the other classes),
    medium_false_positives (likewise for the medium-shot classes).
    ``history`` has one list of epochs a seed, with the keys epoch, loss, learning_rate, val_loss, val_accuracy,
    val_balanced_accuracy. ``weights`` has, for each seed, the class weights of each epoch where a strategy changes
    them, ``by_tree`` the scores by the class tree where a strategy of the comparison uses one.
    """

    strategy: Strategy
    status: Literal["done", "failed"]
    seeds: tuple[int, ...]
    directories: tuple[str, ...]
    seconds: tuple[float, ...]
    validation: tuple[Evaluation, ...] = ()
    test: tuple[Evaluation, ...] = ()
    scores: dict[str, dict[str, Spread]] = field(default_factory=dict)
    history: tuple[tuple[dict[str, float | None], ...], ...] = ()
    weights: tuple[tuple[tuple[float, ...], ...], ...] = ()
    by_tree: TreeScore | None = None
    error: str | None = None


@dataclass(frozen=True)
class Difference:
    """A strategy minus the baseline, in one metric on one split, with its bootstrap interval.

    ``method`` is "images" (paired, class-stratified, over the images, of the difference of seed means) or
    "images-and-seeds" (two-level, from 5 seeds on). ``seed_sd`` is the standard deviation over seeds of the
    paired difference.
    """

    strategy: str
    baseline: str
    split: str
    metric: str
    estimate: float | None
    low: float | None
    high: float | None
    seed_sd: float | None
    method: Literal["images", "images-and-seeds"]
    confidence: float = 0.95
    resamples: int = 0


@dataclass(frozen=True)
class Verdict:
    """The comparison in plain words.

    ``kind`` says which case it is; ``recommended`` is chosen on validation alone; ``tied`` names the
    strategies that validation cannot tell from it; ``costs`` says what the recommended one costs.
    """

    kind: Literal["clear", "undecided", "no-difference", "nothing-finished"]
    headline: str
    recommended: str | None
    tied: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison(Artifact):
    """Strategies × seeds on one dataset at equal budget: what `report` draws.

    ``tree`` is the class tree, where a strategy uses one: ``links`` from child to parent, and ``classes``.
    """

    audit: AuditResult
    baseline: str
    metric: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...]
    verdict: Verdict
    settings: dict[str, Any]
    environment: dict[str, str]
    tree: dict[str, Any] = field(default_factory=dict)


_KINDS: dict[str, type[Artifact]] = {
    kind.__name__: kind for kind in (AuditResult, Strategy, Run, Evaluation, Comparison, Explanation)
}


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Read any JSON artifact of ours, of whichever kind the file says it is."""
    data = read_json(path)
    kind = data.get("artifact") if isinstance(data, dict) else None
    if kind not in _KINDS:
        raise ArtifactError(f"{path} is no artifact of ours: expected one of {sorted(_KINDS)}, got {kind!r}")
    return _KINDS[kind].load(path)
