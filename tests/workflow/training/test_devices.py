"""Device and precision of a training: checked before the data are read, and free to change within one process."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from tests.cli.test_cli import call

from counterpoise.core.artifacts import Predictions, Run
from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.training import check_device, checked_device, devices, distributed_state, run_folder, train
from counterpoise.workflow.training.loop import TrainingLoop


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


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("bla", "`{}` must be auto, cpu, cuda, cuda:N with a whole number N, or mps; got 'bla'"),
        ("cuda:one", "`{}` must be auto, .*; got 'cuda:one'"),
        ("cpu:1", "`{}` must be auto, .*; got 'cpu:1'"),
        ("meta", "`{}` must be auto, .*; got 'meta'"),
        ("cuda:99", "`{}` 'cuda:99' does not exist: .+; choose auto or cpu"),
        ("mps:99", "`{}` 'mps:99' does not exist: .+; choose auto or cpu"),
    ],
)
def test_a_device_of_the_arguments_is_checked_before_the_data_are_read(tmp_path, device, message):
    nowhere, out = tmp_path / "nowhere", tmp_path / "out"
    for function, options in ((train, {"strategy": "focal"}), (compare, {"strategies": ["focal"]})):
        with pytest.raises(ArgumentError, match=f"^{message.format('device')}$"):
            function(data=nowhere, device=device, out=out, **options)
    for command in (("train", nowhere, "--strategy", "focal"), ("compare", nowhere)):
        (line,) = call(*command, "--device", device, "--out", out, code=2).stderr.splitlines()
        assert re.fullmatch(f"error: {message.format('--device')}", line)
    with pytest.raises(ArgumentError, match=r"`device` must be auto, .*; got 0"):
        checked_device(0)
    assert not out.exists()


def test_a_gpu_whose_number_is_too_large_or_that_refuses_is_named(monkeypatch):
    """On a machine that PyTorch believes to have two GPUs and that has none."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        ArgumentError, match=r"^`device` 'cuda:2' does not exist: the last one on this machine is cuda:1;"
    ):
        checked_device("cuda:2")
    if not torch.cuda.is_available():
        with pytest.raises(
            ArgumentError, match=r"^`device` 'cuda:1' does not exist: .*(CUDA|NVIDIA).*; choose auto or cpu$"
        ):
            checked_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ArgumentError, match="'cuda' does not exist: PyTorch finds no cuda device on this machine;"):
        checked_device("cuda")


def test_the_device_asked_for_is_the_one_that_trains_and_the_state_of_accelerate_stays(dataset, tmp_path, monkeypatch):
    """On a machine whose first choice cannot compute: the meta device of PyTorch has no values."""
    trained_on = []
    run_epoch = TrainingLoop.run_epoch

    def watched(self, progress):
        trained_on.append((self.accelerator.device, next(self.model.parameters()).device))
        return run_epoch(self, progress)

    monkeypatch.setattr(TrainingLoop, "run_epoch", watched)
    monkeypatch.setattr(devices, "_refusal", lambda device: None)
    state = PartialState._shared_state
    distributed_state()
    before = dict(state)
    try:
        state["device"] = torch.device("meta")
        train("baseline", dataset, epochs=1, device="cpu", out=tmp_path / "run")
        assert state["device"] == torch.device("meta")
    finally:
        state.clear()
        state.update(before)
    assert trained_on == [(torch.device("cpu"), torch.device("cpu"))]
    assert Run.load(tmp_path / "run" / "run.json").environment["device"].startswith("CPU, ")


def test_a_device_cannot_be_chosen_for_one_of_several_processes(monkeypatch):
    monkeypatch.setitem(PartialState._shared_state, "num_processes", 2)
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("cuda:1"))
    assert check_device("no") == torch.device("cuda:1")
    with pytest.raises(
        ArgumentError, match="`device` 'cpu' is for one process, and 2 were launched, which train on cuda"
    ):
        check_device("no", "cpu")
    monkeypatch.setattr(devices, "checked_device", torch.device)
    assert check_device("no", "cuda") == torch.device("cuda:1")
    with pytest.raises(ArgumentError, match="`device` 'cuda:0' is for one process"):
        check_device("no", "cuda:0")


def test_a_run_that_is_resumed_on_another_device_records_both(dataset, tmp_path, monkeypatch):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_folder, "device_text", lambda device: "NVIDIA One")
    with pytest.raises(KeyboardInterrupt):
        train("baseline", dataset, epochs=3, out=tmp_path, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        train("baseline", dataset, epochs=3, out=tmp_path, resume=True, progress=stop)
    monkeypatch.setattr(run_folder, "device_text", lambda device: "NVIDIA Two")
    run = train("baseline", dataset, epochs=3, out=tmp_path, resume=True)
    assert run.environment["device"] == "NVIDIA One; from step 2: NVIDIA Two"
    assert train("baseline", dataset, epochs=3, out=tmp_path, resume=True) == run


@pytest.mark.fault("C18")
def test_a_device_without_bfloat16_is_named(monkeypatch):
    monkeypatch.setattr(devices, "is_bf16_available", lambda: False)
    with pytest.raises(ArgumentError, match=r"`precision` 'bf16' is not supported by the device .*; choose 'no' or"):
        check_device("bf16")
    check_device("no")


def test_the_cpu_is_used_on_request(monkeypatch):
    asked = []
    monkeypatch.setattr(devices, "PartialState", lambda cpu: asked.append(cpu))
    devices.distributed_state()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    devices.distributed_state()
    assert asked == [False, True]
    assert PartialState().device.type in ("cpu", "cuda")
