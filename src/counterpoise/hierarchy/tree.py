"""The class tree. Nodes are numbered breadth first, so the children of a node are adjacent."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.core.text import listed

IntArray = NDArray[np.int64]
_MOST_COMPARED, _MOST_LEAVES = 5, 10_000


def from_links(links: Mapping[str, str | None], *, classes: Sequence[str] | None = None) -> ClassTree:
    """Build the tree from ``{child: parent}`` links.

    Args:
        links: the parent of each node; ``None`` or ``""`` is the root. If exactly one parent has no link itself and
            nothing else is below the root, it is the root.
        classes: C class names in the order of the model's head; None for the leaves, breadth first.

    Raises:
        ArgumentError: a cycle (with its path), an unknown parent, a class without a leaf, a leaf without a class, or a
            class that is an inner node.

    Example:
        >>> links = {"dog": "animal", "cat": "animal", "animal": None, "car": None}
        >>> tree = from_links(links, classes=["car", "cat", "dog"])
        >>> [tree.names[node] for node in tree.leaves]
        ['car', 'cat', 'dog']
    """
    parent = _parents(links)
    below: dict[str, list[str]] = {}
    for child, above in parent.items():
        below.setdefault(above, []).append(child)
    names, parents = [""], [-1]
    for index, name in enumerate(names):  # the list grows during the loop: breadth first
        for child in below.get(name, ()):
            names.append(child)
            parents.append(index)
    if len(names) <= len(
        parent
    ):  # every parent is known, so a node that the root does not reach is on or below a cycle
        raise ArgumentError(f"`links` has a cycle: {' -> '.join(_cycle(parent, set(names)))}")
    return _with_classes(tuple(names), np.array(parents, dtype=np.int64), classes)


def _cycle(parent: Mapping[str, str], reached: set[str]) -> list[str]:
    """The first cycle, from child to parent."""
    node, path = next(child for child in parent if child not in reached), dict[str, None]()
    while node not in path:
        path[node] = None
        node = parent[node]
    nodes = list(path)
    return [*nodes[nodes.index(node) :], node]


def _parents(links: Mapping[str, str | None]) -> dict[str, str]:
    """The parent of every node; the root is the empty name."""
    if not links:
        raise ArgumentError("`links` must hold at least one child; got none")
    parent = {child: above or "" for child, above in links.items()}
    if "" in parent:
        raise ArgumentError("`links` has a child without a name; the empty name is the root's")
    unknown = sorted({above for above in parent.values() if above and above not in parent})
    if len(unknown) == 1 and "" not in parent.values():
        parent = {child: "" if above == unknown[0] else above for child, above in parent.items()}
    elif unknown:
        raise ArgumentError(
            f"`links` has unknown parents {listed(unknown)}; give each a link to its parent, or None for the root"
        )
    return parent


def _with_classes(names: tuple[str, ...], parents: IntArray, classes: Sequence[str] | None) -> ClassTree:
    inner = np.zeros(len(names), dtype=bool)
    inner[parents[1:]] = True
    if classes is None:
        return ClassTree(names, parents, np.flatnonzero(~inner))
    where = {name: index for index, name in enumerate(names) if index}
    if len(set(classes)) != len(classes):
        raise ArgumentError("`classes` must be distinct; each class is one leaf")
    missing = [name for name in classes if name not in where]
    if missing:
        advice = _likely_misspelt(missing, {names[node] for node in np.flatnonzero(~inner)} - set(classes))
        raise ArgumentError(f"`classes` {listed(missing)} must be in the tree; {advice}")
    full = [name for name in classes if inner[where[name]]]
    if full:
        raise ArgumentError(
            f"`classes` {listed(full)} must be leaves, as only leaves can have images; they are inner nodes"
        )
    empty = sorted({names[node] for node in np.flatnonzero(~inner)} - set(classes))
    if empty:
        advice = "remove them or add the classes; `keep_empty_classes=True` keeps a class that has no images"
        raise ArgumentError(f"`classes` lacks the leaves {listed(empty)} of the tree; {advice}")
    return ClassTree(names, parents, np.array([where[name] for name in classes], dtype=np.int64))


def _likely_misspelt(missing: Sequence[str], leaves: Set[str]) -> str:
    """What to do about classes that are not in a tree: leaves without a class may be their names, misspelt."""
    alike = {}
    for name in missing[:_MOST_COMPARED]:
        for leaf in difflib.get_close_matches(name, sorted(leaves)[:_MOST_LEAVES], n=1, cutoff=0.75):
            alike[leaf] = name
    if not alike:
        return "add a link to the parent of each"
    pairs = ", ".join(f"{leaf!r} where the class is {name!r}" for leaf, name in alike.items())
    return f"it has {pairs}; write each name as the class is called"


@dataclass(frozen=True, eq=False)
class ClassTree:
    """A tree of V nodes over C classes; built by `from_links` and the other ``from_`` functions.

    Node 0 is the root, named ``""``. Node ``e + 1`` is the lower end of edge ``e``, so a head has E = V − 1 logits.

    Attributes:
        names: ``V`` node names.
        parents: int64 ``(V,)``, the parent of each node, always a smaller number; −1 for the root.
        leaves: int64 ``(C,)``, the node of each class, in the order of the model's head.
        depth: int64 ``(V,)``, the number of edges above each node.
        starts: int64 ``(I,)``, the first edge of each inner node.
        segments: int64 ``(E,)``, the inner node, numbered in the order of ``starts``, in which each edge starts.

    Example:
        >>> from counterpoise.hierarchy import from_paths
        >>> tree = from_paths(["animal/dog", "animal/cat", "car"])
        >>> tree.num_classes, tree.num_edges
        (3, 4)
        >>> print(tree.draw())
        animal
          animal/dog
          animal/cat
        car
    """

    names: tuple[str, ...]
    parents: IntArray
    leaves: IntArray
    depth: IntArray
    starts: IntArray
    segments: IntArray

    def __init__(self, names: tuple[str, ...], parents: IntArray, leaves: IntArray) -> None:
        depth = np.zeros(len(parents), dtype=np.int64)
        for node, above in enumerate(parents.tolist()[1:], start=1):
            depth[node] = depth[above] + 1
        new = np.diff(parents[1:], prepend=-1) != 0
        arrays = {"parents": parents, "leaves": leaves, "depth": depth}
        arrays |= {"starts": np.flatnonzero(new), "segments": np.cumsum(new) - 1}
        object.__setattr__(self, "names", names)
        for name, array in arrays.items():
            kept = array.astype(np.int64)
            kept.setflags(write=False)
            object.__setattr__(self, name, kept)

    @property
    def num_classes(self) -> int:
        """The number of leaves, C."""
        return len(self.leaves)

    @property
    def num_edges(self) -> int:
        """The number of edges, E: the width of a head."""
        return len(self.parents) - 1

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the model's head."""
        return tuple(self.names[node] for node in self.leaves)

    @cached_property
    def paths(self) -> IntArray:
        """The edges from each class up to the root, int64 ``(C, D)``; padded with E where a path is shorter."""
        node = self.leaves
        columns = []
        while (node > 0).any():
            columns.append(np.where(node > 0, node - 1, self.num_edges))
            node = np.where(node > 0, self.parents[node], 0)
        return np.stack(columns, axis=1)

    def children(self, node: int) -> IntArray:
        """The child nodes of ``node``; empty for a leaf."""
        low, high = np.searchsorted(self.parents, [node, node + 1])
        return np.arange(low, high)

    def ancestors(self, node: int) -> IntArray:
        """The nodes from ``node`` up to the root, without the root."""
        path = []
        while node > 0:
            path.append(node)
            node = int(self.parents[node])
        return np.array(path, dtype=np.int64)

    def levels(self) -> list[slice]:
        """The nodes of depth 1, 2, …, one slice per depth."""
        edges = np.searchsorted(self.depth, np.arange(1, self.depth[-1] + 2)).tolist()
        return [slice(low, high) for low, high in zip(edges, [*edges[1:], len(self.depth)], strict=True) if high > low]

    def common_ancestor(self, a: Any, b: Any) -> IntArray:
        """The lowest common ancestors of nodes ``a`` and ``b``, elementwise."""
        a, b = (np.array(x, dtype=np.int64) for x in np.broadcast_arrays(a, b))
        while (apart := a != b).any():
            # An ancestor has a smaller number, so the larger of two is not an ancestor of the other.
            a, b = np.where(apart & (a > b), self.parents[a], a), np.where(apart & (b > a), self.parents[b], b)
        common: IntArray = a
        return common

    def distance(self, a: Any, b: Any) -> IntArray:
        """The number of edges between nodes ``a`` and ``b``, elementwise."""
        distance: IntArray = self.depth[a] + self.depth[b] - 2 * self.depth[self.common_ancestor(a, b)]
        return distance

    def node_counts(self, counts: Any) -> IntArray:
        """Images below each node, ``(V,)``, from the ``(C,)`` counts of the classes."""
        array = np.asarray(counts)
        if array.shape != (self.num_classes,):
            raise ArgumentError(f"`counts` must have shape ({self.num_classes},); got {array.shape}")
        total = np.zeros(len(self.parents), dtype=np.int64)
        total[self.leaves] = array
        for level in reversed(self.levels()):
            np.add.at(total, self.parents[level], total[level])
        return total

    def to_dict(self) -> dict[str, Any]:
        """The tree as JSON-compatible data, which `from_dict` reads."""
        links = [[name, self.names[above]] for name, above in zip(self.names[1:], self.parents[1:], strict=True)]
        return {"links": links, "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ClassTree:
        """Build the tree from the result of `to_dict`."""
        return from_links(dict(data["links"]), classes=data["classes"])

    def draw(self) -> str:
        """The tree as text: one line per node, indented by depth."""
        lines, stack = [], [*self.children(0)[::-1]]
        while stack:
            node = stack.pop()
            lines.append("  " * (int(self.depth[node]) - 1) + self.names[node])
            stack.extend(self.children(node)[::-1])
        return "\n".join(lines)
