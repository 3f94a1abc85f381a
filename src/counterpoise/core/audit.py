"""`AuditResult`: the facts about a dataset, with its classes, findings and quarantined files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from counterpoise.core.codec import Artifact

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """A problem found in data or predictions: its kind, its severity, the reason in words, and what it is about."""

    kind: str
    severity: Severity
    reason: str
    about: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quarantined:
    """A file that is excluded from the dataset, and the reason; ``label`` is its class where it is known."""

    path: str
    reason: str
    label: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Example:
    """An image that a report shows: its path in the dataset, its class and its split."""

    path: str
    label: str
    split: str


@dataclass(frozen=True)
class ClassAudit:
    """One class: images per split, share of the training images, and group (many, medium or few)."""

    name: str
    train: int
    val: int
    test: int
    share: float | None
    group: str


@dataclass(frozen=True)
class AuditResult(Artifact):
    """Facts about a dataset. Accuracies are in [0, 1].

    ``constant_accuracy`` and ``constant_balanced_accuracy`` are the scores of always predicting the largest training
    class, on ``reference_split``: the test split, or validation or training where there is no test split.
    ``symmetries`` are the label-preserving transforms of the dataset; empty in audits of versions that did not record
    them. ``examples`` has the first training image of every class, with more than 100 classes of the 50 largest and the
    50 rarest, and then the images of the findings about copies; empty in audits of versions that did not record them.
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
    symmetries: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
