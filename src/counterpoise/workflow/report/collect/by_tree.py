"""The class tree of a comparison: counts and errors at each node, and where errors accumulate down the levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from counterpoise.core.artifacts import Arm, Comparison
from counterpoise.workflow.report.collect.pieces import rate
from counterpoise.workflow.report.page import Cell, Column, Prose, Section, Series, Table
from counterpoise.workflow.report.text import count, missing, name_cell, number, shown

__all__ = ["tree_section"]

ABSENT = "no test image reaches it"


def tree_section(comparison: Comparison, series: Mapping[str, Series]) -> Section:
    """Empty unless a strategy of the comparison uses the tree; those that do, the baseline and the recommended one."""
    first = (comparison.baseline, comparison.verdict.recommended)
    kept = [
        (series[arm.strategy.name], arm)
        for arm in comparison.arms
        if arm.by_tree is not None and (arm.strategy.name in first or arm.strategy.head == "hierarchical")
    ]
    if not kept:
        return Section("tree", "The class tree", ())
    words = (
        "A tree turns one problem of many classes into a small one in each inner node. An error is counted where the "
        "prediction leaves the path of the true class; what is below was not asked any more."
    )
    return Section("tree", "The class tree", (Prose(words), _levels(kept), _nodes(kept, comparison)))


def _members(tree: Mapping[str, Any]) -> dict[str, list[str]]:
    """The classes below each inner node, by the node's name."""
    above = dict(tree["links"])
    members: dict[str, list[str]] = {}
    for name in tree["classes"]:
        node = above.get(name, "")
        while node:
            members.setdefault(node, []).append(name)
            node = above.get(node, "")
    return members


def _levels(kept: Sequence[tuple[Series, Arm]]) -> Table:
    depth = max(len(arm.by_tree.level_error) for _, arm in kept if arm.by_tree)
    columns = [
        Column("Strategy", numeric=False),
        Column("Hierarchical F1", "Shared ancestors over all ancestors of labels and predictions."),
        *(Column(f"Wrong at level {i + 1}", "Of the images that are right so far.") for i in range(depth)),
        *(Column(f"Right to level {i + 1}") for i in range(depth)),
        Column("Tree distance of errors", "Mean number of edges between label and prediction, over the errors."),
    ]
    rows = []
    for one, arm in kept:
        score = arm.by_tree
        assert score is not None
        levels = [rate(value, ABSENT) for value in (*score.level_error, *score.level_accuracy)]
        far = number(score.tree_distance)
        distance = missing("no errors") if far is None else Cell(f"{far:.2f}")
        rows.append((Cell(shown(one.name), series=one), rate(score.f1, ABSENT), *levels, distance))
    note = (
        "Of the test images, all seeds together. Wrong at a level: of those that are right so far and whose class goes "
        "that deep; right to a level: of all whose class goes that deep. Tree distance is that of the errors alone."
    )
    return Table("Down the levels", tuple(columns), tuple(rows), (note,))


def _nodes(kept: Sequence[tuple[Series, Arm]], comparison: Comparison) -> Table:
    first = kept[0][1].by_tree
    assert first is not None
    columns = (
        Column("Node", numeric=False),
        Column("Training images"),
        *(Column(f"Wrong: {shown(one.name)}", "Of the test images that come here rightly.") for one, _ in kept),
    )
    members, inner = _members(comparison.tree), {node.name: i for i, node in enumerate(first.nodes)}
    train = {c.name: c.train for c in comparison.audit.classes}
    rows = []
    for name, depth in _downwards(comparison.tree):
        if name in inner:
            i = inner[name]
            scores = [arm.by_tree.nodes[i] for _, arm in kept if arm.by_tree]
            label = ", ".join(members.get(name, ())) if name.startswith("#") else name or "all classes"
            cells = [_share(score.wrong, score.reached) for score in scores]
            images = first.nodes[i].train
        else:
            label, images = name, train[name]
            cells = [_share(*_missed(arm, name)) for _, arm in kept]
        shortened = name_cell(label, limit=48)
        text = "\u2003" * depth + shortened.text
        rows.append((replace(shortened, text=text), Cell(count(images)), *cells))
    notes = (
        "A node with others indented below it is one classification among these; where it has no name it shows its "
        "classes. A class counts its own test images that were taken for another, wherever that happened.",
    )
    return Table("Errors at each node", columns, tuple(rows), notes)


def _downwards(tree: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Every node with its depth, parents before their children, in the order of the tree."""
    below: dict[str, list[str]] = {}
    for child, parent in tree["links"]:
        below.setdefault(parent, []).append(child)
    found, waiting = [], [("", 0)]
    while waiting:
        name, depth = waiting.pop()
        found.append((name, depth))
        waiting += [(child, depth + 1) for child in reversed(below.get(name, []))]
    return found


def _missed(arm: Arm, name: str) -> tuple[int, int]:
    """Test images of a class that were taken for another one, and all of them, over the seeds."""
    scores = [c for evaluation in arm.test for c in evaluation.classes if c.name == name]
    return sum(c.support - c.true_positives for c in scores), sum(c.support for c in scores)


def _share(wrong: int, reached: int) -> Cell:
    share = wrong / reached if reached else None
    return rate(share, ABSENT, detail=f"{count(wrong)} of {count(reached)}")
