"""Choice of the strategies that are worth comparing for given class counts, with reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from counterpoise.core.artifacts import AuditResult, Strategy
from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import hyperparameters
from counterpoise.core.text import number_text, plural, ratio
from counterpoise.workflow.strategy.catalog import CATALOG

BALANCED = 1.5
"""Classes count as balanced up to this imbalance ratio."""


@dataclass(frozen=True)
class _Facts:
    ratio: float
    smallest: int
    largest: int
    classes: int
    few: int
    rarest: str


def plan(counts_or_audit: AuditResult | CountsLike) -> list[Strategy]:
    """The strategies that are worth comparing for these counts: `baseline` first, then the most promising.

    Args:
        counts_or_audit: an `AuditResult`, or training counts as a `ClassCounts`, an array ``(C,)`` or a
            ``{name: count}`` mapping.

    Returns:
        Catalog entries whose `reason` states the numbers in their favour. For nearly balanced data (an imbalance
        ratio of up to 1.5) only the baseline.

    Raises:
        ArgumentError: fewer than two classes have training images.

    Example:
        >>> for strategy in plan({"car": 5000, "motorcycle": 50})[:2]:
        ...     print(strategy.name, "-", strategy.reason)
        baseline - the reference that every other strategy is compared with
        logit-adjusted - compensates the imbalance of 100:1 in the loss, at no extra training cost
    """
    facts = _facts(counts_or_audit)
    reasons = {"baseline": "the reference that every other strategy is compared with"}
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
        raise ArgumentError(
            f"{found} training images; a classifier needs at least two classes: add images of a second class"
        )
    rarest = int(np.argmin(np.where(counts.counts > 0, counts.counts, counts.counts.max() + 1)))
    few = len(counts.groups()["few"])
    ratio = counts.imbalance_ratio
    return _Facts(ratio, int(present.min()), int(present.max()), len(present), few, counts.names[rarest])


def _for_imbalance(facts: _Facts) -> dict[str, str]:
    imbalance = ratio(facts.ratio)
    reasons = {
        "logit-adjusted": f"compensates the imbalance of {imbalance} in the loss, at no extra training cost",
        "post-hoc-logit-adjusted": "the same compensation on the logits of the baseline, without any training",
    }
    if facts.ratio > 20:
        reasons["sqrt-weighted-ce"] = (
            f"inverse class weights would differ by {imbalance}, and a model overfits few images with large weights; "
            f"with the square root they differ by {ratio(facts.ratio**0.5)}"
        )
    reasons["weighted-ce"] = f"class weights of {imbalance}: shows how many false positives the recall costs"
    weight = _effective_ratio(facts)
    if weight > BALANCED:  # with tens of thousands of images in every class, the default beta weighs them all alike
        reasons["class-balanced-focal"] = (
            f"class weights of {ratio(weight)} from the effective number of samples, with focal loss"
        )
    reasons["class-balanced-sampling"] = (
        f"every class is drawn equally often; an image of {facts.rarest!r} repeats about "
        f"{number_text(facts.largest / facts.smallest, 2)} times as often as one of the largest class"
    )
    if facts.smallest * facts.classes >= 5000:
        reasons["undersample"] = (
            f"the smallest class has {plural(facts.smallest, 'image')}, so {facts.smallest * facts.classes:,} images "
            "are left after undersampling"
        )
    return reasons


def _effective_ratio(facts: _Facts) -> float:
    beta = hyperparameters("weights", "effective_number")["beta"].default
    effective = ClassCounts([facts.smallest, facts.largest]).effective_number(float(beta or 0.0))
    return float(effective[1] / effective[0])
