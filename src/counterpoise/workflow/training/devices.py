"""The device of a training, and the processes that share it: checked before any work, joined on first use."""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import is_bf16_available, parse_flag_from_env

from counterpoise.core.errors import ArgumentError
from counterpoise.core.text import plural

_VARIABLE = "ACCELERATE_TORCH_DEVICE"


def checked_device(device: Any) -> torch.device | None:
    """The device that a name such as "cuda:1" means; None for "auto".

    Raises:
        ArgumentError: the name is not that of a device, or the device does not exist.
    """
    if device == "auto":
        return None
    current = torch.accelerator.current_accelerator()
    kinds = {"cpu", "cuda", "mps"} | (set() if current is None else {current.type})
    name = str(device) if isinstance(device, str | torch.device) else ""
    if not re.fullmatch(rf"cpu|({'|'.join(kinds - {'cpu'})})(:\d{{1,4}})?", name):
        raise ArgumentError(f"`device` must be auto, cpu, cuda, cuda:N with a whole number N, or mps; got {device!r}")
    chosen = torch.device(name)
    if chosen.type != "cpu" and (reason := _missing(chosen)):
        raise ArgumentError(f"`device` {name!r} does not exist: {reason}; choose auto or cpu")
    return chosen


def _missing(device: torch.device) -> str | None:
    """Why a GPU cannot be used, or None if it can."""
    module = torch.mps if device.type == "mps" else torch.get_device_module(device)
    number = module.device_count()
    if device.type == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return "this PyTorch is built without CUDA"
    if not number:
        return f"PyTorch finds no {device.type} device on this machine"
    if _index(device, 0) >= number:
        return f"the last one on this machine is {device.type}:{number - 1}"
    return _refusal(device)


def _index(device: torch.device, default: int) -> int:
    """The number in the name of a device, or the default where it has none."""
    return int(str(device).partition(":")[2] or default)


def _refusal(device: torch.device | str) -> str | None:
    """The error of PyTorch when it makes a tensor on a device, in one line; None if there is none."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # an assertion of a torch that has no CUDA
        return str(error).strip().splitlines()[0]
    return None


def distributed_state() -> PartialState:
    """The processes that share this run, joined on first use; without a launcher there is only this one."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (several and not torch.cuda.is_available())
    state = PartialState(cpu=cpu)
    if several:
        _leave_group_at_exit()
    return state


def check_device(precision: str, device: Any = "auto") -> torch.device:
    """The device to train on, if it exists and has this precision; "auto" is the choice of accelerate.

    Raises:
        ArgumentError: it does not exist or cannot compute in this precision, or several processes were launched and it
            is not theirs.
    """
    chosen = checked_device(device)
    name = os.environ.get(_VARIABLE)
    if chosen is None and name is not None and (reason := _refusal(name)):
        raise ArgumentError(
            f"the device {name!r} of the environment variable {_VARIABLE} cannot be used ({reason}); unset "
            "it, or name another device, such as cpu or cuda:0"
        )
    used, processes = used_device(chosen), distributed_state().num_processes
    if processes > 1:
        used = used_device(None)
        if chosen is not None and str(chosen) != used.type:
            raise ArgumentError(
                f"`device` {str(chosen)!r} is for one process, and {processes} were launched, which train on "
                f"{used.type}; leave it out, and choose the devices in the launcher (CUDA_VISIBLE_DEVICES)"
            )
    if precision == "fp16" and used.type == "cpu":
        raise ArgumentError("`precision` 'fp16' needs a GPU, and this is a training on the CPU; choose 'no' or 'bf16'")
    if precision == "bf16" and not is_bf16_available():
        raise ArgumentError(f"`precision` 'bf16' is not supported by the device {str(used)!r}; choose 'no' or 'fp16'")
    return used


def used_device(device: torch.device | None) -> torch.device:
    """The device itself, or for None the choice of accelerate."""
    choice: torch.device = distributed_state().device
    return choice if device is None else device


@contextmanager
def training_device(device: torch.device | None) -> Iterator[None]:
    """Let the block train on this device in a precision of its own; None is the choice of accelerate.

    accelerate keeps the device of a process, and the precision of its first Accelerator, and refuses any other. What
    the caller had, an Accelerator and torch's random states, is as before after the block.
    """
    used = used_device(device)
    states = (AcceleratorState._shared_state, PartialState._shared_state)
    before = [dict(state) for state in states]
    AcceleratorState._reset_state()
    PartialState._shared_state["device"] = used
    is_gpu = used.type == "cuda"
    forked = [_index(used, torch.cuda.current_device())] if is_gpu else []
    try:
        with torch.random.fork_rng(devices=forked), torch.cuda.device(used) if is_gpu else nullcontext():
            yield
    finally:
        for state, values in zip(states, before, strict=True):
            state.clear()
            state.update(values)


def device_text(device: torch.device) -> str:
    """A device for readers and for run.json: the name of the GPU, or the number of threads and cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"CPU, {plural(torch.get_num_threads(), 'thread')} of {plural(os.cpu_count() or 1, 'core')}"
    return str(device)


@cache
def _leave_group_at_exit() -> None:
    """Leave the process group in order: if one process just ends, threads of the others that still listen abort."""
    atexit.register(PartialState().destroy_process_group)
