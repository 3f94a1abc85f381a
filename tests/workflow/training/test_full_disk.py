"""A disk that is full while an earlier run is replaced: the earlier run stays, and the new one can be resumed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.workflow.blobs import blobs

from counterpoise.core.errors import WriteError
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.training import train

ROOT = Path(__file__).parents[3]
LARGE = 50_000
"""Bytes; models and checkpoints have more, the other files of these runs less."""


def start(function, out: Path, **options):
    """Train or compare for one epoch; a comparison has three runs."""
    if function is train:
        return train("focal", blobs(), epochs=1, out=out, **options)
    chosen = ["focal", "post-hoc-logit-adjusted"]
    return compare(blobs(), strategies=chosen, seeds=1, epochs=1, out=out, **options)


@pytest.fixture(scope="module", params=[train, compare], ids=["train", "compare"])
def finished(request, tmp_path_factory):
    """A function and the folder that it has filled."""
    out = tmp_path_factory.mktemp("full") / "old"
    start(request.param, out)
    (out / "notes.txt").write_text("mine")
    return request.param, out


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and ".counterpoise-new" not in p.parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def fill_the_disk(monkeypatch, is_full):
    """Let the writes of files fail for which ``is_full(number of writes, bytes)``; returns the list of writes."""
    fsync, writes = os.fsync, []

    def write(handle):
        writes.append(os.fstat(handle).st_size)
        if is_full(len(writes), writes[-1]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", write)
    return writes


@pytest.mark.slow
@pytest.mark.fault("C2")
@pytest.mark.fault("D31")
def test_the_old_files_survive_a_disk_that_is_full_from_any_write_on(finished, tmp_path, monkeypatch):
    function, old = finished
    before = contents(old)
    with monkeypatch.context() as patched:
        number = len(fill_the_disk_and_start(patched, function, tmp_path / "all", lambda count, size: False))
    assert number > (8 if function is train else 20)
    for first in range(1, number + 1, 1 if function is train else 4):
        out = tmp_path / str(first)
        shutil.copytree(old, out)
        with monkeypatch.context() as patched:
            message = r"^cannot write to .*: No space left on device; free space on this disk, or write to another"
            with pytest.raises(WriteError, match=message):
                fill_the_disk_and_start(patched, function, out, lambda count, size, first=first: count >= first)
        assert contents(out) == before, first
        assert not list(out.rglob("*.tmp"))


def fill_the_disk_and_start(monkeypatch, function, out, is_full):
    writes = fill_the_disk(monkeypatch, is_full)
    start(function, out, overwrite=True)
    return writes


@pytest.mark.fault("C2")
@pytest.mark.fault("D31")
def test_the_old_files_survive_a_disk_with_no_space_for_large_files(finished, tmp_path, monkeypatch):
    # The small records of failed runs could still be written, and would replace a comparison that is whole.
    function, old = finished
    before = contents(old)
    assert max(map(len, before.values())) > LARGE
    out = tmp_path / "out"
    shutil.copytree(old, out)
    with (
        monkeypatch.context() as patched,
        pytest.raises(WriteError, match=r"cannot write to .*\.safetensors: No space"),
    ):
        fill_the_disk_and_start(patched, function, out, lambda count, size: size > LARGE)
    assert contents(out) == before
    start(function, out, resume=True)  # there is space again
    assert contents(out).keys() == before.keys()
    assert contents(out)["notes.txt"] == b"mine"
    assert not (out / ".counterpoise-new").exists()


TMPFS = """
import os, sys
from pathlib import Path
from tests.workflow.training.test_full_disk import contents, start
from counterpoise.core.errors import WriteError
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.training import train
function, disk = {"train": train, "compare": compare}[sys.argv[1]], Path(sys.argv[2])
start(function, disk / "old")
before = contents(disk / "old")
for left in (200_000, 20_000, 0):
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "ballast").write_bytes(bytes(max(0, free - left)))
    try:
        start(function, disk / "old", overwrite=True)
    except WriteError as error:
        assert "No space left on device; free space on this disk" in str(error), error
    else:
        raise AssertionError("the disk was not full")
    assert contents(disk / "old") == before
    (disk / "ballast").unlink()
start(function, disk / "old", resume=True)
print("done")
"""


@pytest.mark.slow
@pytest.mark.fault("C2")
@pytest.mark.fault("D31")
@pytest.mark.skipif(sys.platform != "linux", reason="a file system in memory, as Linux has it")
@pytest.mark.parametrize("function", ["train", "compare"])
def test_the_old_files_survive_on_a_small_disk_that_is_really_full(tmp_path, function):
    mounted = f"mount -t tmpfs -o size=40m tmpfs {tmp_path}"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "sh", "-c", mounted], check=False).returncode:
        pytest.skip("this process may not mount a file system")
    script = f'{mounted} && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", TMPFS, function, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr
