"""Class trees."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from counterpoise.core.counts import ClassCounts
from counterpoise.hierarchy import ClassTree, from_links
from counterpoise.workflow.training.setup import build_class_tree
from fuzzing.cases import Case
from fuzzing.inputs import csv_text, place, place_json, place_npz
from fuzzing.predictions import random_logits
from fuzzing.readings import _yaml_value, arrays_of, csv_rows, decoded, difference, links_of, parsed


def random_tree(rng: random.Random) -> tuple[dict[str, Any], ClassCounts]:
    """A valid tree as nested mappings and lists, and counts of its leaves."""
    names = iter(rng.sample([f"{name}{i}" for i in range(9) for name in ("cat", "dog", "é", "no ", "a b", "car")], 54))
    leaves: list[str] = []

    def below(depth: int) -> Any:
        if depth > 2 or rng.random() < 0.3:
            found = [next(names) for _ in range(rng.randrange(1, 3))]
            leaves.extend(found)
            return found
        inside = {next(names): None if rng.random() < 0.3 else below(depth + 1) for _ in range(rng.randrange(1, 3))}
        leaves.extend(name for name, value in inside.items() if value is None)
        return inside

    nested = {next(names): below(1) for _ in range(rng.randrange(1, 4))}
    rng.shuffle(leaves)
    return nested, ClassCounts([rng.randrange(1, 9) for _ in leaves], leaves)


def tree_json(rng: random.Random, folder: Path) -> Case:
    nested, counts = random_tree(rng)
    path, is_valid = place_json(rng, folder / "tree.json", nested)
    return Case((str(path), counts), is_valid)


def tree_yaml(rng: random.Random, folder: Path) -> Case:
    nested, counts = random_tree(rng)
    data = yaml.safe_dump(nested, allow_unicode=rng.random() < 0.5, default_flow_style=rng.choice((None, True, False)))
    path, is_valid = place(rng, folder / "tree.yaml", data.encode(), is_text=True)
    return Case((str(path), counts), is_valid)


def tree_csv(rng: random.Random, folder: Path) -> Case:
    nested, counts = random_tree(rng)
    rows = [("child", "parent"), *links_of(nested)]
    path, is_valid = place(rng, folder / "tree.csv", csv_text(rng, rows).encode(), is_text=True)
    return Case((str(path), counts), is_valid)


def tree_npz(rng: random.Random, folder: Path) -> Case:
    size = rng.randrange(2, 5)
    classes = [f"class {i}" for i in range(size)]
    labels = np.array([rng.randrange(size) for _ in range(9)])
    path, is_valid = place_npz(
        rng, folder / "tree.npz", logits=random_logits(rng, 9, size), labels=labels, classes=np.array(classes)
    )
    return Case((str(path), ClassCounts([1] * size, classes)), is_valid)


def read_tree(case: Case) -> ClassTree:
    return build_class_tree(*case.given)


def _composed(text: str) -> Any:
    try:
        return yaml.compose(text, yaml.BaseLoader)
    except yaml.YAMLError:  # libyaml takes tabs between tokens, as YAML 1.2 does
        return yaml.compose(text, yaml.CBaseLoader)


def check_tree(case: Case, tree: ClassTree) -> str:
    source, counts = case.given
    path = Path(source)
    if path.suffix == ".npz":
        arrays = arrays_of(path)
        names = arrays["classes"].tolist() if "classes" in arrays else range(len(counts))
        return difference([str(name) for name in names], tree.classes)
    if path.suffix == ".json":
        links = links_of(parsed(path))
    elif path.suffix == ".yaml":
        links = links_of(_yaml_value(_composed(path.read_bytes().decode("utf-8"))))
    else:
        links = [(row["child"], row["parent"]) for row in csv_rows(decoded(path), ("child", "parent"))]
    if len(dict(links)) != len(links):
        return f"a node has two parents in {links}"
    expected = from_links(dict(links), classes=counts.names)
    found = zip(tree.names[1:], (tree.names[above] for above in tree.parents[1:]), strict=True)
    wanted = zip(expected.names[1:], (expected.names[above] for above in expected.parents[1:]), strict=True)
    return difference([list(pair) for pair in wanted], list(found)) or difference(list(counts.names), tree.classes)
