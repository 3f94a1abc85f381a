"""What a run ran on, for its record."""

from __future__ import annotations

import atexit
import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import torch
from accelerate import PartialState

__all__ = ["environment", "processes"]

_PACKAGES = ("counterpoise", "torch", "torchvision", "timm", "accelerate", "numpy", "scikit-learn", "pillow")


def processes() -> PartialState:
    """The processes that share this run, joined on first use; without a launcher this one is all there is."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    state = PartialState(cpu=several and not torch.cuda.is_available())
    if several:
        _leave_at_exit()
    return state


@cache
def _leave_at_exit() -> None:
    """Take the group down in order: a process that vanishes while another's threads still listen aborts the other."""
    atexit.register(PartialState().destroy_process_group)


def environment() -> dict[str, str]:
    """Versions of the packages that shape the numbers, and the machine."""
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return {**versions, "python": platform.python_version(), "system": platform.platform(terse=True), **_hardware()}


def _hardware() -> dict[str, str]:
    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(), "processor": _processor()}
    return {"device": f"CPU, {torch.get_num_threads()} threads of {os.cpu_count()} cores", "processor": _processor()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
