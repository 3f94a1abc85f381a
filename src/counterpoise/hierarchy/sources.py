"""Class trees from nested folders, from YAML, JSON and CSV files, from class counts, and from a confusion matrix."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from counterpoise.core.checks import checked_count
from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.core.tables import read_csv
from counterpoise.hierarchy.tree import ClassTree, from_links

__all__ = ["balanced", "from_confusion", "from_csv", "from_json", "from_paths", "from_yaml"]

Source = str | Path | Mapping[str, Any]


def from_paths(classes: Sequence[str], *, separator: str = "/") -> ClassTree:
    """Build the tree of nested folders: class ``animal/dog`` is below ``animal``.

    Args:
        classes: C class names; the tree keeps their order.
        separator: what separates the folders in a name.

    Raises:
        ArgumentError: a name with an empty folder, or a class that is above another class.

    Example:
        >>> from_paths(["animal/dog", "car", "animal/cat"]).names
        ('', 'animal', 'car', 'animal/dog', 'animal/cat')
    """
    links: dict[str, str | None] = {}
    for name in classes:
        parts = name.split(separator)
        if not all(parts):
            raise ArgumentError(f"`classes` must not have empty folder names; got {name!r}")
        for end in range(1, len(parts) + 1):
            links[separator.join(parts[:end])] = separator.join(parts[: end - 1])
    return from_links(links, classes=classes)


def from_csv(path: str | Path, *, classes: Sequence[str] | None = None) -> ClassTree:
    """Read the tree from a CSV file with the columns ``child,parent``; an empty parent is the root.

    Every inner node needs a line: ``dog,animal`` and ``animal,``.

    Args:
        path: the file.
        classes: C class names in the order of the model's head; None for the leaves, breadth first.

    Raises:
        ArgumentError: the file cannot be read as CSV (the line is named), a column is missing, or the tree is invalid
            (see `from_links`).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "tree.csv").write_text("child,parent\\nanimal,\\ndog,animal\\ncat,animal\\n")
        ...     print(from_csv(Path(folder, "tree.csv")).classes)
        ('dog', 'cat')
    """
    columns = read_csv(Path(path), ("child", "parent"), error=ArgumentError).columns
    return from_links(_once(zip(columns["child"], columns["parent"], strict=True)), classes=classes)


def from_json(source: Source, *, classes: Sequence[str] | None = None) -> ClassTree:
    """Read the tree from a JSON file or a mapping such as ``{"animal": ["dog", "cat"], "car": null}``.

    Args:
        source: the file, or nested mappings, lists and names.
        classes: C class names in the order of the model's head; None for the leaves, breadth first.

    Raises:
        ArgumentError: the file is not JSON, a key is repeated, or the tree is invalid (see `from_links`).

    Example:
        >>> from_json({"animal": ["dog", "cat"], "car": None}).classes
        ('car', 'dog', 'cat')
    """
    if isinstance(source, (str, Path)):
        try:
            source = json.loads(Path(source).read_text("utf-8"), object_pairs_hook=_unique)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ArgumentError(f"{Path(str(source)).name} must be a JSON file: {error}") from error
    return from_links(_once(_nested(source)), classes=classes)


def from_yaml(source: Source, *, classes: Sequence[str] | None = None) -> ClassTree:
    """Read the tree from a YAML file or a mapping; arguments and errors as `from_json`.

    Example:
        >>> from_yaml({"animal": ["dog", "cat"], "car": None}).classes
        ('car', 'dog', 'cat')
    """
    if not isinstance(source, (str, Path)):
        return from_json(source, classes=classes)
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            return _unique(
                [(self.construct_object(k, deep=True), self.construct_object(v, deep=True)) for k, v in node.value]
            )

    Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node))
    try:
        nested = yaml.load(Path(source).read_text("utf-8"), Loader)
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ArgumentError(f"{Path(source).name} must be a YAML file: {' '.join(str(error).split())}") from error
    return from_json(nested, classes=classes)


def balanced(counts: CountsLike, *, branching: int = 2) -> ClassTree:
    """Build the tree whose nodes split their images as evenly as a greedy assignment, largest class first, finds.

    Args:
        counts: training images per class.
        branching: number of children of a node, at least 2.

    Raises:
        ArgumentError: ``branching`` is less than 2.

    Example:
        >>> tree = balanced({"car": 60, "bus": 30, "van": 20, "tram": 10})
        >>> tree.node_counts([60, 30, 20, 10])[tree.children(0)]
        array([60, 60])
    """
    counts = ClassCounts(counts)
    checked_count("branching", branching, minimum=2)
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
    """Assign each class, largest first, to the part with the fewest images; if equal, with the fewest classes."""
    heap: list[tuple[int, int, int]] = [(0, 0, part) for part in range(min(branching, len(members)))]
    parts: list[list[str]] = [[] for _ in heap]
    for name in members:
        weight, length, part = heapq.heappop(heap)
        parts[part].append(name)
        heapq.heappush(heap, (weight + size[name], length + 1, part))
    return parts


def from_confusion(matrix: ArrayLike, names: Sequence[str]) -> ClassTree:
    """Build the binary tree that joins the most confused classes first: average linkage of the symmetrised rates.

    Args:
        matrix: ``(C, C)`` counts, rows the true classes, as `counterpoise.metrics.confusion_matrix` returns.
        names: C class names.

    Raises:
        ArgumentError: a matrix of another shape, with negative or infinite entries, or fewer than two classes.

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
            f"`matrix` must be finite, at least 0 and of shape ({count}, {count}) for 2 classes or more; got {m.shape}"
        )
    rate = m / np.maximum(m.sum(axis=1, keepdims=True), 1.0)
    distance = 2.0 - (rate + rate.T)[np.triu_indices(count, 1)]
    labels, first = list(names), list(range(count))
    links: dict[str, str | None] = {}
    for step, pair in enumerate(linkage(distance, "average")[:, :2].astype(int), start=1):
        i, j = sorted(pair, key=first.__getitem__)  # siblings are in the order of the classes
        labels.append("" if step == count - 1 else f"#{step}")
        first.append(first[i])
        links[labels[i]] = links[labels[j]] = labels[-1]
    return from_links(links, classes=names)


def _unique(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ArgumentError(f"`source` has the key {key!r} twice; merge the two entries")
        found[key] = value
    return found


def _once(pairs: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    links: dict[str, str | None] = {}
    for child, parent in pairs:
        if child in links:
            raise ArgumentError(f"{child!r} has two parents, {links[child]!r} and {parent!r}; a tree allows one")
        links[child] = parent
    return links


def _nested(source: Any) -> list[tuple[str, str]]:
    pairs, stack = [], [("", source)]
    while stack:
        parent, value = stack.pop()
        if not isinstance(value, (Mapping, list, tuple, str, type(None))):
            raise ArgumentError(f"`source` must nest mappings, lists and names; got {value!r} below {parent!r}")
        below = value.items() if isinstance(value, Mapping) else _listed(value)
        for child, inside in below:
            pairs.append((str(child), parent))
            stack.append((str(child), inside))
    return pairs


def _listed(value: Any) -> list[tuple[Any, Any]]:
    entries = [value] if isinstance(value, str) else value or []
    return [pair for entry in entries for pair in (entry.items() if isinstance(entry, Mapping) else [(entry, None)])]
