"""Every example runs as a user would run it, without a network, and says what it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from counterpoise import audit, load

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {
    "huggingface_image_classification.py": "transformers",
    "keras_dog_or_not.py": "keras",
    "lightning_imbalanced.py": "lightning",
}
"""The extra that an example needs, where it is more than the package itself."""


def output(name: str, **environment: str) -> str:
    """What an example prints; it must exit with 0 and leave nothing on stderr but warnings of the frameworks."""
    if find_spec(NEEDS.get(name, "torch")) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def numbers(text: str) -> dict[str, float]:
    """``name: 0.123`` on each line."""
    return {
        name.strip(): float(value) for name, value in re.findall(r"^([^:\n]+):\D*?([\d.]+)\s*$", text, re.MULTILINE)
    }


def test_every_example_is_run_here() -> None:
    written = {path.name for path in EXAMPLES.glob("*.py")}
    source = "".join(file.read_text("utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    assert written
    assert {name for name in written if name not in source} == set()


def test_sklearn_prior_adjusted() -> None:
    text = output("sklearn_prior_adjusted.py")
    scores, estimated, true = text.partition("estimated")[0], *re.findall(r"\[(.*)\]", text)
    found = numbers(scores.replace("balanced accuracy ", ""))
    assert found["prior-adjusted"] > found["plain"] + 0.02
    shares, expected = ([float(x) for x in line.split()] for line in (estimated, true))
    assert min(shares) > 0
    assert max(abs(a - b) for a, b in zip(shares, expected, strict=True)) < 0.1


def test_draw_vehicles(tmp_path: Path) -> None:
    """The folder of the tutorial: class folders with one broken file and one picture in two classes."""
    command = [
        sys.executable,
        str(EXAMPLES / "draw_vehicles.py"),
        "photos",
        "--counts",
        "car=9,truck=5",
        "--new",
        "new",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["photos: 9 × car, 5 × truck", "new: 30 pictures"]
    result = audit(load(tmp_path / "photos"))
    assert [c.train + c.val + c.test for c in result.classes] == [10, 5]
    assert [fault.path for fault in result.quarantined] == ["truck/download.jpg"]
    assert [f.about for f in result.findings if f.severity == "error"] == [("car/copy.jpg", "truck/0003.jpg")]


def test_keras_dog_or_not() -> None:
    lines = output("keras_dog_or_not.py", COUNTERPOISE_DATA="", LIMIT="2000").splitlines()
    assert lines[0].endswith("backend, weights: {0: 5.0, 1: 0.556}")
    plain, weighted = (float(line.rpartition(" ")[2]) for line in lines[1:])
    assert weighted > plain + 0.1


def test_lightning_imbalanced() -> None:
    found = numbers(output("lightning_imbalanced.py"))
    assert found["deferred_reweighting"] == 1.0
    assert 0.3 < found["val_balanced_accuracy"] <= 1.0
