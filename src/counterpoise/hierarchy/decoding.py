"""From edge logits to leaves and nodes: conditional softmax, roll-up, greedy and best path, back-off."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.hierarchy.tree import ClassTree, IntArray

__all__ = ["back_off", "best_path", "greedy", "leaf_log_probabilities", "node_probabilities"]

FloatArray = NDArray[np.float64]


def leaf_log_probabilities(logits: ArrayLike, tree: ClassTree) -> FloatArray:
    """Log-probabilities ``(N, C)`` from edge logits ``(N, E)``: a softmax in each inner node, multiplied down.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> np.exp(leaf_log_probabilities([[0.0, 0.0, 0.0, 0.0]], from_paths(["a/x", "a/y", "b"])))
        array([[0.25, 0.25, 0.5 ]])
    """
    edges = _edge_log_probabilities(logits, tree)
    nodes = np.zeros((len(edges), tree.num_edges + 1))
    for level in tree.levels():
        nodes[:, level] = nodes[:, tree.parents[level]] + edges[:, level.start - 1 : level.stop - 1]
    leaves: FloatArray = nodes[:, tree.leaves]
    return leaves


def _edge_log_probabilities(logits: ArrayLike, tree: ClassTree) -> FloatArray:
    z = _checked(logits, "logits", tree.num_edges)
    z = z - np.maximum.reduceat(z, tree.starts, axis=1)[:, tree.segments]
    result: FloatArray = z - np.log(np.add.reduceat(np.exp(z), tree.starts, axis=1))[:, tree.segments]
    return result


def node_probabilities(leaf_probabilities: ArrayLike, tree: ClassTree) -> FloatArray:
    """Probabilities ``(N, V)`` of all nodes from ``(N, C)`` of the leaves: a parent is the sum of its children."""
    leaves = _checked(leaf_probabilities, "leaf_probabilities", tree.num_classes)
    nodes = np.zeros((tree.num_edges + 1, len(leaves)))
    nodes[tree.leaves] = leaves.T
    for level in reversed(tree.levels()):
        np.add.at(nodes, tree.parents[level], nodes[level])
    return nodes.T


def greedy(logits: ArrayLike, tree: ClassTree) -> IntArray:
    """Class indices ``(N,)``: from the root, always to the child with the largest logit."""
    z = _checked(logits, "logits", tree.num_edges)
    node = np.zeros(len(z), dtype=np.int64)
    rows = np.arange(len(z))
    # The first edge of each node that holds its segment's maximum.
    top = z == np.maximum.reduceat(z, tree.starts, axis=1)[:, tree.segments]
    first = np.minimum.reduceat(np.where(top, np.arange(tree.num_edges), tree.num_edges), tree.starts, axis=1)
    segment = np.full(len(tree.parents), -1)
    segment[tree.parents[tree.starts + 1]] = np.arange(len(tree.starts))
    while (inner := segment[node] >= 0).any():
        node = np.where(inner, first[rows, segment[node]] + 1, node)
    classes: IntArray = _class_of(tree)[node]
    return classes


def best_path(logits: ArrayLike, tree: ClassTree) -> IntArray:
    """Class indices ``(N,)``: the leaf with the largest probability, whichever way greedy would go."""
    best: IntArray = leaf_log_probabilities(logits, tree).argmax(axis=1)
    return best


def back_off(leaf_probabilities: ArrayLike, tree: ClassTree, *, threshold: float) -> IntArray:
    """Node numbers ``(N,)``: the likeliest leaf, or its lowest ancestor that is at least ``threshold`` likely."""
    if not 0.0 <= threshold <= 1.0:
        raise ArgumentError(f"`threshold` must be in [0, 1]; got {threshold}")
    nodes = node_probabilities(leaf_probabilities, tree)
    rows = np.arange(len(nodes))
    node = tree.leaves[nodes[:, tree.leaves].argmax(axis=1)]
    while (unsure := (nodes[rows, node] < threshold) & (node > 0)).any():
        node = np.where(unsure, tree.parents[node], node)
    chosen: IntArray = node
    return chosen


def _class_of(tree: ClassTree) -> IntArray:
    classes = np.full(len(tree.parents), -1, dtype=np.int64)
    classes[tree.leaves] = np.arange(tree.num_classes)
    return classes


def _checked(values: ArrayLike, name: str, width: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != width:
        raise ArgumentError(f"`{name}` must have shape (N, {width}) for this tree; got {array.shape}")
    if np.isnan(array).any():
        raise ArgumentError(f"`{name}` row {int(np.argwhere(np.isnan(array))[0][0])} has NaN")
    return array
