"""Device and precision of a training: checked before the data are read, and free to change within one process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from tests.cli.test_cli import call

from counterpoise.core.artifacts import Predictions
from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.training import check_device, loop, train


def logits(folder):
    return Predictions.load(folder / "predictions-test.npz").logits


def test_trainings_of_different_precisions_follow_each_other_in_one_process(dataset, tmp_path):
    for name, precision in (("first", "no"), ("half", "bf16"), ("again", "no")):
        train("focal", dataset, epochs=2, precision=precision, out=tmp_path / name)
    assert not np.array_equal(logits(tmp_path / "first"), logits(tmp_path / "half"))
    np.testing.assert_array_equal(logits(tmp_path / "first"), logits(tmp_path / "again"))


def test_a_training_leaves_an_accelerator_of_the_caller_as_it_was(dataset, tmp_path):
    AcceleratorState._reset_state()  # of the tests before in this process
    accelerator = Accelerator(mixed_precision="bf16")
    try:
        before = dict(AcceleratorState._shared_state)
        train("focal", dataset, epochs=1, precision="no", out=tmp_path / "run")
        assert AcceleratorState._shared_state == before
        assert accelerator.mixed_precision == "bf16"
        with accelerator.autocast():
            assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16
    finally:
        AcceleratorState._reset_state()


@pytest.mark.fault("C18")
@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a GPU")
@pytest.mark.parametrize(
    ("variable", "precision", "message"),
    [
        (
            "cuda:0",
            "no",
            r"the device 'cuda:0' of the environment variable ACCELERATE_TORCH_DEVICE cannot be used \(",
        ),
        ("cuda:7", "no", r"the device 'cuda:7' .*; unset it, or name another device, such as cpu or cuda:0"),
        ("gpu", "no", r"the device 'gpu' .*; unset it, or name another device, such as cpu or cuda:0"),
        (None, "fp16", "`{}precision` 'fp16' needs a GPU, and this is a training on the CPU; choose 'no' or 'bf16'"),
    ],
)
def test_a_device_that_does_not_exist_is_named_before_the_data_are_read(
    tmp_path, monkeypatch, variable, precision, message
):
    if variable is not None:
        monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", variable)
    nowhere, out = tmp_path / "nowhere", tmp_path / "out"  # reading the data would be another error
    for function, options in ((train, {"strategy": "focal"}), (compare, {"strategies": ["focal"]})):
        with pytest.raises(ArgumentError, match=message.format("")):
            function(data=nowhere, precision=precision, out=out, **options)
    for command in (("train", nowhere, "--strategy", "focal"), ("compare", nowhere)):
        (line,) = call(*command, "--precision", precision, "--out", out, code=2).stderr.splitlines()
        assert line.startswith("error: `--precision` 'fp16'" if variable is None else f"error: the device '{variable}'")
    assert not out.exists()


@pytest.mark.fault("C18")
def test_a_device_without_bfloat16_is_named(monkeypatch):
    monkeypatch.setattr(loop, "is_bf16_available", lambda: False)
    with pytest.raises(ArgumentError, match=r"`precision` 'bf16' is not supported by the device .*; choose 'no' or"):
        check_device("bf16")
    check_device("no")


def test_the_cpu_is_used_on_request(monkeypatch):
    asked = []
    monkeypatch.setattr(loop, "PartialState", lambda cpu: asked.append(cpu))
    loop.distributed_state()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    loop.distributed_state()
    assert asked == [False, True]
    assert PartialState().device.type in ("cpu", "cuda")
