"""Scores of a strategy by the class tree: accuracy per level, and errors per node."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import reduce

import numpy as np

from counterpoise import metrics
from counterpoise.core.artifacts import Evaluation, NodeScore, TreeScore
from counterpoise.core.counts import ClassCounts
from counterpoise.hierarchy import ClassTree


def tree_score(evaluations: Sequence[Evaluation], tree: ClassTree, train: ClassCounts) -> TreeScore:
    """Scores of several evaluations together; their classes are matched to those of the tree by name.

    Example:
        >>> from counterpoise import hierarchy
        >>> from counterpoise.workflow.evaluation import evaluate
        >>> seen = evaluate(([[2.0, 1.0, 0.0], [0.0, 2.0, 3.0], [3.0, 1.0, 0.0]], [0, 1, 2]))
        >>> tree = hierarchy.from_links({"x": None, "0": "x", "1": "x", "2": None}, classes=["0", "1", "2"])
        >>> score = tree_score([seen], tree, ClassCounts([5, 3, 2]))
        >>> score.level_error, [(node.name, node.reached, node.wrong) for node in score.nodes]
        ((0.6666666666666666, 0.0), [('', 3, 2), ('x', 1, 0)])
    """
    names = [score.name for score in evaluations[0].classes]
    where = np.array([tree.classes.index(name) for name in names])
    confusion = reduce(operator.add, (evaluation.confusion for evaluation in evaluations))
    true, predicted, times = where[confusion.labels], where[confusion.predictions], confusion.counts
    labels, predictions = np.repeat(true, times), np.repeat(predicted, times)
    return TreeScore(
        precision=_number(metrics.hierarchical_precision(labels, predictions, tree=tree)),
        recall=_number(metrics.hierarchical_recall(labels, predictions, tree=tree)),
        f1=_number(metrics.hierarchical_f1(labels, predictions, tree=tree)),
        level_accuracy=tuple(map(_number, metrics.level_accuracy(labels, predictions, tree=tree).tolist())),
        level_error=tuple(map(_number, metrics.error_by_level(labels, predictions, tree=tree).tolist())),
        tree_distance=_number(metrics.mean_tree_distance(labels, predictions, tree=tree)),
        nodes=_nodes(true, predicted, times, tree, train),
    )


def _nodes(
    true: np.ndarray, predicted: np.ndarray, times: np.ndarray, tree: ClassTree, train: ClassCounts
) -> tuple[NodeScore, ...]:
    """Errors are counted at the lowest common ancestor of label and prediction, visits at all ancestors above it."""
    reached, wrong = np.zeros((2, len(tree.parents)), dtype=np.int64)
    for label, prediction, n in zip(tree.leaves[true].tolist(), tree.leaves[predicted].tolist(), times, strict=True):
        meet = int(tree.common_ancestor(label, prediction))
        passed = [0, *tree.ancestors(meet)] if meet != label else [0, *tree.ancestors(label)[1:]]
        reached[passed] += n
        wrong[meet] += n if label != prediction else 0
    by_name = dict(zip(train.names, train.counts.tolist(), strict=True))
    images = tree.node_counts([by_name[name] for name in tree.classes])
    return tuple(
        NodeScore(tree.names[node], int(tree.depth[node]), int(images[node]), int(reached[node]), int(wrong[node]))
        for node in _preorder(tree)
    )


def _preorder(tree: ClassTree) -> list[int]:
    """The inner nodes in preorder: each before its descendants."""
    order, stack = [], [0]
    while stack:
        node = stack.pop()
        children = tree.children(node)
        if len(children):
            order.append(node)
            stack.extend(int(child) for child in children[::-1])
    return order


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
