"""Time and memory of the losses, against torch: ``python benchmarks/losses.py [--rows N] [--classes C] [--rounds R]``.

Forward and backward of the loss alone on float32 logits. Times are the minimum of many interleaved rounds; each number
of threads is measured in its own process. Memory is the peak that torch's allocator reports during one forward and
backward (profiler, allocations minus releases, in time order), beyond the inputs, in multiples of the logits.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from counterpoise import losses

Loss = Callable[[Tensor], Tensor]


def published_asymmetric(logits: Tensor, labels: Tensor) -> Tensor:
    """The asymmetric loss as published: probabilities, clamped logarithms, the focus weight outside the graph."""
    p = torch.sigmoid(logits)
    not_p = (1 - p + 0.05).clamp(max=1)
    value = labels * p.clamp(min=1e-8).log() + (1 - labels) * not_p.clamp(min=1e-8).log()
    with torch.no_grad():
        base = 1 - p * labels - not_p * (1 - labels)
        focus = base.pow(1 * labels + 4 * (1 - labels))
    return -(value * focus).sum()


def published_focal(logits: Tensor, labels: Tensor) -> Tensor:
    """Sigmoid focal as torchvision writes it."""
    p = torch.sigmoid(logits)
    ce = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    p_t = p * labels + (1 - p) * (1 - labels)
    return ((0.25 * labels + 0.75 * (1 - labels)) * ce * (1 - p_t) ** 2).sum()


def step(loss: Loss, logits: Tensor) -> None:
    leaf = logits.detach().requires_grad_()
    loss(leaf).backward()


def least(runs: dict[str, Loss], logits: Tensor, rounds: int) -> dict[str, float]:
    """Minimum time of each loss in milliseconds, with interleaved rounds."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, loss in runs.items():
            start = time.perf_counter()
            step(loss, logits)
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: min(times) for name, times in taken.items()}


def peak(loss: Loss, logits: Tensor) -> float:
    """Peak of live allocations in multiples of the logits; the gradient is among them."""
    step(loss, logits)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        step(loss, logits)
    live = most = 0
    for event in run.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most / (logits.numel() * logits.element_size())


def measure(rows: int, classes: int, rounds: int) -> None:
    """One table for this process's number of threads."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, classes, generator=g)
    target = torch.randint(classes, (rows,), generator=g)
    labels = (torch.rand(rows, classes, generator=g) < 0.02).float()
    weight, prior = torch.rand(classes, generator=g) + 0.5, torch.rand(classes, generator=g) + 0.1
    offset = (prior / prior.sum()).log()
    softmax: dict[str, Loss] = {
        "F.cross_entropy": lambda z: F.cross_entropy(z, target),
        "F.cross_entropy(z + b)": lambda z: F.cross_entropy(z + offset, target),
        "weighted cross-entropy": lambda z: losses.cross_entropy(z, target, weight=weight),
        "focal": lambda z: losses.focal_loss(z, target),
        "logit-adjusted": lambda z: losses.logit_adjusted_loss(z, target, prior=prior / prior.sum()),
    }
    sigmoid: dict[str, Loss] = {
        "published asymmetric, eager": lambda z: published_asymmetric(z, labels),
        "published focal, eager": lambda z: published_focal(z, labels),
        "asymmetric": lambda z: losses.asymmetric_loss(z, labels, reduction="sum"),
        "sigmoid focal": lambda z: losses.sigmoid_focal_loss(z, labels, reduction="sum"),
    }
    if shutil.which("g++"):
        sigmoid["published asymmetric, torch.compile"] = compiled(published_asymmetric, labels)
        sigmoid["published focal, torch.compile"] = compiled(published_focal, labels)
    for runs in (softmax, sigmoid):
        for loss in runs.values():
            step(loss, logits)
        times = least(runs, logits, rounds)
        for name, loss in runs.items():
            against = reference(name, times)
            ratio = "" if against is None else f"{times[name] / times[against]:6.2f} x {against}"
            print(f"{name:38} {times[name]:8.2f} ms  {peak(loss, logits):5.2f} x logits  {ratio}")


def compiled(loss: Callable[[Tensor, Tensor], Tensor], labels: Tensor) -> Loss:
    fast = torch.compile(loss, fullgraph=True)
    return lambda z: fast(z, labels)


def reference(name: str, times: dict[str, float]) -> str | None:
    """Name of the loss that a loss is compared with."""
    baselines = {
        "weighted cross-entropy": "F.cross_entropy",
        "focal": "F.cross_entropy",
        "logit-adjusted": "F.cross_entropy(z + b)",
        "asymmetric": "published asymmetric, eager",
        "published asymmetric, torch.compile": "published asymmetric, eager",
        "sigmoid focal": "published focal, eager",
        "published focal, torch.compile": "published focal, eager",
    }
    return baselines.get(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, help="measure in this process with this number of threads")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
        measure(options.rows, options.classes, options.rounds)
        return
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("counterpoise", "torch"))
    print(f"{versions}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    for threads in (1, 4):
        print(f"\n{options.rows} x {options.classes} float32, {threads} thread(s)", flush=True)
        sizes = (f"--rows={options.rows}", f"--classes={options.classes}", f"--rounds={options.rounds}")
        subprocess.run([sys.executable, __file__, *sizes, f"--threads={threads}"], check=True)


if __name__ == "__main__":
    main()
