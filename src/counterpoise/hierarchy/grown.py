"""Trees that the data give: from the counts, or from what a model confuses."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.hierarchy.tree import ClassTree, from_links

__all__ = ["balanced", "from_confusion"]


def balanced(counts: CountsLike, *, branching: int = 2) -> ClassTree:
    """The tree whose nodes split their images as evenly as largest-first filling finds.

    Example:
        >>> tree = balanced({"car": 60, "bus": 30, "van": 20, "tram": 10})
        >>> tree.node_counts([60, 30, 20, 10])[tree.children(0)]
        array([60, 60])
    """
    counts = ClassCounts(counts)
    if branching < 2:
        raise ArgumentError(f"`branching` must be at least 2; got {branching}")
    size = dict(zip(counts.names, counts.counts.tolist(), strict=True))
    links: dict[str, str | None] = {}
    stack: list[tuple[str, list[str]]] = [("", sorted(size, key=lambda name: -size[name]))]
    inner = 0
    while stack:
        parent, members = stack.pop()
        for part in _parts(members, size, branching):
            if len(part) == 1:
                links[part[0]] = parent
                continue
            inner += 1
            links[f"#{inner}"] = parent
            stack.append((f"#{inner}", part))
    return from_links(links, classes=counts.names)


def _parts(members: list[str], size: dict[str, int], branching: int) -> list[list[str]]:
    """Largest first, each into the lightest part; of equally light ones into the one with fewer members."""
    heap: list[tuple[int, int, int]] = [(0, 0, part) for part in range(min(branching, len(members)))]
    parts: list[list[str]] = [[] for _ in heap]
    for name in members:
        weight, length, part = heapq.heappop(heap)
        parts[part].append(name)
        heapq.heappush(heap, (weight + size[name], length + 1, part))
    return parts


def from_confusion(matrix: ArrayLike, names: Sequence[str]) -> ClassTree:
    """The binary tree that joins the most confused classes first (average linkage of the symmetrised rates).

    ``matrix`` is ``(C, C)``, rows the true classes, as `metrics.confusion_matrix`.

    Example:
        >>> tree = from_confusion([[8, 2, 0], [3, 7, 0], [0, 1, 9]], ["cat", "dog", "car"])
        >>> print(tree.draw())
        #1
          cat
          dog
        car
    """
    from scipy.cluster.hierarchy import linkage

    m = np.asarray(matrix, dtype=np.float64)
    count = len(names)
    if m.shape != (count, count) or count < 2 or not np.isfinite(m).all() or (m < 0).any():
        raise ArgumentError(
            f"`matrix` must be ({count}, {count}), at least 2 classes, finite and at least 0; got {m.shape}"
        )
    rate = m / np.maximum(m.sum(axis=1, keepdims=True), 1.0)
    distance = 2.0 - (rate + rate.T)[np.triu_indices(count, 1)]
    labels, first = list(names), list(range(count))
    links: dict[str, str | None] = {}
    for step, pair in enumerate(linkage(distance, "average")[:, :2].astype(int), start=1):
        i, j = sorted(pair, key=first.__getitem__)  # siblings stand in the order of the classes
        labels.append("" if step == count - 1 else f"#{step}")
        first.append(first[i])
        links[labels[i]] = links[labels[j]] = labels[-1]
    return from_links(links, classes=names)
