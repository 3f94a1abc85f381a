"""The benchmark of `load` and `audit` runs at a small size, and its data are what it says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from counterpoise.workflow.audit import audit
from counterpoise.workflow.dataset import load
from counterpoise.workflow.dataset.manifest import read_manifest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "audit.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_audit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_prints_machine_versions_and_a_ratio_for_each_target(tmp_path):
    sizes = ["--files", "60", "--classes", "3", "--rows", "50", "--rounds", "1", "--folder", str(tmp_path)]
    run = subprocess.run([sys.executable, SCRIPT, *sizes], capture_output=True, text=True, timeout=120, check=True)
    first, *rows = run.stdout.splitlines()
    assert all(name in first for name in ("Python", "counterpoise", "polars", "cores", "load"))
    targets = [row for row in rows if "target" in row]
    assert len(targets) == 6
    assert all(row.endswith("met") or row.endswith("NOT MET") for row in targets)
    assert (tmp_path / "files-60-3").is_dir()


def test_the_files_are_sound_and_all_different(bench, tmp_path):
    bench.make_files(tmp_path / "files", 40, 4)
    data = load(tmp_path / "files", val_fraction=0, test_fraction=0)
    assert data.counts().counts.tolist() == [10] * 4
    assert not audit(data, deep=True).quarantined
    assert not [f for f in audit(data).findings if "image" in f.kind]


def test_the_manifest_has_every_row_once_in_the_order_given(bench, tmp_path):
    order = np.random.default_rng(0).permutation(30).tolist()
    bench.make_manifest(tmp_path / "all.csv", order, 3)
    numbers = [int(line.split(".jpg")[0][-7:]) for line in (tmp_path / "all.csv").read_text().splitlines()[1:]]
    assert numbers == order
    listing = read_manifest(tmp_path / "all.csv")
    assert not listing.quarantined
    assert np.bincount(listing.labels).tolist() == [10] * 3


def test_the_minimum_of_the_rounds_is_taken_and_a_missed_target_is_told(bench, capsys, monkeypatch):
    times = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.0, 30.0, 35.0])
    with monkeypatch.context() as patch:
        patch.setattr(bench.time, "perf_counter", lambda: next(times))
        took = bench.least({"a": lambda: None, "b": lambda: None}, 2)
    assert took == {"a": 2.0, "b": 1.0}
    bench.print_table([*bench.versus("x", 3.0, 2.0, "y", 1.5), *bench.versus("x", 3.1, 2.0, "y", 1.5)])
    assert [line.rpartition("  ")[2] for line in capsys.readouterr().out.splitlines()] == ["met", "NOT MET"]
