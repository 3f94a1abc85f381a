"""Time and memory of the losses on a CPU, against peers: ``python benchmarks/losses.py [--only A,B] [--shapes X]``.

Forward and backward of the loss alone on float32 logits. A time is the minimum of many interleaved rounds, and a ratio
that of two minima, below 1 if Counterpoise is faster; each number of threads has its own process. Memory is the peak
that torch's allocator reports during one forward and backward (profiler, allocations minus releases, in time order),
beyond the inputs, in multiples of the logits. Rows with torch.compile need a C++ compiler, and the first run of each
takes most of a minute.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from counterpoise import losses

Loss = Callable[[Tensor], Tensor]
SHAPES = ("4096x1000", "65536x10", "8x21x256x256", "128x10")
COMPILER = shutil.which("g++") or shutil.which("clang++")


def published_asymmetric(logits: Tensor, labels: Tensor) -> Tensor:
    """The asymmetric loss as published: probabilities, clamped logarithms, the focus weight outside the graph."""
    p = torch.sigmoid(logits)
    not_p = (1 - p + 0.05).clamp(max=1)
    value = labels * p.clamp(min=1e-8).log() + (1 - labels) * not_p.clamp(min=1e-8).log()
    with torch.no_grad():
        base = 1 - p * labels - not_p * (1 - labels)
        focus = base.pow(1 * labels + 4 * (1 - labels))
    return -(value * focus).sum()


def plain_asymmetric(logits: Tensor, labels: Tensor) -> Tensor:
    """The same formula with whole powers as products, which compilers vectorise."""
    p = torch.sigmoid(logits)
    not_p = (1 - p + 0.05).clamp(max=1)
    with torch.no_grad():
        q = (1 - not_p) * (1 - not_p)
        focus = labels * (1 - p) + (1 - labels) * q * q
    return -((labels * p.clamp(min=1e-8).log() + (1 - labels) * not_p.log()) * focus).sum()


def plain_sigmoid_focal(logits: Tensor, labels: Tensor) -> Tensor:
    """Sigmoid focal as torchvision writes it."""
    p = torch.sigmoid(logits)
    ce = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    p_t = p * labels + (1 - p) * (1 - labels)
    return ((0.25 * labels + 0.75 * (1 - labels)) * ce * (1 - p_t) ** 2).sum()


def plain_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss on a softmax, from torch's log-softmax."""
    log_p = F.log_softmax(logits, 1).gather(1, target.unsqueeze(1))
    return (-((1 - log_p.exp()) ** 2) * log_p).mean()


class Batch(NamedTuple):
    """Inputs of one shape: logits, class indices, labels with 2 % (10 % for few classes) positives, class weights."""

    logits: Tensor
    target: Tensor
    labels: Tensor
    weight: Tensor

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Batch:
        g = torch.Generator().manual_seed(0)
        logits = torch.randn(shape, generator=g)
        target = torch.randint(shape[1], (shape[0], *shape[2:]), generator=g)
        labels = (torch.rand(shape, generator=g) < (0.02 if shape[1] >= 100 else 0.1)).float()
        return cls(logits, target, labels, torch.rand(shape[1], generator=g) + 0.5)

    @property
    def over_classes(self) -> Tensor:
        """The class weights in a shape that broadcasts over the logits."""
        return self.weight.reshape(-1, *[1] * (self.logits.dim() - 2))


def softmax_rows(batch: Batch) -> dict[str, dict[str, Loss]]:
    """For each loss, ours (first) and its peers."""
    _, y, _, w = batch
    prior = w / w.sum()
    offset = (batch.over_classes / w.sum()).log()
    return {
        "cross-entropy": {
            "ours": lambda z: losses.cross_entropy(z, y),
            "torch": lambda z: F.cross_entropy(z, y),
        },
        "weighted cross-entropy": {
            "ours": lambda z: losses.cross_entropy(z, y, weight=w),
            "torch": lambda z: F.cross_entropy(z, y, w),
        },
        "label smoothing": {
            "ours": lambda z: losses.cross_entropy(z, y, label_smoothing=0.1),
            "torch": lambda z: F.cross_entropy(z, y, label_smoothing=0.1),
        },
        "weighted label smoothing": {
            "ours": lambda z: losses.cross_entropy(z, y, weight=w, label_smoothing=0.1),
            "torch": lambda z: F.cross_entropy(z, y, w, label_smoothing=0.1),
        },
        "focal": {
            "ours": lambda z: losses.focal_loss(z, y),
            "torch cross-entropy": lambda z: F.cross_entropy(z, y),
            **compiled(plain_focal, losses.FocalLoss(), y),
        },
        "logit-adjusted": {
            "ours": lambda z: losses.logit_adjusted_loss(z, y, prior=prior),
            "torch z + b": lambda z: F.cross_entropy(z + offset, y),
        },
    }


def sigmoid_rows(batch: Batch) -> dict[str, dict[str, Loss]]:
    _, _, t, w = batch
    return {
        "binary cross-entropy": {
            "ours": lambda z: losses.binary_cross_entropy(z, t),
            "torch": lambda z: F.binary_cross_entropy_with_logits(z, t),
        },
        "pos_weight": {
            "ours": lambda z: losses.binary_cross_entropy(z, t, pos_weight=w),
            "torch": lambda z: F.binary_cross_entropy_with_logits(z, t, pos_weight=batch.over_classes),
        },
        "sigmoid focal": {
            "ours": lambda z: losses.sigmoid_focal_loss(z, t, reduction="sum"),
            "torchvision's formula": lambda z: plain_sigmoid_focal(z, t),
            **compiled(plain_sigmoid_focal, losses.SigmoidFocalLoss(reduction="sum"), t),
        },
        "asymmetric": {
            "ours": lambda z: losses.asymmetric_loss(z, t, reduction="sum"),
            "published": lambda z: published_asymmetric(z, t),
            **compiled(plain_asymmetric, losses.AsymmetricLoss(reduction="sum"), t),
        },
    }


def overlap_rows(batch: Batch) -> dict[str, dict[str, Loss]]:
    if batch.logits.dim() < 4 or importlib.util.find_spec("segmentation_models_pytorch") is None:
        return {}
    from segmentation_models_pytorch.losses import DiceLoss

    peer, labels_peer = DiceLoss("multiclass"), DiceLoss("multilabel")
    return {
        "dice": {
            "ours": lambda z: losses.dice_loss(z, batch.target),
            "segmentation-models-pytorch": lambda z: peer(z, batch.target),
        },
        "multi-label dice": {
            "ours": lambda z: losses.dice_loss(z, batch.labels, activation="sigmoid"),
            "segmentation-models-pytorch": lambda z: labels_peer(z, batch.labels),
        },
    }


def single_label_rows(batch: Batch) -> dict[str, dict[str, Loss]]:
    if batch.logits.dim() != 2 or importlib.util.find_spec("timm") is None:
        return {}
    from timm.loss import AsymmetricLossSingleLabel

    peer = AsymmetricLossSingleLabel()
    return {
        "asymmetric softmax": {
            "ours": lambda z: losses.asymmetric_softmax_loss(z, batch.target),
            "timm": lambda z: peer(z, batch.target),
        }
    }


def compiled(formula: Callable[[Tensor, Tensor], Tensor], module: torch.nn.Module, target: Tensor) -> dict[str, Loss]:
    """The plain formula in torch.compile, and our module in it, where there is a C++ compiler."""
    if not COMPILER:
        return {}
    fast, ours = torch.compile(formula, fullgraph=True), torch.compile(module, fullgraph=True)
    return {"torch.compile": lambda z: fast(z, target), "torch.compile of ours": lambda z: ours(z, target)}


def step(loss: Loss, logits: Tensor) -> None:
    leaf = logits.detach().requires_grad_()
    loss(leaf).backward()


def least(runs: dict[str, Loss], logits: Tensor, seconds: float) -> dict[str, float]:
    """Minimum time of each loss in milliseconds, with interleaved rounds for so many seconds, at least five."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    while len(taken["ours"]) < 5 or time.perf_counter() - begin < seconds:
        for name, loss in runs.items():
            start = time.perf_counter()
            step(loss, logits)
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: min(times) for name, times in taken.items()}


def peak(loss: Loss, logits: Tensor) -> float:
    """Peak of live allocations in multiples of the logits; the gradient is among them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        step(loss, logits)
    live = most = 0
    for event in run.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most / (logits.numel() * logits.element_size())


def measure(shape: str, only: list[str], seconds: float) -> None:
    """The rows of one shape with this process's number of threads."""
    batch = Batch.of(tuple(int(n) for n in shape.split("x")))
    rows = {**softmax_rows(batch), **sigmoid_rows(batch), **overlap_rows(batch), **single_label_rows(batch)}
    for name, runs in rows.items():
        if only and name not in only:
            continue
        torch._dynamo.reset()
        for loss in runs.values():
            step(loss, batch.logits)
            step(loss, batch.logits)
        times = least(runs, batch.logits, seconds)
        ours = times.pop("ours")
        ratios = ", ".join(
            f"{ours / ms:.2f}x {peer} ({peak(runs[peer], batch.logits):.2f})" for peer, ms in times.items()
        )
        memory = peak(runs["ours"], batch.logits)
        print(f"{shape:13} {name:25} {ours:8.3f} ms  memory {memory:.2f}  {ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of losses, separated by commas")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="shapes of the logits, such as 4096x1000,65536x10")
    parser.add_argument(
        "--threads", default="", help="numbers of threads, such as 1,2; default 1, 2, 4 up to the cores"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="time for the rounds of one row")
    parser.add_argument("--here", action="store_true", help="measure in this process, with one number of threads")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = options.threads or ",".join(str(n) for n in (1, 2, 4) if n <= cores)
    if options.here:
        torch.set_num_threads(int(threads))
        only = [name for name in options.only.split(",") if name]
        for shape in options.shapes.split(","):
            measure(shape, only, options.seconds)
        return
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("counterpoise", "torch"))
    print(f"{versions}, Python {platform.python_version()}, {platform.machine()}, {cores} cores; (memory of the peer)")
    for number in threads.split(","):
        print(f"\n{number} thread(s)", flush=True)
        given = [f"--only={options.only}", f"--shapes={options.shapes}", f"--seconds={options.seconds}"]
        subprocess.run([sys.executable, __file__, *given, f"--threads={number}", "--here"], check=True)


if __name__ == "__main__":
    main()
