"""Class trees from nested folders, from YAML, JSON and CSV files, from class counts, and from a confusion matrix."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.checks import checked_count
from counterpoise.core.confusion import ConfusionMatrix, cells_of
from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.core.files import distinct_keys, read_json
from counterpoise.core.tables import read_csv
from counterpoise.hierarchy.tree import ClassTree, from_links

Source = str | Path | Mapping[str, Any]

_MAX_BYTES = 1 << 22
_MAX_DEPTH = 300
_NULL = ("", "~", "null", "Null", "NULL")
_NUMBER_OR_BOOLEAN = re.compile(r"[-+]?\.?[0-9][0-9a-fox_.]*(e[-+]?[0-9]+)?|[-+]?\.(inf|nan)|true|false", re.IGNORECASE)


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
    _expect_leaves(classes, set(links.values()), separator)
    return from_links(links, classes=classes)


def _expect_leaves(classes: Sequence[str], inner: Set[str | None], separator: str) -> None:
    """Raise for the first class that is above other classes, and say how both can be in a tree."""
    above = next((name for name in classes if name in inner), None)
    if above is None:
        return
    below = [name for name in classes if name.startswith(above + separator)]
    together = ", ".join([above, *below[:5]]) + ", …" * (len(below) > 5)
    raise ArgumentError(
        f"`classes` {above!r} must be a leaf, as only leaves can have images, but {below[0]!r} is below it; move the "
        f"images of {above!r} into a folder of their own, such as {above}{separator}other, or use a tree in a YAML "
        f"file (`tree`) with all of them as leaves: any {above}: [{together}]"
    )


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
    return _tree(path, zip(columns["child"], columns["parent"], strict=True), classes)


def from_json(source: Source, *, classes: Sequence[str] | None = None) -> ClassTree:
    """Read the tree from a JSON file or a mapping such as ``{"animal": ["dog", "cat"], "car": null}``.

    Args:
        source: the file, or nested mappings, lists and names.
        classes: C class names in the order of the model's head; None for the leaves, breadth first.

    Raises:
        ArgumentError: the file cannot be read, is not JSON or holds no mapping or list, a key is repeated, a name is
            not a string or an integer, or the tree is invalid (see `from_links`).

    Example:
        >>> from_json({"animal": ["dog", "cat"], "car": None}).classes
        ('car', 'dog', 'cat')
    """
    return _tree(source, _read(source, read_json), classes)


def from_yaml(source: Source, *, classes: Sequence[str] | None = None) -> ClassTree:
    """Read the tree from a YAML file or a mapping; arguments and errors as `from_json`.

    Every name is the text in the file, such as ``no`` or ``007``; a node whose value is empty, ``~`` or ``null`` is a
    leaf. Aliases, tags and files above 4 MiB are errors.

    Example:
        >>> from_yaml({"animal": ["dog", "cat"], "car": None}).classes
        ('car', 'dog', 'cat')
    """
    return _tree(source, _read(source, _read_yaml), classes)


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


def from_confusion(matrix: ArrayLike | ConfusionMatrix, names: Sequence[str]) -> ClassTree:
    """Build the binary tree that joins the most confused classes first: average linkage of the symmetrised rates.

    Args:
        matrix: ``(C, C)`` counts, rows the true classes, as `counterpoise.metrics.confusion_matrix` returns; or
            ``evaluation.confusion``.
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

    count = len(names)
    m = matrix if isinstance(matrix, ConfusionMatrix) else np.asarray(matrix, dtype=np.float64)
    values = m.counts if isinstance(m, ConfusionMatrix) else m
    if m.shape != (count, count) or count < 2 or not np.isfinite(values).all() or (values < 0).any():
        raise ArgumentError(
            f"`matrix` must be finite, at least 0 and of shape ({count}, {count}) for 2 classes or more; got {m.shape}"
        )
    distance = _distances(m)
    labels, first = list(names), list(range(count))
    links: dict[str, str | None] = {}
    for step, pair in enumerate(linkage(distance, "average")[:, :2].astype(int), start=1):
        i, j = sorted(pair, key=first.__getitem__)  # siblings are in the order of the classes
        labels.append("" if step == count - 1 else f"#{step}")
        first.append(first[i])
        links[labels[i]] = links[labels[j]] = labels[-1]
    return from_links(links, classes=names)


def _distances(matrix: ConfusionMatrix | NDArray[np.float64]) -> NDArray[np.float64]:
    """2 minus the rates of confusion in both directions for each pair of classes, in SciPy's condensed form."""
    labels, predictions, counts, size = cells_of(matrix)
    total = np.bincount(labels, counts, size) if isinstance(matrix, ConfusionMatrix) else matrix.sum(axis=1)
    rate = counts / np.maximum(total, 1.0)[labels]
    wrong = labels != predictions
    i, j = np.minimum(labels, predictions)[wrong], np.maximum(labels, predictions)[wrong]
    pairs = np.bincount(i * size - i * (i + 3) // 2 + j - 1, rate[wrong], size * (size - 1) // 2)
    return np.asarray(2.0 - pairs, dtype=np.float64)


def _tree(source: Source, pairs: Iterable[tuple[str, str]], classes: Sequence[str] | None) -> ClassTree:
    """The tree of these (child, parent) pairs; an error names the file, if they come from one."""
    try:
        return from_links(_once(pairs), classes=classes)
    except ArgumentError as error:
        if isinstance(source, (str, Path)):
            raise ArgumentError(f"{source}: {error}") from error
        raise


def _read(source: Source, read: Callable[[str | Path], Any]) -> list[tuple[str, str]]:
    """The (child, parent) pairs in a mapping or a file, which must hold a mapping or a list."""
    if not isinstance(source, (str, Path)):
        return _nested(source)
    try:
        nested = read(source)
    except ArtifactError as error:
        raise ArgumentError(str(error)) from error
    if not isinstance(nested, (dict, list)):
        raise ArgumentError(f"{source} must hold a mapping, as in {{animal: [dog, cat]}}; got {nested!r:.80}")
    try:
        return _nested(nested)
    except ArgumentError as error:
        raise ArgumentError(f"{source}: {error}") from error


def _read_yaml(path: str | Path) -> Any:
    """Read the mappings, lists and strings of a YAML file; raises `ArtifactError` as `read_json` does."""
    import yaml

    try:
        if Path(path).stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES:,} bytes; use a JSON or CSV file")
        # The parser of libyaml is ten times as fast as the one in Python, which is there without it.
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        return _document(yaml.parse(Path(path).read_text("utf-8"), loader))
    except (OSError, ValueError, OverflowError, yaml.YAMLError) as error:  # OverflowError: the escape "\UFFFFFFFF"
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ArtifactError(f"{path} cannot be read as YAML: {reason}") from error


def _document(events: Iterable[Any]) -> Any:
    """The only document of a YAML file: every name is a string, and there are no aliases, which can stand for any size.

    Raises:
        yaml.YAMLError: with the line.
        ValueError: a mapping has a key twice.
    """
    import yaml

    documents: list[Any] = []
    stack = [(documents, False)]
    for event in events:
        items, is_mapping = stack[-1]
        is_key = is_mapping and len(items) % 2 == 0
        if isinstance(event, yaml.NodeEvent):
            _check_node(event, is_key=is_key, depth=len(stack))
        if isinstance(event, yaml.ScalarEvent):
            is_plain_value = is_mapping and not is_key and not event.style
            items.append(_plain_value(event) if is_plain_value else event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            stack.append(([], isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
            stack[-1][0].append(distinct_keys(list(zip(items[::2], items[1::2], strict=True))) if is_mapping else items)
    if len(documents) > 1:
        raise yaml.YAMLError("it must hold a single document; write one file per tree")
    return documents[0] if documents else None


def _check_node(event: Any, *, is_key: bool, depth: int) -> None:
    """Raise for the parts of YAML that a tree does not have."""
    import yaml

    problem = ""
    if isinstance(event, yaml.AliasEvent) or event.tag:
        problem = "a tree has no aliases and no tags; write the names out"
    elif is_key and not isinstance(event, yaml.ScalarEvent):
        problem = "expected a scalar as a name"
    elif depth > _MAX_DEPTH:
        problem = "it nests too deeply; use a CSV file"
    if problem:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _plain_value(event: Any) -> str | None:
    """The value of a key that is a name, or nothing."""
    import yaml

    if _NUMBER_OR_BOOLEAN.fullmatch(event.value):
        number = f"{event.value:.80}"
        problem = f"{number} is not a name; write [{number}] if it is one"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
    return None if event.value in _NULL else str(event.value)


def _once(pairs: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    links: dict[str, str | None] = {}
    for child, parent in pairs:
        if child in links and links[child] == parent:
            raise ArgumentError(f"{child!r} is twice below {parent!r}; remove one of the two")
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
            if isinstance(child, bool) or not isinstance(child, (str, Integral)):
                kind = type(child).__name__
                raise ArgumentError(f"`source` must have strings as names; got {kind} below {parent!r}; quote it")
            pairs.append((str(child), parent))
            stack.append((str(child), inside))
    return pairs


def _listed(value: Any) -> list[tuple[Any, Any]]:
    entries = [value] if isinstance(value, str) else value or []
    return [pair for entry in entries for pair in (entry.items() if isinstance(entry, Mapping) else [(entry, None)])]
