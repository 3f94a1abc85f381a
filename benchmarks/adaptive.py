"""Compare fixed inverse weights with adaptive weights that have a budget of false positives per class.

    COUNTERPOISE_DATA=... python benchmarks/adaptive.py --budget 0.08 --seeds 2 --epochs 15

Trains on cifar10-lt and prints, for every run, the balanced accuracy and the class with the most false positives, as a
share of all images of the other classes, on validation (which the weights adapt to) and on test.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import sys
from pathlib import Path

import torch

from counterpoise import compare
from counterpoise.core.artifacts import Evaluation
from counterpoise.workflow.strategy import CATALOG


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=0.08)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--jobs", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("adaptive"))
    options = parser.parse_args()
    data = os.environ.get("COUNTERPOISE_DATA")
    if data is None:
        sys.exit("set COUNTERPOISE_DATA to the folder that holds cifar10-lt")
    adaptive = dataclasses.replace(CATALOG["adaptive-weights"], reweighting_options={"budget": options.budget})
    comparison = compare(
        Path(data) / "cifar10-lt",
        strategies=["weighted-ce", adaptive],
        seeds=options.seeds,
        epochs=options.epochs,
        jobs=options.jobs,
        out=options.out,
        resume=True,
    )
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {options.epochs} epochs")
    print(f"budget: {100 * options.budget:g} % false positives per class\n")
    print("| strategy | seed | bal. acc. test | most false positives, val | test | within the budget on val |")
    print("|---|---|---|---|---|---|")
    for arm in comparison.arms:
        for seed, val, test in zip(arm.seeds, arm.validation, arm.test, strict=True):
            within = "yes" if worst(val)[0] <= options.budget else "no"
            balanced = 100 * (test.balanced_accuracy or 0.0)
            print(
                f"| {arm.strategy.name} | {seed} | {balanced:.1f} | {worst_text(val)} | {worst_text(test)} | {within} |"
            )


def worst(evaluation: Evaluation) -> tuple[float, str]:
    """The largest share of false positives, and its class."""
    others = {score.name: evaluation.num_images - score.support for score in evaluation.classes}
    return max((score.false_positives / others[score.name], score.name) for score in evaluation.classes)


def worst_text(evaluation: Evaluation) -> str:
    share, name = worst(evaluation)
    return f"{100 * share:.1f} % ({name})"


if __name__ == "__main__":
    main()
