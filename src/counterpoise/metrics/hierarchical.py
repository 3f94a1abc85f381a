"""Metrics of predicted classes that use the class tree: hierarchical F1, accuracy per level, tree distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from counterpoise.hierarchy.tree import ClassTree
from counterpoise.metrics.tally import FloatArray, IntArray, checked_pair, num_classes_of


def hierarchical_precision(labels: ArrayLike, predictions: ArrayLike, *, tree: ClassTree) -> float:
    """Ancestors shared by label and prediction over the ancestors of the predictions, both summed over the images.

    A class counts as its own ancestor and the root does not count.

    Args:
        labels: ``(N,)`` class indices in the order of ``tree.classes``.
        predictions: ``(N,)`` predicted class indices.
        tree: the class tree.

    Returns:
        A number in [0, 1]; NaN without images.

    Raises:
        ArgumentError: the shapes differ, or an index is not a class of the tree.

    Reference: Kiritchenko et al., Learning and Evaluation in the Presence of Class Hierarchies, Canadian AI 2006.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> hierarchical_precision([0, 2], [2, 2], tree=from_paths(["a/x", "a/y", "b"]))
        0.5
    """
    _, predicted, shared = _depths(labels, predictions, tree)
    return _ratio(shared.sum(), predicted.sum())


def hierarchical_recall(labels: ArrayLike, predictions: ArrayLike, *, tree: ClassTree) -> float:
    """Shared ancestors over the ancestors of the labels; arguments and errors as `hierarchical_precision`.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> hierarchical_recall([0, 2], [2, 2], tree=from_paths(["a/x", "a/y", "b"]))
        0.3333333333333333
    """
    true, _, shared = _depths(labels, predictions, tree)
    return _ratio(shared.sum(), true.sum())


def hierarchical_f1(labels: ArrayLike, predictions: ArrayLike, *, tree: ClassTree) -> float:
    """The harmonic mean of `hierarchical_precision` and `hierarchical_recall`; same arguments and errors.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> hierarchical_f1([0, 2], [1, 2], tree=from_paths(["a/x", "a/y", "b"]))  # 2 of 3 both ways
        0.6666666666666666
    """
    true, predicted, shared = _depths(labels, predictions, tree)
    return _ratio(2 * shared.sum(), true.sum() + predicted.sum())


def level_accuracy(labels: ArrayLike, predictions: ArrayLike, *, tree: ClassTree) -> FloatArray:
    """The accuracy at level 1, 2, …, over the images whose class is at least that deep; float64 ``(levels,)``.

    Arguments and errors are those of `hierarchical_precision`.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> level_accuracy([0, 1, 2], [0, 0, 2], tree=from_paths(["a/x", "a/y", "b"]))
        array([1. , 0.5])
    """
    true, _, shared = _depths(labels, predictions, tree)
    levels = range(1, int(tree.depth[-1]) + 1)
    return np.array([_ratio((shared >= level).sum(), (true >= level).sum()) for level in levels])


def error_by_level(labels: ArrayLike, predictions: ArrayLike, *, tree: ClassTree) -> FloatArray:
    """The share of first errors at level 1, 2, …: of the images that are correct above and whose class is that deep.

    Arguments and errors are those of `hierarchical_precision`; returns float64 ``(levels,)``.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> error_by_level([0, 1, 2], [0, 0, 0], tree=from_paths(["a/x", "a/y", "b"])).round(2)
        array([0.33, 0.5 ])
    """
    true, _, shared = _depths(labels, predictions, tree)
    rates = []
    for level in range(1, int(tree.depth[-1]) + 1):
        alive = (true >= level) & (shared >= level - 1)
        rates.append(_ratio((alive & (shared < level)).sum(), alive.sum()))
    return np.array(rates)


def mean_tree_distance(labels: ArrayLike, predictions: ArrayLike, *, tree: ClassTree) -> float:
    """The mean number of edges between label and prediction, over the errors; NaN without an error.

    Arguments and errors are those of `hierarchical_precision`.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> mean_tree_distance([0, 0, 2], [1, 2, 2], tree=from_paths(["a/x", "a/y", "b"]))
        2.5
    """
    true, predicted, shared = _depths(labels, predictions, tree)
    distance = true + predicted - 2 * shared
    return _ratio(distance.sum(), (distance > 0).sum())


def _depths(labels: ArrayLike, predictions: ArrayLike, tree: ClassTree) -> tuple[IntArray, IntArray, IntArray]:
    """The depths of each label, of each prediction, and of their lowest common ancestor."""
    a, b = checked_pair(labels, predictions)
    num_classes_of(tree.num_classes, a, b)
    true, predicted = tree.leaves[a], tree.leaves[b]
    return tree.depth[true], tree.depth[predicted], tree.depth[tree.common_ancestor(true, predicted)]


def _ratio(over: float, under: float) -> float:
    return float(over / under) if under else float("nan")
