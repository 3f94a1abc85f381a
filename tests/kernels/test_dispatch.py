"""The choice of the implementation by `impl="auto"`, which needs neither a GPU nor Triton."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from counterpoise.kernels import dispatch

AUTO = """
import sys, torch
from counterpoise import losses
logits = torch.randn(4, 3, requires_grad=True)
losses.focal_loss(logits, torch.tensor([0, 1, 2, 0])).backward()
losses.asymmetric_loss(logits, torch.ones(4, 3)).backward()
print("triton" in sys.modules, "counterpoise.kernels.triton" in sys.modules)
"""


def test_auto_on_a_cpu_does_not_import_triton():
    run = subprocess.run([sys.executable, "-c", AUTO], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.split() == ["False", "False"]


def test_nothing_is_measured_yet_so_auto_is_the_closed_form():
    assert dispatch.MEASURED_SPEEDUPS == {}


class OnGPU:
    """What is asked of logits on a GPU, without one."""

    device, dtype, requires_grad = torch.device("cuda"), torch.bfloat16, False

    def __init__(self, *shape):
        self.shape = shape

    def numel(self):
        return math.prod(self.shape)


def test_auto_takes_triton_only_where_it_was_measured_to_be_faster(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(dispatch, "_TRITON_INSTALLED", True)
    logits = OnGPU(65536, 1000)
    assert dispatch.chosen_implementation("auto", "softmax", logits, ()) == "closed_form"
    key = ("softmax", (9, 0), torch.bfloat16, dispatch.shape_class(logits))
    monkeypatch.setitem(dispatch.MEASURED_SPEEDUPS, key, 0.9)
    assert dispatch.chosen_implementation("auto", "softmax", logits, ()) == "closed_form"
    monkeypatch.setitem(dispatch.MEASURED_SPEEDUPS, key, 1.5)
    assert dispatch.chosen_implementation("auto", "softmax", logits, ()) == "triton"
    assert dispatch.chosen_implementation("auto", "sigmoid", logits, ()) == "closed_form"
    assert dispatch.chosen_implementation("auto", "softmax", OnGPU(64, 1000), ()) == "closed_form"
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert dispatch.chosen_implementation("auto", "softmax", logits, ()) == "closed_form"
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: False)
    assert dispatch.chosen_implementation("auto", "softmax", logits, ()) == "triton"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert dispatch.chosen_implementation("auto", "softmax", logits, ()) == "closed_form"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1024, 1023), "small"),
        ((8192, 128), "few classes"),
        ((8192, 129), "many classes"),
        ((64, 16384), "many classes"),
        ((64, 16385), "rows beyond one tile"),
        ((16, 19, 512, 512), "few classes"),
    ],
)
def test_shape_classes(shape, expected):
    assert dispatch.shape_class(OnGPU(*shape)) == expected
