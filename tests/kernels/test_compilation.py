"""Every variant of the kernels compiles for an H100, without spilling a register, and reads 16 bytes at a time."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("compiled.py")


def assembler() -> bool:
    found = importlib.util.find_spec("triton")
    return bool(found) and (Path(found.origin).parent / "backends/nvidia/bin/ptxas").exists()


# Shapes (by their place in the script's list) whose rows start on 16 bytes, and those whose rows cannot.
@pytest.mark.skipif(not assembler(), reason="Triton with its assembler for NVIDIA is not installed")
@pytest.mark.parametrize(
    ("shapes", "widest"),
    [("1,4", ".v4.b32"), ("2", ".b32"), ("5,6", ".v4.b32"), ("3,7", None), ("8", ".v2.b64"), ("", None)],
    ids=["many classes", "unaligned rows", "few classes and images", "half", "double", "sums and factors"],
)
def test_it_compiles_without_spilling(shapes, widest, tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, shapes], env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr[-3000:]
    variants = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(variants) >= 8
    assert [v for v in variants if v["spilled"]] == []
    # What all threads of a multiprocessor share: at more, fewer than two programs would run side by side.
    assert [v for v in variants if v["registers"] * v["warps"] * 32 > 65536] == []
    for v in variants:
        if widest and v["kernel"] == "softmax":
            assert widest in v["loads"], v
            assert ".b16" not in v["loads"], v
