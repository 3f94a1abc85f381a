"""Headers of many files: several processes find what one finds, and no file is opened twice without a reason."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import pytest

from counterpoise.core import images as images_module
from counterpoise.core.images import find_duplicates
from counterpoise.workflow.audit import audit
from counterpoise.workflow.dataset import headers, load
from counterpoise.workflow.dataset.loading import _unique_names

CONTENT = {
    "a.jpg": ("JPEG", 1),
    "copy.jpg": ("JPEG", 1),
    "b.png": ("PNG", 2),
    "named.jpg": ("BMP", 3),
    "grey.bmp": ("BMP", 4),
    "empty.jpg": None,
    "x\udcff.jpg": ("JPEG", 5),
}


@pytest.fixture
def mixed(tmp_path, encoded) -> Path:
    """Five classes with sound files, copies, other formats than the names say, an empty file and a name in Latin-1."""
    root = tmp_path / "mixed"
    for c in range(5):
        (root / f"class{c}").mkdir(parents=True)
        for name, content in CONTENT.items():
            data = b"" if content is None else encoded(content[0], seed=10 * c + content[1])
            (root / f"class{c}" / name).write_bytes(data)
    return root


@pytest.fixture
def opened(monkeypatch) -> Counter[str]:
    """How often each file is opened and examined by name."""
    calls: Counter[str] = Counter()
    for name, prefix in (("open", ""), ("lstat", "lstat ")):
        real = getattr(os, name)

        def count(path, *rest, real=real, prefix=prefix, **named):
            if str(path).endswith((".jpg", ".png", ".bmp")):
                calls[f"{prefix}{path}"] += 1
            return real(path, *rest, **named)

        monkeypatch.setattr(os, name, count)
    return calls


def _settled(monkeypatch) -> None:
    """Take files that were written just now for old ones."""
    monkeypatch.setattr(images_module, "_SETTLED", -(10**15))


def _everything(root: Path) -> tuple[object, ...]:
    data = load(root)
    return audit(data), data.fingerprint, data.paths, data.splits.tolist(), data.renamed, data.states.sizes.tolist()


def test_processes_find_what_one_process_finds(mixed, monkeypatch):
    alone = _everything(mixed)
    assert len(alone[0].quarantined) == 5
    monkeypatch.setattr(headers, "_FEWEST_FOR_PROCESSES", 1)
    monkeypatch.setattr(headers, "_CHUNK", 4)
    monkeypatch.setattr(headers, "available_cores", lambda: 2)
    pids: list[int] = []
    real = headers.workers

    @contextmanager
    def counted(number: int):
        with real(number) as pool:
            yield pool
            pids.extend(pool.process_ids)

    monkeypatch.setattr(headers, "workers", counted)
    assert _everything(mixed) == alone
    assert len(set(pids)) == 2


@pytest.mark.parametrize("broken", [BrokenProcessPool("killed"), OSError(28, "no semaphores")])
def test_without_processes_the_rest_is_checked_in_this_one(mixed, monkeypatch, broken):
    alone = _everything(mixed)

    class Pool:
        def map(self, check, chunks):
            yield check(chunks[0])
            yield check(chunks[1])
            raise broken

    @contextmanager
    def fail(number: int):
        yield Pool()

    monkeypatch.setattr(headers, "_FEWEST_FOR_PROCESSES", 1)
    monkeypatch.setattr(headers, "_CHUNK", 3)
    monkeypatch.setattr(headers, "available_cores", lambda: 2)
    monkeypatch.setattr(headers, "workers", fail)
    assert _everything(mixed) == alone


def test_an_audit_opens_each_small_file_once_and_examines_it_once_more(mixed, opened, monkeypatch):
    _settled(monkeypatch)
    result = audit(load(mixed))
    assert [f.kind for f in result.findings if f.kind.startswith("repeated")] == ["repeated-images"]
    files = [str(path) for path in mixed.glob("*/*")]
    assert {path: opened[path] for path in files} == dict.fromkeys(files, 1)
    sound = [path for path in files if not path.endswith("empty.jpg")]
    assert {path: opened[f"lstat {path}"] for path in sound} == dict.fromkeys(sound, 1)


def test_a_large_file_is_hashed_once_if_another_has_its_size(tmp_path, encoded, opened, monkeypatch):
    _settled(monkeypatch)
    (tmp_path / "x/a").mkdir(parents=True)
    for i, (seed, size) in enumerate([(1, (100, 100)), (1, (100, 100)), (2, (100, 100)), (3, (120, 100))]):
        (tmp_path / f"x/a/{i}.bmp").write_bytes(encoded("BMP", seed=seed, size=size))
    data = load(tmp_path / "x")
    assert find_duplicates(data) == find_duplicates(data) == [[0, 1]]
    assert [opened[f"{tmp_path}/x/a/{i}.bmp"] for i in range(4)] == [2, 2, 2, 1]  # the header, and the content


@pytest.mark.parametrize("size", [(8, 6), (100, 100)])
def test_a_file_that_changes_after_loading_is_read_again(tmp_path, encoded, monkeypatch, size):
    (tmp_path / "x/a").mkdir(parents=True)
    for i in range(3):
        (tmp_path / f"x/a/{i}.bmp").write_bytes(encoded("BMP", seed=min(i, 1), size=size))
    data = load(tmp_path / "x")
    assert find_duplicates(data) == [[1, 2]]
    # Within the same tick of the clock of the file system: only a file that has been left alone is trusted.
    (tmp_path / "x/a/0.bmp").write_bytes(encoded("BMP", seed=1, size=size))
    monkeypatch.setattr(images_module, "time_of_change", lambda status: int(data.states.changed[0]))
    assert find_duplicates(data) == [[0, 1, 2]]
    monkeypatch.undo()
    _settled(monkeypatch)
    assert find_duplicates(data) == [[0, 1, 2]]
    (tmp_path / "x/a/1.bmp").write_bytes(encoded("BMP", seed=7, size=size))
    os.utime(tmp_path / "x/a/1.bmp", ns=(0, 10**18))
    assert find_duplicates(data) == [[0, 2]]


def test_what_is_known_of_the_files_follows_the_images(mixed, monkeypatch):
    _settled(monkeypatch)
    data = load(mixed)
    train = data.subset("train").quarantine({0: "x"})
    assert len(train.states) == len(train)
    sizes = [Path(train.file(i)).stat().st_size for i in range(len(train))]
    assert train.states.sizes.tolist() == sizes


def test_many_names_that_are_not_utf8_and_collide_are_told_apart():
    number = 20_000  # in a time that grows with the square of it, this would take minutes
    paths = [f"a/x\udcff{i}.jpg" for i in range(number)] + [f"a/x\\xff{i}.jpg" for i in range(number)]
    names, renamed = _unique_names(paths)
    assert names == [f"a/x\\xff{i}.jpg_" for i in range(number)] + paths[number:]
    assert renamed == dict(zip(names[:number], paths[:number], strict=True))
