"""Class trees for hierarchical classification: sources, distances and decoding; no torch."""

from counterpoise.hierarchy.decoding import (
    back_off,
    best_path,
    greedy,
    leaf_log_probabilities,
    node_probabilities,
)
from counterpoise.hierarchy.sources import balanced, from_confusion, from_csv, from_json, from_paths, from_yaml
from counterpoise.hierarchy.tree import ClassTree, from_links

__all__ = [
    "ClassTree",
    "back_off",
    "balanced",
    "best_path",
    "from_confusion",
    "from_csv",
    "from_json",
    "from_links",
    "from_paths",
    "from_yaml",
    "greedy",
    "leaf_log_probabilities",
    "node_probabilities",
]
