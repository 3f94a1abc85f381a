"""Trees that someone wrote down: nested folders, YAML, JSON, CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from counterpoise.core.errors import ArgumentError
from counterpoise.hierarchy.tree import ClassTree, from_links

__all__ = ["from_csv", "from_json", "from_paths", "from_yaml"]

Source = str | Path | Mapping[str, Any]


def from_paths(classes: Sequence[str], *, separator: str = "/") -> ClassTree:
    """The tree of nested folders: class ``animal/dog`` is below ``animal``. The classes keep their order.

    Example:
        >>> from_paths(["animal/dog", "car", "animal/cat"]).names
        ('', 'animal', 'car', 'animal/dog', 'animal/cat')
    """
    links: dict[str, str | None] = {}
    for name in classes:
        parts = name.split(separator)
        if not all(parts):
            raise ArgumentError(f"`classes` has {name!r} with an empty folder name")
        for end in range(1, len(parts) + 1):
            links[separator.join(parts[:end])] = separator.join(parts[: end - 1])
    return from_links(links, classes=classes)


def from_csv(path: str | Path, *, classes: Sequence[str] | None = None) -> ClassTree:
    """The tree of a CSV file with the columns ``child,parent``; an empty parent is the root.

    Every inner node has a line of its own: ``dog,animal`` and ``animal,``.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"child", "parent"} <= set(reader.fieldnames or ()):
                raise ArgumentError(f"`path` must have the columns child,parent; got {reader.fieldnames}")
            pairs = [(row["child"], row["parent"] or "") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArgumentError(f"{Path(path).name} is no CSV: {error}") from error
    return from_links(_once(pairs), classes=classes)


def from_json(source: Source, *, classes: Sequence[str] | None = None) -> ClassTree:
    """The tree of a JSON file (or a mapping) such as ``{"animal": ["dog", "cat"], "car": null}``.

    Raises:
        ArgumentError: the file is no JSON, a key stands twice, or the tree is faulty.

    Example:
        >>> from_json({"animal": ["dog", "cat"], "car": None}).classes
        ('car', 'dog', 'cat')
    """
    if isinstance(source, (str, Path)):
        try:
            source = json.loads(Path(source).read_text("utf-8"), object_pairs_hook=_unique)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ArgumentError(f"{Path(str(source)).name} is no JSON: {error}") from error
    return from_links(_once(_nested(source)), classes=classes)


def from_yaml(source: Source, *, classes: Sequence[str] | None = None) -> ClassTree:
    """The tree of a YAML file (or a mapping), as `from_json`.

    Raises:
        ArgumentError: a key stands twice, or the tree is faulty.
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
        raise ArgumentError(f"{Path(source).name} is no YAML: {' '.join(str(error).split())}") from error
    return from_json(nested, classes=classes)


def _unique(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ArgumentError(f"`source` has the key {key!r} twice; merge the two")
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
