"""find_duplicates: equal content, by bytes on disk and by pixels elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoise.core import images as images_module
from counterpoise.core.images import LabeledImages, find_duplicates
from counterpoise.workflow.dataset import load


@settings(max_examples=25, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seeds=st.lists(st.integers(0, 5), min_size=1, max_size=15))
def test_groups_are_those_of_comparing_every_pair(tmp_path_factory, encoded, seeds):
    root = tmp_path_factory.mktemp("pairs")
    (root / "cat").mkdir()
    for i, seed in enumerate(seeds):
        (root / "cat" / f"{i:02d}.bmp").write_bytes(encoded("BMP", seed=seed))
    expected = [[i for i, other in enumerate(seeds) if other == seed] for seed in dict.fromkeys(seeds)]
    assert find_duplicates(load(root)) == [group for group in expected if len(group) > 1]


def test_only_files_of_equal_size_are_read(make, encoded, monkeypatch):
    root = make({"cat": 0})
    (root / "cat/a.bmp").write_bytes(encoded("BMP", seed=1))
    (root / "cat/b.bmp").write_bytes(encoded("BMP", seed=1))
    (root / "cat/c.bmp").write_bytes(encoded("BMP", seed=1, size=(50, 50)))
    data = load(root)
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(images_module.os, "open", lambda path, flags: (opened.append(path), real(path, flags))[1])
    assert find_duplicates(data) == [[0, 1]]
    assert [Path(path).name for path in opened] == ["a.bmp", "b.bmp"]


@pytest.mark.fault("D13")
def test_hard_links_are_duplicates_and_a_vanished_file_is_in_no_group(make):
    root = make({"cat": 2})
    os.link(root / "cat/000.jpg", root / "cat/link.jpg")
    os.link(root / "cat/000.jpg", root / "cat/more.jpg")
    data = load(root)
    assert find_duplicates(data) == [[0, 2, 3]]
    (root / "cat/link.jpg").unlink()
    assert find_duplicates(data) == [[0, 3]]


def test_a_dataset_of_someone_else_is_compared_by_pixels(make, encoded):
    root = make({"cat": 0})
    (root / "cat/a.png").write_bytes(encoded("PNG", seed=1))
    (root / "cat/b.bmp").write_bytes(encoded("BMP", seed=1))
    data = load(root)
    assert find_duplicates(data) == []

    class InMemory(LabeledImages):
        """A dataset without files: `file` is inherited from the protocol."""

        def __init__(self) -> None:
            for name in LabeledImages.__annotations__:
                setattr(self, name, getattr(data, name))

        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, index: int):
            return data[index]

    assert find_duplicates(InMemory()) == [[0, 1]]
