"""plan: from the counts of a dataset to the strategies worth a run, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from counterpoise.core.artifacts import AuditResult, Strategy
from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.strategy.catalog import CATALOG

__all__ = ["plan"]

BALANCED = 1.5
"""Up to this imbalance ratio, classes count as balanced."""


@dataclass(frozen=True)
class _Facts:
    ratio: float
    smallest: int
    largest: int
    classes: int
    few: int
    rarest: str


def plan(counts_or_audit: AuditResult | CountsLike) -> list[Strategy]:
    """The strategies worth comparing for these counts, most promising first, `baseline` always among them.

    Args:
        counts_or_audit: an `AuditResult`, or training counts as a `ClassCounts`, an array ``(C,)`` or a
            ``{name: count}`` mapping.

    Returns:
        Catalog entries with `reason` filled in with the numbers that speak for them. Nearly balanced data
        (ratio up to 1.5) gets the baseline alone.

    Raises:
        ArgumentError: fewer than two classes have training images.

    Example:
        >>> for strategy in plan({"car": 5000, "motorcycle": 50})[:2]:
        ...     print(strategy.name, "-", strategy.reason)
        baseline - what every other strategy is measured against
        logit-adjusted - corrects a prior of 100:1 in the loss itself, at the cost of a plain run
    """
    facts = _facts(counts_or_audit)
    reasons = {"baseline": "what every other strategy is measured against"}
    if facts.ratio > BALANCED:
        reasons |= _for_imbalance(facts)
    return [replace(CATALOG[name], reason=reason) for name, reason in reasons.items()]


def _facts(source: AuditResult | CountsLike) -> _Facts:
    if isinstance(source, AuditResult):
        source = ClassCounts([c.train for c in source.classes], names=[c.name for c in source.classes])
    counts = source if isinstance(source, ClassCounts) else ClassCounts(source)
    present = counts.counts[counts.counts > 0]
    if len(present) < 2:
        found = f"only {len(present)} class has" if len(present) == 1 else "no class has"
        raise ArgumentError(f"{found} training images; there is nothing to tell apart: add images of a second class")
    rarest = int(np.argmin(np.where(counts.counts > 0, counts.counts, counts.counts.max() + 1)))
    few = len(counts.groups()["few"])
    ratio = counts.imbalance_ratio
    return _Facts(ratio, int(present.min()), int(present.max()), len(present), few, counts.names[rarest])


def _for_imbalance(facts: _Facts) -> dict[str, str]:
    ratio = f"{facts.ratio:.0f}:1" if facts.ratio >= 10 else f"{facts.ratio:.1f}:1"
    repeats = facts.largest / facts.smallest
    reasons = {
        "logit-adjusted": f"corrects a prior of {ratio} in the loss itself, at the cost of a plain run",
        "post-hoc-logit-adjusted": "the same correction on the baseline's scores: free, so always worth a look",
    }
    if facts.ratio > 20:
        reasons["sqrt-weighted-ce"] = (
            f"full inverse weights would be {ratio} here, and few images with large weights are memorised; "
            f"the square root is {facts.ratio**0.5:.0f}:1"
        )
    reasons["weighted-ce"] = f"the classical remedy, weights of {ratio}: shows what recall costs in false positives"
    weight = _effective_ratio(facts)
    if weight > BALANCED:  # with tens of thousands of images in every class, beta = 0.9999 weighs them all alike
        reasons["class-balanced-focal"] = f"effective-number weights of {weight:.0f}:1, and easy images weigh less"
    reasons["class-balanced-sampling"] = (
        f"every class equally often: {facts.rarest!r} repeats about {repeats:.0f} times as often as the largest class"
    )
    if facts.smallest * facts.classes >= 5000:
        reasons["undersample"] = (
            f"even the smallest class has {facts.smallest} images, so that leaving images out still leaves "
            f"{facts.smallest * facts.classes}"
        )
    return reasons


def _effective_ratio(facts: _Facts) -> float:
    effective = ClassCounts([facts.smallest, facts.largest]).effective_number(0.9999)
    return float(effective[1] / effective[0])
