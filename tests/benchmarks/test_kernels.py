"""The benchmark of the kernels on a machine without a GPU: the losses it compares, and the speedups it prints."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from counterpoise import losses

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kernels.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_kernels", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_measures_nothing():
    run = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.strip() == "bench-kernels needs an NVIDIA GPU; torch sees none here. Nothing was measured."


def test_what_is_compared_computes_the_same(bench):
    z = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    y = torch.arange(20) % 5
    labels = torch.nn.functional.one_hot(y, 5).float()
    torch.testing.assert_close(bench.focal(z, y), losses.focal_loss(z, y))
    for theirs, ours in ((bench.sigmoid_focal, losses.sigmoid_focal_loss), (bench.asymmetric, losses.asymmetric_loss)):
        torch.testing.assert_close(theirs(z, labels), ours(z, labels, reduction="sum"))


def test_the_smallest_speedup_of_a_class_of_shapes_is_its_entry(bench):
    entry, other = ("softmax", (9, 0), "torch.float32", "many classes"), ("sigmoid", (9, 0), "torch.float32", "small")
    rows = [
        {"shape": "a", "by": "triton", "ms": 1.0, "entry": entry},
        {"shape": "a", "by": "closed form", "ms": 3.0, "entry": entry},
        {"shape": "b", "by": "triton", "ms": 2.0, "entry": entry},
        {"shape": "b", "by": "closed form", "ms": 4.0, "entry": entry},
        {"shape": "c", "by": "triton", "ms": 2.0, "entry": other},
        {"shape": "c", "by": "closed form", "failed": "OutOfMemoryError", "entry": other},
    ]
    assert bench.speedups(rows) == {entry: 2.0}
