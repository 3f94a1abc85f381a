"""Choice of the strategies that are worth comparing for given class counts, with reasons."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from counterpoise.core.artifacts import AuditResult, Strategy
from counterpoise.core.checks import checked_choice
from counterpoise.core.counts import MANY, ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import hyperparameters
from counterpoise.core.images import SYMMETRIES
from counterpoise.core.text import listed, number_text, plural, ratio
from counterpoise.hierarchy import ClassTree, from_paths
from counterpoise.workflow.strategy.catalog import CATALOG

BALANCED = 1.5
"""Classes count as balanced up to this imbalance ratio."""
OFTEN = 2.0
"""Images that class-balanced sampling draws this often per epoch are worth augmenting more strongly."""


@dataclass(frozen=True)
class _Facts:
    ratio: float
    smallest: int
    largest: int
    classes: int
    rarest: str
    repeats: float
    """How often class-balanced sampling draws an image of the rarest class per epoch."""


def plan(
    counts_or_audit: AuditResult | CountsLike,
    *,
    symmetries: Collection[str] | None = None,
    tree: ClassTree | None = None,
) -> list[Strategy]:
    """The strategies that are worth comparing for these data: `baseline` first, then the most promising.

    Args:
        counts_or_audit: an `AuditResult`, or training counts as a `ClassCounts`, an array ``(C,)`` or a
            ``{name: count}`` mapping.
        symmetries: label-preserving transforms of the images, among "hflip", "vflip" and "rot90": with one and few
            images of the rarest class, `minority-augment` is worth comparing. None for those of the audit; counts alone
            have none.
        tree: a class tree, with which `hierarchical` is worth comparing if it has groups of classes. None for the
            tree of the class names, where they have a slash, such as "animal/dog".

    Returns:
        Catalog entries whose `reason` states the numbers in their favour. For nearly balanced data (an imbalance
        ratio of up to 1.5) only the baseline.

    Raises:
        ArgumentError: fewer than two classes have training images, an unknown name in ``symmetries``, or a tree of
            other classes.

    Example:
        >>> for strategy in plan({"car": 5000, "motorcycle": 50})[:2]:
        ...     print(strategy.name, "-", strategy.reason)
        baseline - the reference that every other strategy is compared with
        logit-adjusted - compensates the imbalance of 100:1 in the loss, at no extra training cost
    """
    source = counts_or_audit
    if isinstance(source, AuditResult):
        symmetries = source.symmetries if symmetries is None else symmetries
        source = ClassCounts([c.train for c in source.classes], names=[c.name for c in source.classes])
    counts = source if isinstance(source, ClassCounts) else ClassCounts(source)
    for name in symmetries or ():
        checked_choice("symmetries", name, SYMMETRIES)
    facts = _facts(counts)
    reasons = {"baseline": "the reference that every other strategy is compared with"}
    if facts.ratio > BALANCED:
        reasons |= _for_imbalance(facts) | _for_few_images(facts, symmetries or ()) | _for_tree(facts, counts, tree)
    return [replace(CATALOG[name], reason=reason) for name, reason in reasons.items()]


def _facts(counts: ClassCounts) -> _Facts:
    present = counts.counts[counts.counts > 0]
    if len(present) < 2:
        found = f"only {len(present)} class has" if len(present) == 1 else "no class has"
        raise ArgumentError(
            f"{found} training images; a classifier needs at least two classes: add images of a second class"
        )
    rarest = int(np.argmin(np.where(counts.counts > 0, counts.counts, counts.counts.max() + 1)))
    smallest, largest = int(present.min()), int(present.max())
    repeats = counts.total / (len(present) * smallest)
    return _Facts(counts.imbalance_ratio, smallest, largest, len(present), counts.names[rarest], repeats)


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


def _for_few_images(facts: _Facts, symmetries: Collection[str]) -> dict[str, str]:
    """Stronger augmentation of images that repeat often, where the images are few and a transform keeps their class."""
    if not symmetries or facts.smallest > MANY or facts.repeats < OFTEN:
        return {}
    return {
        "minority-augment": f"class-balanced sampling draws each of the {plural(facts.smallest, 'image')} of "
        f"{facts.rarest!r} about {number_text(facts.repeats, 2)} times per epoch, and a model overfits them; here "
        "an image is augmented more strongly the more often it is drawn (label-preserving: "
        f"{', '.join(sorted(symmetries))})"
    }


def _for_tree(facts: _Facts, counts: ClassCounts, tree: ClassTree | None) -> dict[str, str]:
    """One head per node of the class tree, where the tree has groups of classes."""
    if tree is None and any("/" in name for name in counts.names):
        try:
            tree = from_paths(counts.names)
        except ArgumentError:  # the names are no tree, such as "animal" beside "animal/dog"
            return {}
    if tree is None:
        return {}
    if tree.classes != counts.names:
        raise ArgumentError(f"`tree` must have the classes {listed(counts.names)}; it has {listed(tree.classes)}")
    top = tree.children(0)
    groups = [tree.names[node] for node in top if len(tree.children(node)) > 1]
    images = tree.node_counts(counts.counts)[top]
    images = images[images > 0]
    if len(images) < 2 or not groups:
        return {}
    return {
        "hierarchical": f"the classes form a tree with {plural(len(top), 'branch', 'branches')} (groups: "
        f"{listed(groups)}), which differ by {ratio(images.max() / images.min())} in their images, while the classes "
        f"differ by {ratio(facts.ratio)}; one head per node compensates each of these imbalances by itself"
    }
