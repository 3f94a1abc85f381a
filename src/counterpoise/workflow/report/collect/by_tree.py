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
    return Section("tree", "The class tree", (Prose(words), _levels(kept), _nodes(kept, _members(comparison.tree))))


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
        Column("Tree distance", "Mean number of edges between label and prediction, over the errors."),
    ]
    rows = []
    for one, arm in kept:
        score = arm.by_tree
        assert score is not None
        levels = [rate(value, ABSENT) for value in (*score.level_error, *score.level_accuracy)]
        far = number(score.tree_distance)
        distance = missing("no errors") if far is None else Cell(f"{far:.2f}")
        rows.append((Cell(shown(one.name), series=one), rate(score.f1, ABSENT), *levels, distance))
    note = "Percentages of the test images, all seeds together."
    return Table("Down the levels", tuple(columns), tuple(rows), (note,))


def _nodes(kept: Sequence[tuple[Series, Arm]], members: Mapping[str, Sequence[str]]) -> Table:
    first = kept[0][1].by_tree
    assert first is not None
    columns = (
        Column("Node", numeric=False),
        Column("Training images"),
        *(Column(f"Wrong here: {shown(one.name)}", "Of the test images that come here rightly.") for one, _ in kept),
    )
    rows = []
    for i, node in enumerate(first.nodes):
        indent, below = "\u2003" * node.depth, members.get(node.name, ())
        label = ", ".join(below) if node.name.startswith("#") else node.name
        name = name_cell(label or "all classes", limit=48)
        cells = []
        for _, arm in kept:
            here = arm.by_tree.nodes[i] if arm.by_tree else node
            share = here.wrong / here.reached if here.reached else None
            cells.append(rate(share, ABSENT, detail=f"{count(here.wrong)} of {count(here.reached)}"))
        rows.append((replace(name, text=indent + name.text), Cell(count(node.train)), *cells))
    note = "Each node is one classification among its children; a node without a name of its own shows its classes."
    return Table("Errors at each node", columns, tuple(rows), (note,))
