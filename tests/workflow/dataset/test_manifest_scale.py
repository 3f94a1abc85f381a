"""Manifests of many rows: the rows stay columns, and the file system is asked about folders, not about rows."""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from counterpoise.core.errors import DatasetError
from counterpoise.workflow.dataset import load, manifest_paths
from counterpoise.workflow.dataset.manifest import read_manifest

ASKED = ("stat", "lstat", "readlink", "scandir", "open")


def _write(root: Path, number: int, *, classes: int = 10, order: int = 7919) -> Path:
    """A manifest of ``number`` rows in an order that is not sorted; the files do not exist."""
    rows = [i * order % number for i in range(number)]
    text = "".join(
        f"images/{i % classes:05d}/{i:07d}.jpg,class {i % classes},{('train', 'test')[i % 2]}\n" for i in rows
    )
    (root / "all.csv").write_text("path,label,split\n" + text)
    return root / "all.csv"


@pytest.fixture
def asked(monkeypatch) -> Counter[str]:
    """How often the file system is asked about something."""
    calls: Counter[str] = Counter()
    for name in ASKED:
        real = getattr(os, name)

        def count(*arguments, name=name, real=real, **named):
            calls[name] += 1
            return real(*arguments, **named)

        monkeypatch.setattr(os, name, count)
    return calls


def _calls(file: Path) -> int:
    """Number of Python and C functions that are called while a manifest is read."""
    number = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    read_manifest(file)
    sys.setprofile(count)
    try:
        read_manifest(file)
    finally:
        sys.setprofile(None)
    return number


def test_more_rows_take_no_more_steps_in_python(tmp_path):
    (tmp_path / "few").mkdir()
    few, many = _calls(_write(tmp_path / "few", 2_000)), _calls(_write(tmp_path, 20_000))
    assert many - few < 2_000


def test_more_classes_and_folders_take_steps_in_proportion(tmp_path):
    (tmp_path / "few").mkdir()
    few = _calls(_write(tmp_path / "few", 20_000, classes=1_000))
    assert _calls(_write(tmp_path, 20_000, classes=10_000)) < 15 * few


def test_no_object_is_kept_per_row(tmp_path):
    number = 50_000
    file = _write(tmp_path, number)
    read_manifest(file)
    tracemalloc.start()
    try:
        listing = read_manifest(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(listing.paths) == len(listing.labels) == number
    assert (peak - file.stat().st_size) / number < 60


def test_the_rows_of_a_folder_cost_one_look_at_the_folder(make, asked):
    root = make({"a": 40, "b/deep": 40, "c": 40})
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))
    (root / "all.csv").write_text("path,label\n" + "".join(f"{path},x\n" for path in paths))
    asked.clear()
    assert read_manifest(root / "all.csv").paths.to_list() == paths
    assert asked["scandir"] == 3
    assert asked["stat"] + asked["lstat"] + asked["readlink"] < 30  # parts of the root, and of the folders


def test_a_few_rows_of_a_large_folder_do_not_list_it(make, monkeypatch):
    root = make({"a": 60})
    (root / "a/link.jpg").symlink_to("000.jpg")
    (root / "all.csv").write_text("path,label\na/link.jpg,x\na/001.jpg,x\n")
    seen: list[str] = []
    real = os.scandir

    class Counted:
        def __init__(self, path: str) -> None:
            self.entries = real(path)

        def __enter__(self):
            return (seen.append(entry.name) or entry for entry in self.entries)

        def __exit__(self, *error: object) -> None:
            self.entries.close()

    monkeypatch.setattr(manifest_paths.os, "scandir", Counted)
    monkeypatch.setattr(manifest_paths, "_FEW_ENTRIES", 10)
    assert read_manifest(root / "all.csv").paths.to_list() == ["a/000.jpg", "a/001.jpg"]
    assert len(seen) <= 10 + 2 * manifest_paths._ENTRIES_PER_ROW + 2


@pytest.mark.fault("D18")
@pytest.mark.parametrize("refusal", [PermissionError(13, "no"), OSError(5, "EIO")])
def test_links_are_found_in_a_folder_that_cannot_be_listed(make, monkeypatch, refusal):
    root = make({"a": 3})
    (root / "a/evil.jpg").symlink_to("/etc/passwd")
    (root / "all.csv").write_text("path,label\na/000.jpg,x\na/evil.jpg,x\n")

    def refuse(path: object) -> object:
        raise refusal

    monkeypatch.setattr(manifest_paths.os, "scandir", refuse)
    with pytest.raises(DatasetError, match=r"line 3: the path 'a/evil.jpg' is outside"):
        read_manifest(root / "all.csv")


def test_a_link_to_a_name_that_is_not_utf8_is_followed(make, encoded):
    root = make({"a": 2})
    for i in range(2):
        name = os.fsdecode(b"a/caf\xe9%d.jpg" % i)
        (root / name).write_bytes(encoded(seed=50 + i))
        (root / f"a/link{i}.jpg").symlink_to(os.path.basename(name))  # noqa: PTH119
    (root / "all.csv").write_text("path,label\na/link1.jpg,x\na/link0.jpg,y\na/000.jpg,x\na/link1.jpg,x\n,x\n")
    data = load(root / "all.csv", val_fraction=0, test_fraction=0)
    assert data.paths == ("a/000.jpg", "a/caf\\xe90.jpg", "a/caf\\xe91.jpg")
    assert data.labels.tolist() == [0, 1, 0]
    assert [item.reason for item in data.quarantined] == [
        "Line 6: The path is empty. Write one, or delete the row.",
        "Line 5: The row repeats line 2. Delete it.",
    ]


def test_absolute_paths_and_a_dot_in_front_are_read_as_columns_too(make):
    root = make({"a": 3})
    for prefix in ("./", f"{root}/"):
        text = "".join(f"{prefix}a/{i:03d}.jpg,x\n" for i in range(3))
        (root / "all.csv").write_text("path,label\n" + text)
        assert read_manifest(root / "all.csv").paths.to_list() == [f"a/{i:03d}.jpg" for i in range(3)]
    rows = [f"{root}/a/../a/{i:03d}.jpg" for i in range(3)] + [f"{root}-evil/x.jpg"]
    (root / "all.csv").write_text("path,label\n" + "".join(f"{row},x\n" for row in rows))
    with pytest.raises(DatasetError, match=r"line 5: the path .*-evil/x.jpg' is outside"):
        read_manifest(root / "all.csv")


def test_a_path_of_very_many_parts_is_a_missing_file(make):
    root = make({"a": 1})
    (root / "all.csv").write_text(f"path,label\na/000.jpg,x\n{'a/' * 5000}x.jpg,x\n")
    data = load(root / "all.csv", val_fraction=0, test_fraction=0)
    assert data.paths == ("a/000.jpg",)
    assert "cannot be opened: File name too long" in data.quarantined[0].reason


def test_equal_rows_by_different_names_are_told_in_the_order_of_their_lines(make):
    root = make({"i": 3})
    (root / "in").symlink_to("i", target_is_directory=True)
    (root / "all.csv").write_text(
        "path,label\nz.jpg,x\nin/001.jpg,x\ni/001.jpg,y\na.jpg,x\nin/000.jpg,y\ni/000.jpg,y\n"
    )
    data = read_manifest(root / "all.csv")
    assert [item.reason for item in data.quarantined] == [
        "Line 7: The row repeats line 6. Delete it.",
        "Line 3: The file has two labels, 'x' and 'y', on line 3 and line 4. Keep one of them.",
        "Line 4: The file has two labels, 'x' and 'y', on line 3 and line 4. Keep one of them.",
    ]


@pytest.mark.fault("D18")
def test_a_link_above_the_folder_of_an_image_is_seen(make, tmp_path):
    root = make({"i/deep/er": 2})
    make({"deep/er": 2}, root=tmp_path / "elsewhere")
    (root / "in").symlink_to("i", target_is_directory=True)
    (root / "all.csv").write_text("path,label\nin/deep/er/001.jpg,x\n")
    assert read_manifest(root / "all.csv").paths.to_list() == ["i/deep/er/001.jpg"]
    (root / "evil").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "all.csv").write_text("path,label\ni/deep/er/000.jpg,x\nevil/deep/er/001.jpg,x\n")
    with pytest.raises(DatasetError, match=r"line 3: the path 'evil/deep/er/001.jpg' is outside"):
        read_manifest(root / "all.csv")
