"""The artifacts that the stages of the workflow exchange: frozen, versioned dataclasses that are saved as JSON.

A number that may be undefined, such as the recall of a class without images, is ``float | None``: None in Python, null
in JSON. A report shows these numbers; nothing is computed while rendering.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from counterpoise.core.audit import AuditResult, ClassAudit, Example, Finding, Quarantined
from counterpoise.core.codec import ARRAYS, Artifact
from counterpoise.core.confusion import ConfusionMatrix
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.core.evaluation import CalibrationBin, ClassScore, Evaluation, GroupScore
from counterpoise.core.explanation import Explanation
from counterpoise.core.files import read_json
from counterpoise.core.predictions import LogitTransform, Predictions
from counterpoise.core.strategy import Strategy
from counterpoise.core.text import plural

__all__ = [
    "Arm",
    "AuditResult",
    "CalibrationBin",
    "ClassAudit",
    "ClassScore",
    "Comparison",
    "ConfusionMatrix",
    "Difference",
    "Evaluation",
    "Example",
    "Finding",
    "GroupScore",
    "LogitTransform",
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


@dataclass(frozen=True)
class Run(Artifact):
    """One training of one strategy with one seed.

    ``starts`` has the first optimiser step of every start: 0, and one entry per resumption. ``train_recall`` is the
    recall per class on the training images without augmentation; None for a class without images. ``prior`` is the
    class prior that remains in the logits: uniform after a correction, empty where the loss does not define it.
    ``fitted`` has the values that a correction chose on validation, ``notes`` are warnings and remarks, and ``tree`` is
    the class tree of a hierarchical strategy. ``best_epoch`` is the epoch whose weights the model has; None for the
    last one. ``transforms`` are the steps from the output of the model to the final logits; None in runs of versions
    that did not record them. ``digests`` has the SHA-256 of model and predictions.
    ``selected`` has the learning rate and the weight decay of a head on frozen features.
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
    best_epoch: int | None = None
    transforms: tuple[LogitTransform, ...] | None = None
    error: str | None = None
    directory: str = ""
    selected: dict[str, float] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Run({self.strategy.name!r}, seed={self.seed}, {self.status}, {self.model}, {self.directory!r})"


@dataclass(frozen=True)
class Spread:
    """A metric over the seeds: mean, sample standard deviation (None for one seed), and the value of each seed."""

    mean: float | None
    sd: float | None
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class NodeScore:
    """One inner node of the class tree, over all seeds.

    ``reached`` is the number of test images whose path passes the node and that are correct down to it, ``wrong`` the
    number of those that are wrong at this node, and ``train`` the number of its training images.
    """

    name: str
    depth: int
    train: int
    reached: int
    wrong: int


@dataclass(frozen=True)
class TreeScore:
    """Scores of the test predictions of all seeds by the class tree.

    ``level_error`` has, for each level, the share of wrong images among those that are correct at the levels above.
    ``tree_distance`` is the mean number of edges between label and wrong prediction.
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
    """One strategy in a comparison, with its runs in the order of the seeds.

    ``validation`` and ``test`` have one evaluation per seed. ``scores`` maps split and metric to the `Spread` over the
    seeds, for example ``scores["test"]["balanced_accuracy"].mean``. The metrics are accuracy, balanced_accuracy,
    macro_f1, geometric_mean, worst_recall, expected_calibration_error, many, medium and few (mean recall of the group),
    few_false_positives and medium_false_positives (the share of the images of other classes that are predicted as a
    class of the group). ``history`` has one list of epochs per seed, with the keys epoch, loss, learning_rate,
    val_loss, val_accuracy and val_balanced_accuracy. ``weights`` has the class weights per seed and epoch where a
    strategy changes them, and ``by_tree`` the scores by the class tree. With folds, ``validation`` pools the held-out
    images of each seed, and the rest has one entry per seed and fold. ``selected`` has the learning rate and the weight
    decay of every run whose head was trained on frozen features.
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
    weights: tuple[tuple[tuple[float, ...], ...], ...] = field(default=(), metadata=ARRAYS)
    by_tree: TreeScore | None = None
    error: str | None = None
    selected: tuple[dict[str, float], ...] = ()


@dataclass(frozen=True)
class Difference:
    """The difference of a strategy from the baseline in one metric on one split, with its bootstrap interval.

    ``method`` is "images" (paired, class-stratified resamples of the images; the difference is that of the seed means)
    or "images-and-seeds" (two levels, from 5 seeds). ``seed_sd``: standard deviation of the paired difference by seed.
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
    """The conclusion of a comparison, as text.

    ``leader`` is the strategy with the highest score on validation, and ``tied`` are the strategies that do not differ
    significantly from it there. ``recommended`` is the strategy to use, chosen on validation alone; it is None if
    ``kind`` is "undecided", because the leader and the baseline do not differ significantly, or "nothing-finished".
    If ``kind`` is "tied", several strategies do not differ significantly from each other, but the baseline is not one
    of them, and the leader is recommended. If finetuning gave a better model than the strategy that was selected on
    frozen features, that model is ``leader`` and ``recommended``, ``tied`` are those among the two and the finetuned
    baseline that do not differ significantly from it, and ``kind`` is "clear" or "tied". ``costs`` are the metrics on
    test that are worse than the baseline's.
    ``next_step`` is what to do now, with commands that can be typed. ``leader`` is None, and ``next_step`` empty, in
    files of versions that did not record them.
    """

    kind: Literal["clear", "tied", "undecided", "no-difference", "nothing-finished"]
    headline: str
    recommended: str | None
    tied: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    leader: str | None = None
    next_step: str = ""

    @property
    def selected(self) -> str | None:
        """The recommended strategy; the leader where none is recommended."""
        return self.leader if self.recommended is None else self.recommended


@dataclass(frozen=True)
class Comparison(Artifact):
    """The results of several strategies with several seeds on one dataset at equal budget.

    ``metric`` is that by which the strategy was chosen on validation, among those that lose at most
    ``max_accuracy_drop`` points of accuracy there. ``tree`` is the class tree where a strategy uses one: ``links`` from
    child to parent, and ``classes``. ``folds`` is the number of folds, or None. ``seconds`` is the wall time; None if
    the comparison was resumed. Files with more than 100 classes have format version 2; see `Evaluation`.

    Raises:
        ArgumentError: an evaluation has other classes than ``audit``.
    """

    versions: ClassVar[tuple[int, ...]] = (1, 2)

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
    max_accuracy_drop: float | None = None
    folds: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        names = [c.name for c in self.audit.classes]
        for arm in self.arms:
            if any(e.classes and [c.name for c in e.classes] != names for e in (*arm.validation, *arm.test)):
                raise ArgumentError(
                    f"`arms`: an evaluation of {arm.strategy.name!r} has other classes than `audit`; compare runs of "
                    "one dataset"
                )

    def __repr__(self) -> str:
        strategies = plural(len(self.arms), "strategy", "strategies")
        done = f"{strategies} × {plural(len(self.seeds), 'seed')}"
        return f"Comparison({self.audit.name!r}, {done}: {self.verdict.headline!r})"


_KINDS: dict[str, type[Artifact]] = {
    kind.__name__: kind for kind in (AuditResult, Strategy, Run, Evaluation, Comparison, Explanation)
}


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Read a JSON artifact of any kind; the file states which."""
    data = read_json(path)
    kind = data.get("artifact") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ArtifactError(
            f"{path} is not a Counterpoise artifact: expected one of {sorted(_KINDS)}, got {kind!r:.80}"
        )
    return _KINDS[kind].of_json(data, Path(path))
