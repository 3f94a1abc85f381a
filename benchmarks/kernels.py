"""Compare the Triton kernels of the losses with other implementations on a GPU: ``make bench-kernels``.

Forward and backward of the loss alone. "floor" is the time to move the fewest bytes (logits read and gradient written
once, a dense target read once) at the copy bandwidth measured in the same run. Times are medians of CUDA events, with
the implementations of a row interleaved. Memory is the peak beyond the inputs, in multiples of the logits (in the last
table: of what layer and loss need separately). Launches are counted by the profiler. The cross-entropy of Liger and
QuACK and `F.linear_cross_entropy` are included where they are installed. At the end come the entries for
`MEASURED_SPEEDUPS` in ``counterpoise/kernels/dispatch.py``, by which ``impl="auto"`` takes the kernels.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import importlib.util
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from counterpoise import losses
from counterpoise.kernels.dispatch import shape_class

Loss = Callable[[Tensor], Tensor]
# Large shapes, where bandwidth limits the time, and two where launches do.
SHAPES = (
    (65536, 1000, torch.float32),
    (65536, 1000, torch.bfloat16),
    (32768, 256, torch.bfloat16),
    (16384, 4096, torch.bfloat16),
    (16384, 8142, torch.bfloat16),
    (8192, 50000, torch.bfloat16),
    (262144, 80, torch.float32),
    (262144, 80, torch.bfloat16),
    (256, 10, torch.float32),
    (1024, 1000, torch.float32),
)
NO_GPU = "bench-kernels needs an NVIDIA GPU; torch sees none here. Nothing was measured."


def focal(z: Tensor, target: Tensor) -> Tensor:
    """Focal from cross-entropy, as it is usually written."""
    ce = F.cross_entropy(z.float(), target, reduction="none")
    return ((1 - torch.exp(-ce)) ** 2 * ce).mean()


def sigmoid_focal(z: Tensor, labels: Tensor) -> Tensor:
    """Sigmoid focal as torchvision writes it."""
    z = z.float()
    p = torch.sigmoid(z)
    ce = F.binary_cross_entropy_with_logits(z, labels, reduction="none")
    p_t = p * labels + (1 - p) * (1 - labels)
    return ((0.25 * labels + 0.75 * (1 - labels)) * ce * (1 - p_t) ** 2).sum()


def asymmetric(z: Tensor, labels: Tensor) -> Tensor:
    """The asymmetric loss as published: probabilities, clamped logarithms, the focus weight outside the graph."""
    p = torch.sigmoid(z.float())
    not_p = (1 - p + 0.05).clamp(max=1)
    value = labels * p.clamp(min=1e-8).log() + (1 - labels) * not_p.clamp(min=1e-8).log()
    with torch.no_grad():
        focus = (1 - p * labels - not_p * (1 - labels)).pow(1 * labels + 4 * (1 - labels))
    return -(value * focus).sum()


def step(loss: Loss, leaves: list[Tensor]) -> None:
    for leaf in leaves:
        leaf.grad = None
    loss(leaves[0]).backward()


def times(runs: dict[str, Loss], leaves: list[Tensor], rounds: int) -> dict[str, float]:
    """Median milliseconds of each implementation; rounds are interleaved, and the cache is flushed before each."""
    flush = torch.empty(1 << 26, dtype=torch.int32, device="cuda")
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, loss in runs.items():
            flush.zero_()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step(loss, leaves)
            end.record()
            torch.cuda.synchronize()
            taken[name].append(start.elapsed_time(end))
    return {name: statistics.median(t) for name, t in taken.items()}


def peak(loss: Loss, leaves: list[Tensor], unit: int) -> float:
    """Peak memory beyond the inputs in one step, including the gradient, in multiples of ``unit`` bytes."""
    for leaf in leaves:
        leaf.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(loss, leaves)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / unit


def launches(loss: Loss, leaves: list[Tensor]) -> int:
    with profile(activities=[ProfilerActivity.CUDA]) as run:
        step(loss, leaves)
        torch.cuda.synchronize()
    return sum(e.count for e in run.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA)


def copy_bandwidth() -> float:
    """Bytes per second, read and written together, of a copy of 1 GiB."""
    source = torch.empty(1 << 28, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    taken = []
    for _ in range(20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        taken.append(start.elapsed_time(end))
    return 2 * source.numel() * 4 / (1e-3 * statistics.median(taken))


def compared(eager: Callable[..., Tensor], ours: Callable[..., Tensor], target: Tensor) -> dict[str, Loss]:
    """A loss in Triton and in closed form, and in eager and compiled PyTorch."""
    compiled = torch.compile(eager, fullgraph=True)
    return {
        "triton": lambda z: ours(z, target, impl="triton"),
        "closed form": lambda z: ours(z, target, impl="closed_form"),
        "eager": lambda z: eager(z, target),
        "torch.compile": lambda z: compiled(z, target),
    }


def families(n: int, c: int) -> dict[str, tuple[int, dict[str, Loss]]]:
    """Per loss: the bytes of dense target per element, and the implementations."""
    g = torch.Generator("cuda").manual_seed(0)
    y = torch.randint(c, (n,), generator=g, device="cuda")
    labels = (torch.rand(n, c, generator=g, device="cuda") < 0.02).float()
    w = torch.rand(c, generator=g, device="cuda") + 0.5
    prior = torch.softmax(torch.randn(c, generator=g, device="cuda"), 0)
    plain = compared(lambda z, t: F.cross_entropy(z.float(), t), losses.cross_entropy, y)
    plain |= public_cross_entropies(y)
    weighted = compared(
        lambda z, t: F.cross_entropy(z.float(), t, w), functools.partial(losses.cross_entropy, weight=w), y
    )
    adjusted = compared(
        lambda z, t: F.cross_entropy(z.float() + prior.log(), t),
        functools.partial(losses.softmax_loss, offset=prior.log()),
        y,
    )
    ours = {
        name: functools.partial(getattr(losses, name), reduction="sum")
        for name in ("sigmoid_focal_loss", "asymmetric_loss")
    }
    return {
        "cross-entropy": (0, plain),
        "weighted": (0, weighted),
        "focal": (0, compared(focal, losses.focal_loss, y)),
        "logit-adjusted": (0, adjusted),
        "sigmoid focal": (4, compared(sigmoid_focal, ours["sigmoid_focal_loss"], labels)),
        "asymmetric": (4, compared(asymmetric, ours["asymmetric_loss"], labels)),
        "asymmetric, uint8": (1, {"triton": compared(asymmetric, ours["asymmetric_loss"], labels.byte())["triton"]}),
    }


def public_cross_entropies(y: Tensor) -> dict[str, Loss]:
    found: dict[str, Loss] = {}
    if importlib.util.find_spec("liger_kernel"):
        from liger_kernel.transformers import LigerCrossEntropyLoss

        liger = LigerCrossEntropyLoss()
        found["Liger"] = lambda z: liger(z, y)  # overwrites its input: values change, times do not
    if importlib.util.find_spec("quack"):
        from quack import cross_entropy as quack

        found["QuACK"] = lambda z: quack(z, y, reduction="mean")
    return found


def works(loss: Loss, leaves: list[Tensor]) -> str | None:
    """None, or the reason why this implementation cannot be measured here."""
    try:
        for _ in range(3):
            step(loss, leaves)
        torch.cuda.synchronize()
    except Exception as error:  # an implementation that cannot take a shape is reported as such
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}" if str(error) else type(error).__name__
    return None


def measured(
    title: str, runs: dict[str, Loss], leaves: list[Tensor], floor: float, moved: float, unit: int, rounds: int
) -> list[dict[str, Any]]:
    """The rows of one table, printed as they are measured."""
    failed = {name: reason for name, loss in runs.items() if (reason := works(loss, leaves))}
    runs = {name: loss for name, loss in runs.items() if name not in failed}
    taken = times(runs, leaves, rounds)
    rows = []
    for name, loss in runs.items():
        ms = taken[name]
        row = {
            "shape": title, "by": name, "ms": ms, "times_floor": ms / floor, "gb_per_s": moved / ms * 1e-6,
            "memory": peak(loss, leaves, unit), "launches": launches(loss, leaves),
        }  # fmt: skip
        rows.append(row)
        print(
            f"{title:44} {name:22} {ms:9.3f} ms {row['times_floor']:7.2f} x floor {row['gb_per_s']:7.0f} GB/s "
            f"{row['memory']:6.2f} x memory {row['launches']:4d} launches",
            flush=True,
        )
    for name, reason in failed.items():
        print(f"{title:44} {name:22} not measured: {reason}")
        rows.append({"shape": title, "by": name, "failed": reason})
    return rows


def loss_table(bandwidth: float, rounds: int) -> list[dict[str, Any]]:
    rows = []
    capability = torch.cuda.get_device_capability()
    for n, c, dtype in SHAPES:
        size = torch.empty((), dtype=dtype).element_size()
        for name, (label_bytes, runs) in families(n, c).items():
            torch._dynamo.reset()
            z = torch.randn(n, c, device="cuda").to(dtype).requires_grad_()
            moved = n * c * (2 * size + label_bytes)
            title = f"{n}x{c} {str(dtype)[6:]} {name}"
            entry = ("sigmoid" if label_bytes else "softmax", capability, str(dtype), shape_class(z))
            found = measured(title, runs, [z], 1e3 * moved / bandwidth, moved, n * c * size, rounds)
            rows += [{**row, "entry": entry} for row in found]
    return rows


def speedups(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], float]:
    """The smallest speedup of Triton over the closed form per entry of `MEASURED_SPEEDUPS`."""
    times = {(row["shape"], row["by"]): row["ms"] for row in rows if "ms" in row}
    found: dict[tuple[Any, ...], float] = {}
    for row in rows:
        if row["by"] == "triton" and (row["shape"], "closed form") in times and "ms" in row:
            speedup = times[row["shape"], "closed form"] / row["ms"]
            found[row["entry"]] = min(speedup, found.get(row["entry"], speedup))
    return found


def linear_table(rounds: int) -> list[dict[str, Any]]:
    """Layer and loss: 16384 x 50000 x 2048 bfloat16; the floor is the Triton loss after a matrix product."""
    n, c, d = 16384, 50000, 2048
    g = torch.Generator("cuda").manual_seed(0)
    h, w = (torch.randn(s, generator=g, device="cuda").bfloat16().requires_grad_() for s in ((n, d), (c, d)))
    y = torch.randint(c, (n,), generator=g, device="cuda")
    runs: dict[str, Loss] = {
        "matmul + triton": lambda h: losses.cross_entropy(h @ w.T, y, impl="triton"),
        "linear_softmax_loss": lambda h: losses.linear_softmax_loss(h, w, y, impl="triton"),
        "matmul + F.cross_entropy": lambda h: F.cross_entropy((h @ w.T).float(), y),
    }
    if hasattr(F, "linear_cross_entropy"):
        runs["F.linear_cross_entropy"] = lambda h: F.linear_cross_entropy(h, w, y)
    leaves = [h, w]
    step(runs["matmul + triton"], leaves)
    floor = times({"floor": runs["matmul + triton"]}, leaves, rounds)["floor"]
    return measured(f"{n}x{c}x{d} bfloat16 layer and loss", runs, leaves, floor, 6 * n * c * 2, n * c * 2, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--out", type=Path, help="write the rows here as JSON")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(NO_GPU)
    bandwidth = copy_bandwidth()
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("counterpoise", "torch", "triton"))
    about = f"{torch.cuda.get_device_name()}, {versions}, copy {bandwidth * 1e-12:.2f} TB/s"
    print(about)
    rows = loss_table(bandwidth, options.rounds)
    print("MEASURED_SPEEDUPS, the smallest of each class of shapes:")
    for (equation, capability, dtype, shapes), speedup in speedups(rows).items():
        print(f'    ("{equation}", {capability}, {dtype}, "{shapes}"): {speedup:.2f},')
    rows += linear_table(options.rounds)
    if options.out:
        options.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
