"""The script that runs everything on a GPU: it refuses to measure without one, and skips what is done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "on_gpu.sh"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable}
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_run(tmp_path):
    done = run(tmp_path / "results")
    assert done.returncode == 2
    assert "torch sees no GPU here; nothing was run" in done.stdout
    assert not any((tmp_path / "results").iterdir())


def test_finished_steps_are_skipped(tmp_path):
    steps = ("environment", "tests", "memcheck", "racecheck", "kernels", "training")
    for step in steps:
        (tmp_path / f"{step}.done").touch()
    done = run("--rehearse", tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[:-1] == [f"{step}: done before" for step in steps]
