"""Compare the samplers with torch's in one run: ``python benchmarks/samplers.py [--items N] [--rounds R]``.

Every row is the minimum of several interleaved rounds on one thread, so that other processes affect the ratios little.
The right column shows whether the target is met on this machine.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import resource
import time
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch.utils.data import Dataset, RandomSampler, Subset, WeightedRandomSampler

from counterpoise.samplers import ClassBalancedSampler, labels_of
from counterpoise.weights import class_weights, sample_weights


def long_tail(items: int, classes: int = 1000, ratio: float = 100.0) -> np.ndarray:
    """Shuffled labels whose counts fall by ``ratio`` from the first class to the last."""
    share = ratio ** -(np.arange(classes) / (classes - 1))
    counts = np.maximum((share / share.sum() * items).astype(np.int64), 1)
    counts[0] += items - counts.sum()
    return np.random.default_rng(0).permutation(np.repeat(np.arange(classes, dtype=np.int16), counts))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def drain(values: Iterable[object]) -> None:
    deque(values, maxlen=0)


def least(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The minimum time of each run, with the rounds interleaved."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return {name: min(taken) for name, taken in times.items()}


class Labelled(Dataset[object]):
    """A dataset of a million rows that keeps its labels in a list, as image folders do."""

    def __init__(self, rows: int) -> None:
        self.targets = (np.arange(rows) % 1000).tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> object:
        raise AssertionError("an item was loaded")


def table(rows: list[tuple[str, str, str, bool | None]]) -> None:
    width = max(len(row[0]) for row in rows)
    for what, took, target, met in rows:
        print(f"{what:<{width}}  {took:>22}  {target:<34} {'' if met is None else 'met' if met else 'NOT MET'}")


def speed(items: int, rounds: int) -> list[tuple[str, str, str, bool | None]]:
    labels = long_tail(items)
    balanced, uniform = ClassBalancedSampler(labels), ClassBalancedSampler(labels, within="uniform")
    weights = torch.from_numpy(sample_weights(labels, class_weights(np.bincount(labels))))

    def again(sampler: ClassBalancedSampler, start: Callable[[ClassBalancedSampler], Iterable[object]]) -> None:
        sampler.set_epoch(sampler.epoch + 1)
        drain(start(sampler))

    took = least(
        {
            "floor": lambda: drain(iter(np.arange(items).tolist())),
            "random": lambda: drain(iter(RandomSampler(range(items)))),
            "weighted": lambda: drain(iter(WeightedRandomSampler(weights, items))),
            "cycle": lambda: again(balanced, iter),
            "uniform": lambda: again(uniform, iter),
            "batches": lambda: again(balanced, lambda sampler: sampler.batches(256)),
        },
        rounds,
    )
    random, weighted, cycle, flat = took["random"], took["weighted"], took["cycle"], took["uniform"]
    million = f"{items / 1e6:g} M"
    return [
        (f"a Python list of {million} ints", f"{took['floor']:.2f} s", "the lower bound", None),
        (f"torch RandomSampler, {million}", f"{random:.2f} s", "", None),
        (f"torch WeightedRandomSampler, {million}", f"{weighted:.2f} s", "", None),
        (f'"cycle", {million} ints', f"{cycle:.2f} s", f"≤ RandomSampler: {cycle / random:.2f}x", cycle <= random),
        ("", "", f"3x WeightedRandomSampler: {weighted / cycle:.1f}x", weighted >= 3 * cycle),
        (
            f'"uniform", {million} ints',
            f"{flat:.2f} s",
            f"≤ 1/3 RandomSampler: {flat / random:.2f}x",
            flat <= random / 3,
        ),
        (f'"cycle", {million} by batches(256)', f"{took['batches']:.2f} s", "without the ints", None),
    ]


def scale(items: int) -> list[tuple[str, str, str, bool | None]]:
    labels = np.random.default_rng(0).integers(0, 1000, items, dtype=np.uint16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    sampler = ClassBalancedSampler(labels)
    set_up = time.perf_counter() - start
    first = least({"first": lambda: next(iter(sampler))}, 5)["first"]
    for _, _ in zip(range(200), sampler.batches(65_536), strict=False):
        pass
    held = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / items
    state = sampler.state_dict()
    resume = least({"resume": lambda: (sampler.load_state_dict(state), next(iter(sampler)))}, 5)["resume"]
    count = f"{items / 1e6:g} M"
    return [
        (f"{count} items: set-up", f"{set_up:.2f} s", "", None),
        (f"{count} items: first index after it", f"{first * 1e3:.1f} ms", "≤ 50 ms", first <= 0.05),
        (f"{count} items: peak memory beyond the labels", f"{held:.2f} bytes per item", "≤ 8 bytes", held <= 8),
        (f"{count} items: resume and first index", f"{resume * 1e3:.1f} ms", "≤ 50 ms", resume <= 0.05),
        ("its state", f"{len(str(state)) / 1e3:.1f} kB", "for 1000 classes", None),
    ]


def reading(rows: int, rounds: int) -> list[tuple[str, str, str, bool | None]]:
    subset = Subset(Labelled(rows), list(range(rows - 1, -1, -1)))
    took = least({"labels": lambda: labels_of(subset)}, rounds)["labels"]
    return [("labels_of, a Subset of 1 M rows", f"{took:.2f} s", "≤ 1 s", took <= 1.0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--huge", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy", "counterpoise"))
    load = os.getloadavg()[0]
    print(
        f"Python {platform.python_version()}, {versions}; {platform.machine()}, {os.cpu_count()} cores, load {load:.1f}"
    )
    table(scale(given.huge) + speed(given.items, given.rounds) + reading(1_000_000, given.rounds))


if __name__ == "__main__":
    main()
