"""Compare strategies on frozen features of real images, and time the stack of heads against one fit after another.

``python -m benchmarks.frozen_heads ROOT``, where ROOT has the folders cifar10-lt (train/ and test/, one folder per
class) and blood-cells (BCCD: images, Pascal VOC boxes and the published split). The network is timm's
``tf_efficientnet_lite0`` with ImageNet weights. It prints

- balanced accuracy on the test images of 12 strategies with several seeds, on a validation split of a fifth of the
  training images and on almost all training images;
- seconds of the extraction, of the heads, and of the whole comparison, with and without cached features;
- the time of plain programs for as many heads, one after another: logistic regressions of scikit-learn, and loops of
  PyTorch over the same batches. A few are timed, and multiplied;
- the comparison on crops of the blood cells.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import torch
from benchmarks.lite0_weights import MODEL, write_lite0_weights
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

import counterpoise as cp
from counterpoise.core.artifacts import Comparison, Run
from counterpoise.workflow.training import ProgressReport, WorkPlan

STRATEGIES = (
    "baseline,focal,weighted-ce,sqrt-weighted-ce,class-balanced-ce,class-balanced-focal,class-balanced-sampling,"
    "sqrt-sampling,logit-adjusted,logit-adjusted:tau=1.5,post-hoc-logit-adjusted,tau-norm"
)
TIMED_FITS = 2
"""Plain programs that are timed; their mean stands for each of the others."""


class Clock(ProgressReport):
    """When the parts of a comparison ended."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.extracted = self.trained = self.started
        self.runs = 0

    def features(self, done: int, total: int, rate: float) -> None:
        self.extracted = time.perf_counter()

    def start(self, plan: WorkPlan) -> None:
        self.extracted = time.perf_counter()

    def finish(self, run: str, result: Run, value: float | None) -> None:
        self.runs += result.steps > 0
        self.trained = time.perf_counter()

    def __str__(self) -> str:
        whole = time.perf_counter() - self.started
        extraction, heads = self.extracted - self.started, self.trained - self.extracted
        return f"features {extraction:.1f} s, {self.runs} heads {heads:.1f} s, with report {whole:.1f} s"


def compared(data: cp.LabeledImages, weights: Path, out: Path, **options: object) -> Comparison:
    """One comparison on frozen features, with its times."""
    clock = Clock()
    settings = {"model": f"timm:{MODEL}", "weights": weights, "frozen": True, "image_size": 128}
    found = cp.compare(data, **{**settings, **options}, out=out, progress=clock)
    print(f"  {out.name}: {clock}")
    return found


def print_scores(comparisons: dict[str, Comparison]) -> None:
    """Balanced accuracy on test: the mean over the seeds, and their standard deviation."""
    print(f"\n| strategy | {' | '.join(comparisons)} |\n|---|{'---|' * len(comparisons)}")
    first = next(iter(comparisons.values()))
    for name in (arm.strategy.name for arm in first.arms):
        cells = []
        for comparison in comparisons.values():
            spread = next(arm for arm in comparison.arms if arm.strategy.name == name).scores["test"][
                "balanced_accuracy"
            ]
            cells.append(f"{100 * (spread.mean or 0):.1f} ± {100 * (spread.sd or 0):.1f}")
        print(f"| {name} | {' | '.join(cells)} |")
    for title, comparison in comparisons.items():
        print(f"\n{title}: {comparison.verdict.headline}")


def time_plain_programs(data: cp.LabeledImages, weights: Path, cache: Path, heads: int) -> None:
    """The time of as many fits one after another as there are heads, from the time of a few."""
    from counterpoise.workflow.training.frozen.setup import FrozenSetup
    from counterpoise.workflow.training.settings import Settings

    settings = Settings(model=f"timm:{MODEL}", weights=str(weights), frozen=True, image_size=128)
    setup = FrozenSetup.extract(data, settings, cache=cache)
    train = setup.tensors("train")
    features, labels = torch.cat(list(train.chunks())), train.labels
    start = time.perf_counter()
    for strength in (1.0, 0.1)[:TIMED_FITS]:
        LogisticRegression(C=strength, max_iter=1000).fit(features.numpy(), labels.numpy())
    regression = (time.perf_counter() - start) / TIMED_FITS
    start = time.perf_counter()
    for seed in range(TIMED_FITS):
        plain_head(features, labels, epochs=setup.settings.epochs, batch=setup.settings.batch_size, seed=seed)
    loop = (time.perf_counter() - start) / TIMED_FITS
    print(f"  {heads} fits one after another: LogisticRegression {heads * regression:.0f} s, loops of PyTorch "
          f"{heads * loop:.0f} s ({TIMED_FITS} timed of each)")  # fmt: skip


def plain_head(features: torch.Tensor, labels: torch.Tensor, *, epochs: int, batch: int, seed: int) -> nn.Linear:
    """A linear head as a user would train it."""
    torch.manual_seed(seed)
    head = nn.Linear(features.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(features)).split(batch):
            loss = nn.functional.cross_entropy(head(features[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head


def write_crops(source: Path, target: Path) -> Counter[str]:
    """Write the boxes of the blood cells as images: target/SPLIT/CLASS/IMAGE-BOX.png; the number of each class."""
    numbers: Counter[str] = Counter()
    for split in ("train", "val", "test"):
        for name in (source / f"BCCD/ImageSets/Main/{split}.txt").read_text().split():
            image = Image.open(source / f"BCCD/JPEGImages/{name}.jpg").convert("RGB")
            for number, (label, box) in enumerate(boxes(source / f"BCCD/Annotations/{name}.xml", image.size)):
                folder = target / split / label
                folder.mkdir(parents=True, exist_ok=True)
                image.crop(box).save(folder / f"{name}-{number}.png")
                numbers[label] += 1
    return numbers


def boxes(file: Path, size: tuple[int, int]) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """The class and the box of every object, cut to the image; boxes without area are left out."""
    for node in ElementTree.parse(file).iter("object"):
        corners = [int(float(node.findtext(f"bndbox/{name}") or 0)) for name in ("xmin", "ymin", "xmax", "ymax")]
        left, top, right, bottom = (max(0, min(value, size[i % 2])) for i, value in enumerate(corners))
        if left < right and top < bottom:
            yield str(node.findtext("name")), (left, top, right, bottom)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", default="cifar,blood")
    options = parser.parse_args()
    packages = ("counterpoise", "torch", "timm", "scikit-learn")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, {versions}")
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        weights = write_lite0_weights(here / "lite0.safetensors")
        if "cifar" in options.parts:
            cifar(options.root / "cifar10-lt", here, weights, options.seeds)
        if "blood" in options.parts:
            blood(options.root / "blood-cells", here, weights, options.seeds)


def cifar(source: Path, here: Path, weights: Path, seeds: int) -> None:
    """The strategies on the long-tailed CIFAR-10, and the times."""
    data, more = cp.load(source), cp.load(source, val_fraction=0.01)
    print(f"\ncifar10-lt: {len(data.subset('train')):,} training images, 12 strategies × {seeds} seeds")
    found = {"a fifth for validation": compared(data, weights, here / "first", strategies=STRATEGIES, seeds=seeds)}
    found["1 % for validation"] = compared(more, weights, here / "more", strategies=STRATEGIES, seeds=seeds)
    compared(data, weights, here / "cached, 3 seeds", strategies=STRATEGIES, seeds=3)
    trained = sum(arm.strategy.reuses is None for arm in found["a fifth for validation"].arms)
    time_plain_programs(data, weights, here / "counterpoise-features", trained * seeds)
    print_scores(found)


def blood(source: Path, here: Path, weights: Path, seeds: int) -> None:
    """The default strategies on crops of blood cells."""
    numbers = write_crops(source, here / "crops")
    print(f"\nblood cells, crops by box: {', '.join(f'{n:,} {label}' for label, n in numbers.most_common())}")
    data = cp.load(here / "crops")
    names = "weighted-ce,logit-adjusted,class-balanced-sampling,focal"
    print_scores({"blood cells": compared(data, weights, here / "blood", strategies=names, seeds=seeds)})


if __name__ == "__main__":
    main()
