"""Files and folders that commands write to: another process, a file in the way, no permission, a full disk."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.test_cli import call

from counterpoise.core.files import locked


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Class folders: 24 red, 8 green and 6 blue images."""
    root = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for name, n, channel in (("red", 24, 0), ("green", 8, 1), ("blue", 6, 2)):
        (root / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 90, (12, 10, 3))
            pixels[..., channel] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i:02}.png")
    return root


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and every folder (which has no bytes)."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def refused(*arguments: object) -> str:
    """The only line that a command prints; it exits with 2."""
    result = call(*arguments, code=2)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert result.stdout == ""
    return line


@pytest.mark.fault("C15")
@pytest.mark.parametrize(
    ("command", "work"),
    [("audit", "counterpoise.workflow.audit.audit"), ("augment", "counterpoise.workflow.augmentation.augment")],
)
def test_a_folder_that_another_process_fills_or_locks_meanwhile_is_left_alone(
    photos, tmp_path, monkeypatch, command, work
):
    module, _, name = work.rpartition(".")
    function, out = getattr(importlib.import_module(module), name), tmp_path / "out"

    def after_another_process(*arguments, **options):
        out.mkdir()
        (out / "audit.json").write_text("theirs")
        return function(*arguments, **options)

    monkeypatch.setattr(work, after_another_process)
    assert "holds other files (audit.json)" in refused(command, photos, "--out", out)
    assert contents(out) == {"audit.json": b"theirs"}
    monkeypatch.undo()
    with locked(tmp_path / "busy"):
        assert "another process is writing to" in refused(command, photos, "--out", tmp_path / "busy")
    assert list((tmp_path / "busy").iterdir()) == []


@pytest.mark.fault("C15")
def test_a_folder_is_claimed_under_its_lock(photos, tmp_path, monkeypatch):
    from counterpoise.core import files

    lock = files.locked

    def locked_after_another_process(folder):
        folder.mkdir()
        (folder / "report.html").write_text("theirs")
        return lock(folder)

    monkeypatch.setattr(files, "locked", locked_after_another_process)
    for command in ("audit", "augment"):
        assert "holds other files (report.html)" in refused(command, photos, "--out", tmp_path / command)
        assert contents(tmp_path / command) == {"report.html": b"theirs"}


def test_audit_overwrites_its_own_files_and_no_others(photos, tmp_path):
    call("audit", photos, "--out", tmp_path / "out")
    (tmp_path / "out/notes.txt").write_text("mine")
    before = contents(tmp_path / "out")
    call("audit", photos, "--out", tmp_path / "out", "--overwrite", "--val-fraction", "0.5")
    after = contents(tmp_path / "out")
    assert after.keys() == before.keys() == {"audit.json", "audit.html", "notes.txt"}
    assert {name for name in after if after[name] == before[name]} == {"notes.txt"}


@pytest.mark.slow
@pytest.mark.fault("C10")
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_comparison_that_is_ended_leaves_no_process_and_says_no_more_than_one_line(tmp_path, sent):
    # A shell ignores Ctrl-C in a background job, and its children inherit that.
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from counterpoise.cli import main"
    asked = ("compare", "digits", "--jobs", "2", "--epochs", "1000", "--seeds", "1", "--strategies", "focal")
    child = subprocess.Popen(
        [sys.executable, "-c", f"{start}; main()", *asked, "--out", str(tmp_path / "out")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    runs = [tmp_path / f"out/runs/{name}-seed0/checkpoint.safetensors" for name in ("baseline", "focal")]
    for _ in range(1200):
        if all(run.exists() for run in runs):
            break
        time.sleep(0.05)
    child.send_signal(sent)
    stdout, stderr = child.communicate(timeout=60)  # the workers have these pipes, too: they have ended
    interrupted = "error: interrupted; finished work is kept, --resume continues from there\n"
    assert (stdout, stderr) == ("", interrupted if sent == signal.SIGINT else "")
    assert child.returncode == (130 if sent == signal.SIGINT else -sent)
    assert all(run.exists() for run in runs)
