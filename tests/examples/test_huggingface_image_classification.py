"""The example runs without a network, and the rare classes are seen by every way but the plain one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("datasets")

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^(\S.*?)\s+(\d\.\d+)\s+(\d\.\d+)\s+(\d\.\d+) / (\d\.\d+) / (\d\.\d+)$", re.MULTILINE)


@pytest.mark.slow
def test_the_ways_differ_on_the_rare_classes() -> None:
    script = str(ROOT / "examples" / "huggingface_image_classification.py")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::UserWarning", script, "--max-steps", "60"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    rows = {name: [float(x) for x in numbers] for name, *numbers in ROW.findall(done.stdout)}
    assert list(rows) == ["plain", "class-balanced loss", "logit-adjusted loss", "class-balanced sampler"]
    plain = rows.pop("plain")
    for accuracy, macro_f1, *recalls in rows.values():
        assert accuracy > plain[0] + 0.05
        assert macro_f1 > plain[1] + 0.05
        assert recalls[2] > plain[4] + 0.1
