"""counterpoise plan"""

from __future__ import annotations

import shlex

from counterpoise.cli.options import Data, TrainingDataOptions, Tree
from counterpoise.cli.output import Result, print_text


def plan(data: Data, reading: TrainingDataOptions, tree: Tree = "auto") -> Result:
    """Recommend strategies for a dataset, each with its reason."""
    from counterpoise.workflow import strategy

    dataset = reading.load(data)
    counts, classes = dataset.counts("train"), None
    options = reading.typed()
    if tree != "auto":
        from counterpoise.workflow.training import build_class_tree

        classes = build_class_tree(tree, counts)
        options += f" --tree {shlex.quote(tree)}"
    strategies = strategy.plan(counts, symmetries=dataset.symmetries, tree=classes)
    names = ",".join(s.name for s in strategies)

    def show() -> None:
        for s in strategies:
            print_text(str(s))
            print_text(f"    {s.reason}")
        print_text(f"\ncounterpoise compare {shlex.quote(data)}{options} --strategies {names} --out comparison")

    return Result(strategies, show)
