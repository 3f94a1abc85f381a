"""Predictions from the edge logits of a class tree: log-probabilities of leaves and nodes, and decoding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.checks import checked_number
from counterpoise.core.errors import ArgumentError
from counterpoise.hierarchy.tree import ClassTree, IntArray

FloatArray = NDArray[np.float64]


def leaf_log_probabilities(logits: ArrayLike, tree: ClassTree) -> FloatArray:
    """Compute leaf log-probabilities from edge logits: the sum of the conditional log-probabilities along each path.

    Args:
        logits: ``(N, E)``, one per edge of the tree; each inner node has a softmax over its children.
        tree: the class tree.

    Returns:
        float64 ``(N, C)``, in the order of ``tree.classes``.

    Raises:
        ArgumentError: another shape, or NaN (the row is named).

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> np.exp(leaf_log_probabilities([[0.0, 0.0, 0.0, 0.0]], from_paths(["a/x", "a/y", "b"])))
        array([[0.25, 0.25, 0.5 ]])
    """
    edges = edge_log_probabilities(_checked(logits, "logits", tree.num_edges), tree)
    nodes = np.zeros((len(edges), tree.num_edges + 1))
    for level in tree.levels():
        nodes[:, level] = nodes[:, tree.parents[level]] + edges[:, level.start - 1 : level.stop - 1]
    leaves: FloatArray = nodes[:, tree.leaves]
    return leaves


def edge_log_probabilities(z: FloatArray, tree: ClassTree) -> FloatArray:
    """The log-softmax of a NumPy array ``(N, E)`` over the children of each inner node."""
    z = z - np.maximum.reduceat(z, tree.starts, axis=1)[:, tree.segments]
    result: FloatArray = z - np.log(np.add.reduceat(np.exp(z), tree.starts, axis=1))[:, tree.segments]
    return result


def segment_log_softmax(z: Any, segments: Any, count: int) -> Any:
    """The same of a torch tensor ``(N, E)``, by methods of the tensor, so that this module imports no torch.

    Args:
        z: floating-point tensor ``(N, E)``.
        segments: int64 tensor ``(E,)``, `ClassTree.segments` on the device of ``z``.
        count: number of inner nodes.
    """
    top = z.new_full((z.shape[0], count), -math.inf).scatter_reduce(1, segments.expand_as(z), z.detach(), "amax")
    shifted = z - top[:, segments]
    total = z.new_zeros(z.shape[0], count).index_add(1, segments, shifted.exp())
    return shifted - total.log()[:, segments]


def node_probabilities(leaf_probabilities: ArrayLike, tree: ClassTree) -> FloatArray:
    """Compute the probabilities of all nodes: the probability of a parent is the sum over its children.

    Args:
        leaf_probabilities: ``(N, C)``, in the order of ``tree.classes``.
        tree: the class tree.

    Returns:
        float64 ``(N, V)``.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> node_probabilities([[0.3, 0.2, 0.5]], from_paths(["a/x", "a/y", "b"]))
        array([[1. , 0.5, 0.5, 0.3, 0.2]])
    """
    leaves = _checked(leaf_probabilities, "leaf_probabilities", tree.num_classes)
    nodes = np.zeros((tree.num_edges + 1, len(leaves)))
    nodes[tree.leaves] = leaves.T
    for level in reversed(tree.levels()):
        np.add.at(nodes, tree.parents[level], nodes[level])
    return nodes.T


def greedy(logits: ArrayLike, tree: ClassTree) -> IntArray:
    """Predict by going from the root to the child with the largest logit, until a leaf.

    Args:
        logits: ``(N, E)`` edge logits.
        tree: the class tree.

    Returns:
        int64 ``(N,)`` class indices.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> greedy([[1.0, 0.9, 0.0, 0.1]], from_paths(["a/x", "a/y", "b"]))  # a, then a/y
        array([1])
    """
    z = _checked(logits, "logits", tree.num_edges)
    node = np.zeros(len(z), dtype=np.int64)
    rows = np.arange(len(z))
    # The first edge of each inner node that has the largest logit of its siblings.
    top = z == np.maximum.reduceat(z, tree.starts, axis=1)[:, tree.segments]
    first = np.minimum.reduceat(np.where(top, np.arange(tree.num_edges), tree.num_edges), tree.starts, axis=1)
    segment = np.full(len(tree.parents), -1)
    segment[tree.parents[tree.starts + 1]] = np.arange(len(tree.starts))
    while (inner := segment[node] >= 0).any():
        node = np.where(inner, first[rows, segment[node]] + 1, node)
    class_of = np.full(len(tree.parents), -1, dtype=np.int64)
    class_of[tree.leaves] = np.arange(tree.num_classes)
    classes: IntArray = class_of[node]
    return classes


def best_path(logits: ArrayLike, tree: ClassTree) -> IntArray:
    """Predict the leaf with the largest probability, int64 ``(N,)``; arguments as `greedy`.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> best_path([[1.0, 0.9, 0.0, 0.1]], from_paths(["a/x", "a/y", "b"]))  # b: 0.48 against 0.28
        array([2])
    """
    best: IntArray = leaf_log_probabilities(logits, tree).argmax(axis=1)
    return best


def back_off(leaf_probabilities: ArrayLike, tree: ClassTree, *, threshold: float) -> IntArray:
    """Predict the most probable leaf, or its lowest ancestor with a probability of at least ``threshold``.

    Args:
        leaf_probabilities: ``(N, C)``, in the order of ``tree.classes``.
        tree: the class tree.
        threshold: in [0, 1].

    Returns:
        int64 ``(N,)`` node numbers; ``tree.names`` has their names.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> tree = from_paths(["a/x", "a/y", "b"])
        >>> [tree.names[node] for node in back_off([[0.4, 0.3, 0.3]], tree, threshold=0.5)]
        ['a']
    """
    checked_number("threshold", threshold, minimum=0.0, maximum=1.0)
    nodes = node_probabilities(leaf_probabilities, tree)
    rows = np.arange(len(nodes))
    node = tree.leaves[nodes[:, tree.leaves].argmax(axis=1)]
    while (uncertain := (nodes[rows, node] < threshold) & (node > 0)).any():
        node = np.where(uncertain, tree.parents[node], node)
    chosen: IntArray = node
    return chosen


def _checked(values: ArrayLike, name: str, width: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != width:
        raise ArgumentError(f"`{name}` must have shape (N, {width}) for this tree; got {array.shape}")
    if np.isnan(array).any():
        raise ArgumentError(f"`{name}` must not be NaN; row {int(np.argwhere(np.isnan(array))[0][0])} has NaN")
    return array
