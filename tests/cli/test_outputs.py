"""Files and folders that commands write to: another process, a file in the way, no permission, a full disk."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.cli.photos import call, write_photos
from tests.cli.test_cli import SHORT

import counterpoise.workflow.comparison  # noqa: F401 - imported before its parts are patched
from counterpoise.core.files import locked
from counterpoise.workflow.training.run_folder import CHECKPOINTS, RunFolder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Class folders: 24 red, 8 green and 6 blue images."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def run_folder(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    call("train", photos, "--strategy", "focal", "--out", out, *SHORT)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and every folder (which has no bytes)."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def refused(*arguments: object) -> str:
    """The error that a command prints in one line; it exits with 2."""
    result = call(*arguments, code=2)
    *notes, line = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(note.startswith("digits: ") for note in notes)  # of demo
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
    runs = [RunFolder(tmp_path / f"out/runs/{name}-seed0") for name in ("baseline", "focal")]
    for _ in range(1200):
        if all(_has_checkpoint(run) for run in runs):
            break
        time.sleep(0.05)
    child.send_signal(sent)
    stdout, stderr = child.communicate(timeout=60)  # the workers have these pipes, too: they have ended
    interrupted = ["error: interrupted; finished work is kept, --resume continues from there"]
    plan, *lines = stderr.splitlines()
    assert plan.endswith(": 2 runs × 1,000 epochs")
    said = [line for line in lines if " left, estimated from the first " not in line]
    assert (stdout, said) == ("", interrupted if sent == signal.SIGINT else [])
    assert child.returncode == (130 if sent == signal.SIGINT else -sent)
    assert all(_has_checkpoint(run) for run in runs)


def _has_checkpoint(run: RunFolder) -> bool:
    """Whether a run can be resumed; while one checkpoint is written, only the previous one has its name."""
    return any((run.path / name).exists() for name in CHECKPOINTS)


def _give_up_privileges() -> None:
    """Let permissions apply to this thread, also where root runs the tests."""
    if os.geteuid() == 0:
        header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        ctypes.CDLL(None).capset(header, none)


@pytest.fixture
def as_a_user(tmp_path):
    """A function that calls a command in a thread to which permissions apply."""
    if sys.platform != "linux":
        pytest.skip("capabilities of Linux")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0)
    with ThreadPoolExecutor(1, initializer=_give_up_privileges) as thread:
        if thread.submit(os.access, tmp_path / "secret", os.R_OK).result():
            pytest.skip("permissions do not apply to this process")
        (tmp_path / "secret").unlink()
        yield lambda function, *arguments: thread.submit(function, *arguments).result()
    for path in (tmp_path, *(p for p in tmp_path.rglob("*") if p.is_dir())):
        path.chmod(0o755)


def outputs(photos: Path, run: Path) -> dict[str, tuple[object, ...]]:
    """Every command that writes, up to its output folder or file."""
    return {
        "train": ("train", photos, "--strategy", "focal", *SHORT, "--out"),
        "compare": ("compare", photos, "--strategies", "focal", "--seeds", "1", "--jobs", "1", *SHORT, "--out"),
        "audit": ("audit", photos, "--out"),
        "augment": ("augment", photos, "--out"),
        "augment --dry-run": ("augment", photos, "--dry-run", "--out"),
        "demo": ("demo", "--out"),
        "explain": ("explain", "focal", "--out"),
        "report": ("report", run, "--to"),
    }


COMMANDS = tuple(outputs(Path(), Path()))


@pytest.mark.fault("D25")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_may_not_be_written_to_is_refused_before_any_work(
    photos, run_folder, tmp_path, as_a_user, monkeypatch, command
):
    # No image is decoded, no model is trained and no figure is drawn for a result that could not be saved.
    monkeypatch.setattr("counterpoise.workflow.training.TrainingSetup.prepare", None)
    monkeypatch.setattr("counterpoise.workflow.audit.audit", None)
    arguments, is_file = outputs(photos, run_folder)[command], command in ("explain", "report")
    read_only, closed, file = tmp_path / "read-only", tmp_path / "closed", tmp_path / "file"
    for folder in (read_only, closed):
        folder.mkdir()
    file.write_text("mine")
    before, data = contents(tmp_path), contents(photos)
    read_only.chmod(0o555)
    closed.chmod(0)
    places = [
        (read_only, "Permission denied; check"),
        (read_only / "new", "Permission denied; check"),
        (read_only / "new/deep", "Permission denied; check"),
        (closed, "Permission denied; check"),
        (closed / "new", "Permission denied; check"),
        (file, "name a folder"),
        (file / "new", "Not a directory; write to another folder"),
        (tmp_path / ("x" * 300), "File name too long; write to another folder"),
        (Path("/proc/counterpoise"), ""),
    ]
    for place, reason in places:
        named = place / "page.md" if is_file else place
        reason = "" if is_file and place == file else reason
        line = as_a_user(refused, *arguments, named)
        assert str(named) in line
        assert reason in line
    closed.chmod(0o755)
    assert contents(tmp_path) == before
    assert contents(photos) == data


@pytest.mark.fault("D25")
@pytest.mark.parametrize("command", ["train", "compare", "audit", "augment"])
def test_the_output_does_not_go_into_the_data(photos, tmp_path, command):
    arguments, before = outputs(photos, Path())[command], contents(photos)
    (tmp_path / "link").symlink_to(photos)
    for place in (photos / "new", photos / "red" / "new", tmp_path / "link" / "new", photos / ".." / "photos" / "new"):
        line = refused(*arguments, place)
        assert "lie inside each other" in line if command == "augment" else "is inside the data" in line
        assert str(place) in line
    for place in (photos, tmp_path / "link"):
        assert str(place) in refused(*arguments, place)
        if command != "augment":
            assert "is inside the data" in refused(*arguments, place, "--overwrite")
    assert contents(photos) == before


@pytest.mark.fault("D25")
@pytest.mark.parametrize("command", ["train", "compare", "audit"])
def test_a_link_to_a_folder_is_written_through_and_another_is_not_replaced(photos, tmp_path, command):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    arguments = outputs(photos, Path())[command]
    call(*arguments, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(contents(tmp_path / "real")) >= 2
    assert "File exists; write to another folder" in refused(*arguments, tmp_path / "dangling")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.fault("D25")
def test_a_page_replaces_a_link_and_not_the_file_that_the_link_names(run_folder, tmp_path):
    (tmp_path / "thesis.html").write_text("mine")
    for command in (("report", run_folder, "--to"), ("explain", "focal", "--overwrite", "--out")):
        (tmp_path / "link.html").unlink(missing_ok=True)
        (tmp_path / "link.html").symlink_to(tmp_path / "thesis.html")
        call(*command, tmp_path / "link.html")
        assert (tmp_path / "thesis.html").read_text() == "mine"
        assert not (tmp_path / "link.html").is_symlink()


@pytest.mark.fault("R9")
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_results_that_may_not_be_read_are_named(photos, run_folder, tmp_path, as_a_user, mode):
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    train = outputs(photos, run)["train"]
    denied = "Permission denied"
    for name in ("run.json", "predictions-test.npz", "predictions-val.npz"):
        (run / name).chmod(0)
    assert f"{run / 'run.json'} cannot be read as JSON: {denied}" in as_a_user(refused, "report", run)
    assert f"{run / 'run.json'} cannot be read as JSON: {denied}" in as_a_user(refused, *train, run, "--resume")
    assert f"{run / 'run.json'} cannot be read as JSON: {denied}" in as_a_user(refused, "evaluate", run)
    (run / "run.json").chmod(0o644)
    assert "predictions-test.npz cannot be read" in as_a_user(refused, "evaluate", run)
    (run / "predictions-test.npz").chmod(0o644)
    tuned = as_a_user(refused, "evaluate", run, "--tune", "temperature")
    assert "predictions-val.npz cannot be read" in tuned
    assert "predictions-val.npz cannot be read: Permission denied" in as_a_user(refused, *train, run, "--resume")
    run.chmod(mode)  # without the permission to enter the folder
    for command in (("report", run), ("evaluate", run), ("evaluate", run / "predictions-test.npz")):
        line = as_a_user(refused, *command)
        assert str(run) in line
        assert f"cannot be read: {denied}; check its permissions" in line
    for option in ("--resume", "--overwrite"):
        assert denied in as_a_user(refused, *train, run, option)


@pytest.mark.fault("R9")
def test_inputs_that_may_not_be_read_are_named(photos, tmp_path, as_a_user):
    for name in ("counts.json", "tree.yaml", "list.csv"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0)
    closed = tmp_path / "closed"
    (closed / "cat").mkdir(parents=True)
    closed.chmod(0)
    hierarchical = ("train", photos, "--strategy", "hierarchical", "--out", tmp_path / "out", "--tree")
    commands = [
        ("weights", tmp_path / "counts.json"),
        ("weights", closed / "counts.json"),
        ("audit", tmp_path / "list.csv"),
        ("audit", closed),
        ("plan", closed / "cat"),
        (*hierarchical, tmp_path / "tree.yaml"),
        (*hierarchical, closed / "tree.yaml"),
    ]
    for command in commands:
        line = as_a_user(refused, *command)
        assert "Permission denied" in line
        assert Path(command[-1]).name in line
    assert not (tmp_path / "out").exists()
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/augmented.csv").write_text("file,source\n")
    (tmp_path / "photos/augmented.csv").chmod(0)
    assert "augmented.csv cannot be read: Permission denied" in as_a_user(refused, "plan", tmp_path / "photos")


@pytest.mark.parametrize("place", ["counterpoise.workflow.audit.audit", "counterpoise.workflow.report.render"])
def test_an_interrupted_audit_leaves_the_earlier_result_and_no_partial_one(photos, tmp_path, monkeypatch, place):
    call("audit", photos, "--out", tmp_path / "out")
    before = contents(tmp_path / "out")

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    again = ("audit", photos, "--val-fraction", "0.5", "--out")
    with monkeypatch.context() as patched:
        patched.setattr(place, interrupted)
        assert call(*again, tmp_path / "out", "--overwrite", code=130).stderr == "error: interrupted\n"
        call(*again, tmp_path / "new", code=130)
    after = {name: data for name, data in contents(tmp_path / "out").items() if ".counterpoise-new" not in name}
    assert after == before
    assert not (tmp_path / "new/audit.html").exists()
    call(*again, tmp_path / "out", "--overwrite")
    assert contents(tmp_path / "out").keys() == before.keys()
    assert contents(tmp_path / "out") != before


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_audit_that_is_ended_while_it_reads_leaves_nothing(photos, tmp_path):
    wait = "lambda *_, **__: (print(1, flush=True), time.sleep(60))"
    script = f"import time, counterpoise.workflow.audit as stage; stage.audit = {wait}"
    script += "; from counterpoise.cli import main; main()"
    child = subprocess.Popen(
        [sys.executable, "-c", script, "audit", str(photos), "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline() == "1\n"
    child.terminate()
    assert child.communicate(timeout=30) == ("", "")
    assert child.returncode == -signal.SIGTERM
    assert not (tmp_path / "out").exists()
