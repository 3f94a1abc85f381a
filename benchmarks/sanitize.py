"""Run every Triton kernel on a small grid and compare it with the reference: the program for compute-sanitizer.

    compute-sanitizer --tool memcheck python benchmarks/sanitize.py
    compute-sanitizer --tool racecheck python benchmarks/sanitize.py

The shapes cover one block and several, aligned and unaligned rows, index and soft targets, and dense predictions.
Without a GPU the kernels run under Triton's interpreter where TRITON_INTERPRET=1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from counterpoise import losses

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = ((5, 3), (33, 130), (7, 1030), (2, 5, 3, 7))
DTYPES = (torch.float32, torch.bfloat16)
REDUCTIONS = ("mean", "batchmean", "none")
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}

Loss = Callable[..., Tensor]


def cases(reductions: tuple[str, ...]) -> Iterator[tuple[str, Loss, Tensor, Tensor]]:
    """Name, loss of (logits, target, impl), logits and target of every case."""
    generator = torch.Generator().manual_seed(0)
    for shape in SHAPES:
        for dtype in DTYPES:
            logits = (3 * torch.randn(shape, generator=generator)).to(dtype).to(DEVICE)
            classes = torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)
            soft = torch.rand(shape, generator=generator).softmax(1)
            labels = (torch.rand(shape, generator=generator) < 0.2).float()
            weight = 0.5 + torch.rand(shape[1], generator=generator)
            for reduction in reductions:
                name = f"{'x'.join(map(str, shape))} {str(dtype).removeprefix('torch.')} {reduction}"
                options = {"weight": weight, "reduction": reduction}
                for kind, target in (("index", classes), ("soft", soft)):
                    yield f"softmax {kind} {name}", softmax(options), logits, target.to(DEVICE)
                yield f"sigmoid {name}", sigmoid(options), logits, labels.to(DEVICE)


def softmax(options: dict) -> Loss:
    """The softmax equation with every term switched on."""
    return lambda z, y, impl: losses.softmax_loss(z, y, gamma=2.0, label_smoothing=0.1, impl=impl, **options)


def sigmoid(options: dict) -> Loss:
    """The sigmoid equation with every term switched on."""
    return lambda z, y, impl: losses.sigmoid_loss(z, y, gamma_pos=1.0, gamma_neg=4.0, clip=0.05, impl=impl, **options)


def result(loss: Loss, logits: Tensor, target: Tensor, impl: str) -> tuple[Tensor, Tensor]:
    """Loss and gradient."""
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, target, impl)
    value.sum().backward()
    return value.detach().float(), leaf.grad.float()


def main() -> None:
    """Run the grid; exit with status 1 where a kernel differs from the reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=REDUCTIONS, help="one reduction instead of all")
    only = parser.parse_args().only
    wrong, number = [], 0
    for name, loss, logits, target in cases((only,) if only else REDUCTIONS):
        number += 1
        tolerance = TOLERANCE[logits.dtype]
        pairs = zip(*(result(loss, logits, target, impl) for impl in ("triton", "reference")), strict=True)
        if not all(torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance) for ours, theirs in pairs):
            wrong.append(name)
    print(f"{number} cases on {DEVICE}; {len(wrong)} differ from the reference", *wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
