"""Measure how large comparisons are on disk, and how fast they are written, read and reported.

    python benchmarks/comparison_scale.py [--classes 1000] [--strategies 6] [--seeds 2] [--keep DIR]

The comparison is made up: long-tailed training counts, 50 test images per class, and a recall that falls with the
number of training images. Of the wrong predictions, 60 % are among the ten neighbours of the class, and the others
follow the training counts. One strategy has class weights that change in each of 90 epochs. Each step runs in a process
of its own; its time is without the imports, and its peak is the memory of the whole process.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import (
    Arm,
    AuditResult,
    CalibrationBin,
    ClassAudit,
    Comparison,
    ConfusionMatrix,
    Difference,
    Evaluation,
    Example,
    Strategy,
)
from counterpoise.core.counts import ClassCounts
from counterpoise.metrics import METRICS, tally
from counterpoise.workflow.evaluation.evaluate import class_scores, findings_of, group_scores

EPOCHS, TEST_IMAGES, BINS = 90, 50, 15
STEPS = ("write", "read", "report")
Ints = NDArray[np.int64]


def train_counts(classes: int, ratio: float = 256.0) -> ClassCounts:
    """Counts that fall from 1,280 to 5 images, as those of ImageNet-LT."""
    counts = np.maximum(1, np.round(1280 * ratio ** -(np.arange(classes) / max(classes - 1, 1)))).astype(np.int64)
    return ClassCounts(counts, [f"class-{i:05d}" for i in range(classes)])


def predicted(labels: Ints, counts: Ints, tilt: float, rng: np.random.Generator) -> Ints:
    """Predictions; a larger ``tilt`` gives frequent classes less recall and rare ones more."""
    place = np.log(counts / counts.max()) / np.log(counts.max() / max(counts.min(), 1) + 1e-9)
    recall = np.clip(0.8 - 0.1 * tilt + (0.6 - 0.4 * tilt) * place, 0.02, 0.98)
    near = (labels + rng.choice([-5, -4, -3, -2, -1, 1, 2, 3, 4, 5], size=len(labels))) % len(counts)
    anywhere = rng.choice(len(counts), size=len(labels), p=counts / counts.sum())
    wrong = np.where(rng.random(len(labels)) < 0.6, near, anywhere)
    return np.where(rng.random(len(labels)) < recall[labels], labels, wrong)


def evaluation(counts: ClassCounts, split: str, tilt: float, seed: int) -> Evaluation:
    rng = np.random.default_rng((seed, round(100 * tilt), len(split)))
    classes = counts.num_classes
    support = np.full(classes, TEST_IMAGES) if split == "test" else np.maximum(1, counts.counts // 10)
    labels = np.repeat(np.arange(classes), support)
    guess = predicted(labels, counts.counts, tilt, rng)
    t = tally(labels, guess, num_classes=classes)
    scores = class_scores(t, counts.names, counts, tuple(rng.uniform(0.9, 1, classes).tolist()), 0.95)
    averages = {name: float(METRICS[name].value(t)) for name in ("accuracy", "balanced_accuracy", "macro_f1")}
    edges = np.linspace(0, 1, BINS + 1).tolist()
    return Evaluation(
        split=split,
        num_images=len(labels),
        confidence=0.95,
        **averages,
        balanced_error=1 - averages["balanced_accuracy"],
        geometric_mean=float(METRICS["geometric_mean"].value(t)),
        expected_calibration_error=float(rng.uniform(0, 0.2)),
        classes=scores,
        groups=group_scores(t, counts),
        confusion=ConfusionMatrix.from_predictions(labels, guess, num_classes=classes),
        calibration=tuple(
            CalibrationBin(low, high, 100, *rng.uniform(low, high, 2).tolist())
            for low, high in itertools.pairwise(edges)
        ),
        findings=findings_of(scores, split, 0.95),
    )


def arm(counts: ClassCounts, name: str, tilt: float, seeds: range, *, weights: bool) -> Arm:
    from counterpoise.workflow.comparison.statistics import arm_scores

    validation, test = ([evaluation(counts, split, tilt, seed) for seed in seeds] for split in ("val", "test"))
    rng = np.random.default_rng(round(100 * tilt))
    columns = ("loss", "learning_rate", "val_loss", "val_accuracy", "val_balanced_accuracy")
    history = [{"epoch": float(e), **{c: float(rng.random()) for c in columns}} for e in range(1, EPOCHS + 1)]
    changing = rng.uniform(0.1, 10, (len(seeds), EPOCHS, counts.num_classes)).tolist() if weights else []
    return Arm(
        Strategy(name, "A strategy that is made up."),
        "done",
        tuple(seeds),
        tuple(f"runs/{name}-seed{seed}" for seed in seeds),
        tuple(3600.0 for _ in seeds),
        tuple(validation),
        tuple(test),
        arm_scores(validation, test),
        tuple(tuple(history) for _ in seeds),
        tuple(tuple(map(tuple, epochs)) for epochs in changing),
    )


def difference(one: Arm, other: Arm, split: str, metric: str) -> Difference:
    a, b = one.scores[split][metric].mean, other.scores[split][metric].mean
    gain = None if a is None or b is None else a - b
    low, high = (None, None) if gain is None else (gain - 0.01, gain + 0.01)
    return Difference(one.strategy.name, other.strategy.name, split, metric, gain, low, high, 0.003, "images")


def audit(counts: ClassCounts) -> AuditResult:
    group_of = {int(i): group for group, ids in counts.groups().items() for i in ids}
    numbers = counts.counts.tolist()
    return AuditResult(
        name="made-up",
        source="made-up",
        num_images=counts.total,
        splits={"train": counts.total, "val": sum(n // 10 for n in numbers), "test": TEST_IMAGES * len(numbers)},
        classes=tuple(
            ClassAudit(name, n, max(1, n // 10), TEST_IMAGES, n / counts.total, group_of[i])
            for i, (name, n) in enumerate(zip(counts.names, numbers, strict=True))
        ),
        imbalance_ratio=counts.imbalance_ratio,
        groups={group: tuple(counts.names[i] for i in ids) for group, ids in counts.groups().items()},
        reference_split="test",
        constant_class=counts.names[0],
        constant_accuracy=1 / len(numbers),
        constant_balanced_accuracy=1 / len(numbers),
        findings=(),
        quarantined=(),
        num_files=counts.total,
        num_ignored=0,
        examples=tuple(Example(f"{name}/0000001.jpg", name, "train") for name in counts.names[:100]),
    )


def comparison(classes: int, strategies: int, seeds: int) -> Comparison:
    """A comparison with the content that `counterpoise.compare` gives it, except for predictions and a class tree."""
    # With these modules comes torch, whose memory the other steps do not need.
    from counterpoise.workflow.comparison.statistics import SCORES
    from counterpoise.workflow.comparison.verdict import verdict

    counts = train_counts(classes)
    names = ["baseline", *(f"strategy-{i}" for i in range(1, strategies))]
    arms = tuple(
        arm(counts, name, i / strategies, range(seeds), weights=i == strategies - 1) for i, name in enumerate(names)
    )
    metrics = [metric for metric in SCORES if metric != "expected_calibration_error"]
    measured = [difference(one, arms[0], "test", metric) for one in arms[1:] for metric in metrics]
    measured += [difference(one, arms[-1], "val", "balanced_accuracy") for one in arms[:-1]]
    return Comparison(
        audit=audit(counts),
        baseline="baseline",
        metric="balanced_accuracy",
        seeds=tuple(range(seeds)),
        arms=arms,
        differences=tuple(measured),
        verdict=verdict(arms, measured, baseline="baseline", metric="balanced_accuracy"),
        settings={"model": "resnet50", "epochs": EPOCHS},
        environment={"python": platform.python_version()},
    )


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def step(name: str, folder: Path, classes: int, strategies: int, seeds: int) -> dict[str, float]:
    """Do one step in this process: its seconds, and the peak memory of the process in MB."""
    file = folder / "comparison.json"
    if name == "write":
        made = comparison(classes, strategies, seeds)
        before = peak()
        took = seconds(lambda: made.save(file))
    elif name == "read":
        before = peak()
        took = seconds(lambda: Comparison.load(file))
    else:
        from counterpoise.workflow.report import render

        read = Comparison.load(file)
        before = peak()
        took = seconds(lambda: render(read, folder / "report.html"))
    return {"seconds": took, "peak": peak(), "before": before}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Run the steps one after another and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("classes", 1000), ("strategies", 6), ("seeds", 2)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the files there instead of a temporary folder")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    shape = (given.classes, given.strategies, given.seeds)
    if given.step:
        print(json.dumps(step(given.step, given.keep, *shape)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        sizes = [f"--{name}={n}" for name, n in zip(("classes", "strategies", "seeds"), shape, strict=True)]
        print(f"{given.classes:,} classes × {given.strategies} strategies × {given.seeds} seeds × 2 splits")
        for name in STEPS:
            command = [sys.executable, __file__, *sizes, f"--keep={folder}", f"--step={name}"]
            took = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            text = f"{name:<8}{took['seconds']:>8.2f} s"
            print(f"{text}   peak {took['peak']:>6,.0f} MB, of which {took['before']:,.0f} MB before it")
        for file in sorted(folder.iterdir()):
            print(f"{file.name:<42}{file.stat().st_size / 1e6:>8.2f} MB")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("counterpoise", "numpy")]
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, {platform.system()}")
    print(f"{', '.join(versions)}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
