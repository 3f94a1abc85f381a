"""A comparison of many classes: its files grow with classes and images, and nothing with the square of the classes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from counterpoise.core.artifacts import Comparison
from counterpoise.core.confusion import ConfusionMatrix
from counterpoise.workflow.report import render

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "comparison_scale.py"
SPEC = importlib.util.spec_from_file_location("comparison_scale", SCRIPT)
scale = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(scale)

CLASSES, STRATEGIES = 1000, 2
EVALUATIONS = 2 * STRATEGIES


def peak(run: Callable[[], object]) -> int:
    """The most bytes that Python and NumPy hold during a call beyond those before it."""
    tracemalloc.start()
    run()
    bytes_ = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return bytes_


@pytest.fixture(scope="module")
def made() -> Comparison:
    return scale.comparison(CLASSES, STRATEGIES, 1)


@pytest.fixture(scope="module")
def saved(made: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scale") / "comparison.json"
    made.save(path)
    return path


def test_files_grow_with_classes_and_cells(made: Comparison, saved: Path):
    cells = sum(len(e.confusion.counts) for arm in made.arms for e in (*arm.validation, *arm.test))
    weights = scale.EPOCHS * CLASSES * 8
    arrays = next(saved.parent.glob("*.npz")).stat().st_size
    assert cells < EVALUATIONS * CLASSES**2 / 15
    assert saved.stat().st_size < EVALUATIONS * CLASSES * 300
    assert arrays < 6 * cells + weights + 5000


def test_writing_reading_and_reporting_hold_no_dense_matrix(made: Comparison, saved: Path, tmp_path: Path):
    read = Comparison.load(saved)
    assert read == made
    half = EVALUATIONS * CLASSES**2 * 8 / 2
    assert peak(lambda: made.save(tmp_path / "c.json")) < half
    assert peak(lambda: Comparison.load(saved)) < half
    assert peak(lambda: render(read, tmp_path / "report.md")) < half


def test_no_stage_asks_for_the_dense_matrix(made: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a dense matrix or row was made")

    for name in ("__array__", "__getitem__", "__iter__"):
        monkeypatch.setattr(ConfusionMatrix, name, refuse)
    arm = scale.arm(scale.train_counts(200), "x", 0.5, range(2), weights=True)
    assert arm.scores["test"]["few_false_positives"].mean is not None
    made.save(tmp_path / "comparison.json")
    render(Comparison.load(tmp_path / "comparison.json"), tmp_path / "report.html")


def test_the_benchmark_prints_its_table(tmp_path: Path):
    command = [sys.executable, SCRIPT, "--classes=120", "--strategies=2", "--seeds=1", f"--keep={tmp_path}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["write", "read", "report"]
    assert [line.split()[0] for line in lines[4:7]] == sorted(file.name for file in tmp_path.iterdir())
    assert json.loads((tmp_path / "comparison.json").read_text())["version"] == 2
