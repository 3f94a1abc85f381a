"""Image folders: layouts, classes, what is quarantined and what is ignored; and that nothing is lost."""

from __future__ import annotations

import os
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoise.core.errors import DatasetError
from counterpoise.workflow.audit import audit
from counterpoise.workflow.dataset import ImageDataset, load
from counterpoise.workflow.dataset import folder as folder_module

_LATIN_1 = os.fsdecode(b"caf\xe9.jpg")  # a name that is not UTF-8, as disks of old have them


def _splits(data: ImageDataset) -> dict[str, int]:
    return dict(Counter(data.splits.tolist()))


def _reasons(data: ImageDataset) -> dict[str, str]:
    return {item.path: item.reason for item in data.quarantined}


def _count_files(root: Path) -> int:
    """Everything below that is no folder, counted by another walk than ours."""
    return sum(1 for path in root.rglob("*") if path.is_symlink() or not path.is_dir())


def test_class_folders_alone_are_divided_in_three(make):
    data = load(make({"dog": 10, "cat": 5, "ant": 3}))
    assert data.classes == ("ant", "cat", "dog")
    assert [data.counts(split).counts.tolist() for split in ("train", "val", "test")] == [
        [1, 3, 6],
        [1, 1, 2],
        [1, 1, 2],
    ]
    assert data.paths[0] == "ant/000.jpg"
    assert data.paths == tuple(sorted(data.paths))
    assert data.symmetries == {"hflip"}
    assert sorted(f.about for f in data.findings if f.kind == "split-drawn") == [("test",), ("val",)]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_all_three_splits_as_given(make, val):
    data = load(make({"train/cat": 5, f"{val}/cat": 3, "test/cat": 2, "test/dog": 1}))
    assert _splits(data) == {"train": 5, "val": 3, "test": 2 + 1}
    assert data.classes == ("cat", "dog")
    assert data.counts("train").counts.tolist() == [5, 0]
    assert not data.findings


def test_validation_is_drawn_from_train_and_the_given_test_is_left_alone(make):
    data = load(make({"train/cat": 10, "train/dog": 2, "test/cat": 4}), val_fraction=0.3)
    assert data.counts("val").counts.tolist() == [3, 1]
    assert data.counts("test").counts.tolist() == [4, 0]
    assert all(path.startswith("train/") for path, split in zip(data.paths, data.splits, strict=True) if split == "val")


@pytest.mark.parametrize("folders", [{"train/cat": 10, "val/cat": 4}, {"train/cat": 10}])
def test_a_test_split_is_never_drawn_from_a_source_with_splits(make, folders):
    data = load(make(folders))
    assert data.counts("test").total == 0
    assert data.counts("val").total == (4 if "val/cat" in folders else 2)


def test_fraction_zero_draws_nothing(make):
    assert _splits(load(make({"cat": 10}), val_fraction=0, test_fraction=0)) == {"train": 10}
    assert _splits(load(make({"cat": 10}), val_fraction=0, test_fraction=0.3)) == {"train": 7, "test": 3}


def test_a_class_called_train_beside_other_classes(make):
    data = load(make({"train": 3, "bus": 3, "test": 3}))
    assert data.classes == ("bus", "test", "train")


@pytest.mark.fault("D15")
@pytest.mark.parametrize("nested", [False, True])
def test_a_class_without_images_is_excluded_with_a_finding_or_kept_on_request(make, nested):
    root = make({"train/ant": 0, "train/cat": 4, "train/dog": 3, "test/cat": 1, "test/elk": 2, "val/unicorn": 0})
    (root / "train/ant/a.jpg").touch()
    data = load(root, nested=nested, val_fraction=0)
    assert data.classes == ("cat", "dog", "elk")
    assert [data.classes[c] for c in data.labels] == [path.split("/")[1] for path in data.paths]
    assert data.counts("train").empty == ("elk",)  # it has images in test
    (found,) = [f for f in data.findings if f.kind == "empty-classes-excluded"]
    assert found.about == ("ant", "unicorn")
    assert found.reason == (
        "2 classes have no image and are excluded: 'ant', 'unicorn'. All files of 'ant' are quarantined. Add images, "
        "or set `keep_empty_classes=True` (--keep-empty-classes) to keep empty classes with count 0."
    )
    kept = load(root, nested=nested, val_fraction=0, keep_empty_classes=True)
    assert kept.classes == ("ant", "cat", "dog", "elk", "unicorn")
    assert kept.counts("train").counts.tolist() == [0, 4, 3, 0, 0]
    assert "empty-classes-excluded" not in [f.kind for f in kept.findings]
    assert kept.fingerprint != data.fingerprint


@pytest.mark.fault("D15")
def test_files_outside_any_class_are_named_and_nested_folders_belong_to_their_class(make, encoded):
    root = make({"cat": 4, "dog/puppies/small": 2})
    (root / "stray.jpg").write_bytes(encoded(seed=77))
    (root / "README.md").write_text("hello")
    data = load(root)
    assert data.classes == ("cat", "dog")
    assert data.counts("train").counts.sum() + data.counts("val").counts.sum() + data.counts("test").counts.sum() == 6
    assert [data.classes[data.labels[i]] for i, path in enumerate(data.paths) if "puppies" in path] == ["dog", "dog"]
    assert _reasons(data) == {"stray.jpg": "The file is not in a class folder. Move it into one."}
    assert data.num_ignored == 1


@pytest.mark.fault("D15")
def test_folders_beside_the_splits_are_named(make):
    data = load(make({"train/cat": 4, "test/cat": 1, "extra/cat": 2}))
    assert [(f.kind, f.about) for f in data.findings if f.kind == "folder-beside-splits"] == [
        ("folder-beside-splits", ("extra",))
    ]
    assert set(_reasons(data)) == {"extra/cat/000.jpg", "extra/cat/001.jpg"}


@pytest.mark.fault("D15")
@pytest.mark.parametrize(
    ("folders", "match"),
    [
        ({}, "has no image"),
        ({"train": 3}, "has train/ but no class folders"),
        ({"train": 3, "test": 3}, "has test/, train/ but no class folders"),
        ({"val/cat": 3, "test/cat": 3}, "no class folders in train/"),
        ({"train/cat": 3, "val/cat": 1, "valid/cat": 1}, "val and valid, which both mean val"),
    ],
)
def test_a_folder_that_is_no_dataset_says_what_to_do(make, tmp_path, folders, match):
    root = make(folders)
    root.mkdir(exist_ok=True)
    with pytest.raises(DatasetError, match=match) as caught:
        load(root)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_images_at_the_top_alone_are_no_dataset(tmp_path, encoded):
    (tmp_path / "a.jpg").write_bytes(encoded())
    with pytest.raises(
        DatasetError, match=r"put the images into one folder per class, .*'a.jpg': The file is not in a c"
    ):
        load(tmp_path)


@pytest.mark.fault("D16")
def test_extensions_in_any_case_are_read_and_clutter_is_ignored(make, encoded):
    root = make({"cat": 1})
    for i, name in enumerate(["A.JPG", "b.Jpeg", "c.jpe", "Thumbs.db", ".hidden.jpg", "._c.jpg", "desktop.ini"]):
        (root / "cat" / name).write_bytes(encoded(seed=100 + i))
    for name in (".ipynb_checkpoints", "__MACOSX", ".git"):
        (root / name).mkdir()
        (root / name / "x.jpg").write_bytes(encoded(seed=200))
    data = load(root)
    assert data.paths == ("cat/000.jpg", "cat/A.JPG", "cat/b.Jpeg")
    assert data.classes == ("cat",)
    assert data.num_ignored == 5 + 3
    assert data.num_files == _count_files(root)


@pytest.mark.fault("D7")
def test_formats_that_are_never_opened_are_listed(make, monkeypatch):
    root = make({"cat": 2})
    for name in ("a.eps", "b.PDF", "c.heic", "d.ps"):
        (root / "cat" / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *rest, **more: (opened.append(str(path)), real(path, *rest, **more))[1]
    )
    data = load(root)
    assert sorted(_reasons(data)) == ["cat/a.eps", "cat/b.PDF", "cat/c.heic", "cat/d.ps"]
    expected = "The format .pdf is not supported, and the file was not opened. Convert it to PNG or JPEG."
    assert _reasons(data)["cat/b.PDF"] == expected
    assert len([path for path in opened if str(root) in path]) == 2


@pytest.mark.fault("D1")
@pytest.mark.fault("D2")
@pytest.mark.fault("D3")
@pytest.mark.fault("D4")
def test_bad_files_are_quarantined_with_reason_class_and_split(make, encoded):
    root = make({"train/cat": 3, "test/dog": 1})
    (root / "train/cat/empty.jpg").touch()
    (root / "train/cat/half.png").write_bytes(encoded("PNG")[:60])
    (root / "test/dog/page.jpg").write_text("<html>")
    (root / "train/cat/really.jpg").write_bytes(encoded("GIF"))
    data = load(root)
    assert [(q.path, q.label, q.split) for q in data.quarantined] == [
        ("test/dog/page.jpg", "dog", "test"),
        ("train/cat/empty.jpg", "cat", "train"),
        ("train/cat/half.png", "cat", "train"),
    ]
    assert "train/cat/really.jpg" in data.paths
    assert [(f.kind, f.severity, f.about) for f in data.findings if f.kind == "extension-mismatch"] == [
        ("extension-mismatch", "warning", ("train/cat/really.jpg",))
    ]
    assert [item.path for item in data.subset("test").quarantined] == ["test/dog/page.jpg"]


def test_a_dataset_of_bad_files_alone_is_an_error_that_shows_one(make):
    root = make({"cat": 0})
    (root / "cat/a.jpg").touch()
    with pytest.raises(
        DatasetError, match=r"no image that can be read: 1 file quarantined, the first is 'cat/a.jpg': The file is em"
    ):
        load(root)


@pytest.mark.fault("D9")
def test_colour_modes_are_counted(make, encoded):
    from PIL import Image

    root = make({"cat": 3})
    Image.new("L", (4, 4)).save(root / "cat/grey.png")
    data = load(root)
    expected = "Some images are converted to RGB (1 L). Check that the mode does not depend on the class."
    assert [f.reason for f in data.findings if f.kind == "colour-modes"] == [expected]


@pytest.mark.fault("D9")
def test_the_audit_says_that_alpha_channels_are_ignored(make):
    from PIL import Image

    root = make({"cat": 3})
    Image.new("RGBA", (4, 4), (250, 0, 0, 128)).save(root / "cat/glass.png")
    data = load(root)
    (reason,) = [f.reason for f in data.findings if f.kind == "colour-modes"]
    assert reason.startswith("Some images are converted to RGB (1 RGBA). Their alpha channel is ignored")
    assert data[data.paths.index("cat/glass.png")][0, 0].tolist() == [250, 0, 0]


@pytest.mark.fault("D12")
def test_a_fifo_and_a_folder_named_like_images(make):
    root = make({"cat": 2})
    os.mkfifo(root / "cat/pipe.jpg")
    (root / "cat/folder.jpg").mkdir()
    data = load(root)
    assert _reasons(data) == {"cat/pipe.jpg": "The file is not a regular file. Move it out of the dataset."}
    assert len(data) == 2


@pytest.mark.fault("D13")
def test_links_are_not_followed_and_reported(make, tmp_path, encoded):
    root = make({"cat": 2})
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.jpg").write_bytes(encoded(seed=9))
    (root / "cat/out.jpg").symlink_to(tmp_path / "outside/secret.jpg")
    (root / "cat/again.jpg").symlink_to("000.jpg")
    (root / "cat/loop").symlink_to(root, target_is_directory=True)
    (root / "cat/gone.jpg").symlink_to("nowhere")
    (root / "dog").symlink_to(tmp_path / "outside", target_is_directory=True)
    data = load(root)
    assert len(data) == 2
    assert data.classes == ("cat",)
    reasons = _reasons(data)
    assert set(reasons) == {"cat/out.jpg", "cat/again.jpg", "cat/loop", "cat/gone.jpg", "dog"}
    assert "outside the folder" in reasons["cat/out.jpg"]
    assert "outside the folder" in reasons["dog"]
    assert "would count twice" in reasons["cat/again.jpg"]
    assert "has no target" in reasons["cat/gone.jpg"]
    assert data.num_files == _count_files(root)


@pytest.mark.fault("D13")
def test_the_folder_itself_may_be_a_link_and_a_neighbour_with_its_prefix_is_outside(make, tmp_path, encoded):
    root = make({"cat": 2})
    (tmp_path / "photos-evil").mkdir()
    (tmp_path / "photos-evil/x.jpg").write_bytes(encoded())
    (root / "cat/evil.jpg").symlink_to(tmp_path / "photos-evil/x.jpg")
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    data = load(tmp_path / "link")
    assert len(data) == 2
    assert "outside the folder" in _reasons(data)["cat/evil.jpg"]


@pytest.mark.fault("D14")
def test_names_that_break_other_tools(make, encoded):
    root = make({"cat": 1})
    names = [
        "new\nline",
        'quo"te',
        "com,ma",
        "-rf",
        "\u202egpj.exe",
        "e\u0301",
        "\u00e9",
        "n" * 250,
        "{{7*7}}",
        " lead",
    ]
    for i, name in enumerate(names):
        (root / "cat" / f"{name}.jpg").write_bytes(encoded(seed=50 + i))
    (root / "cat" / _LATIN_1).write_bytes(encoded(seed=90))
    data = load(root)
    assert len(data) == 2 + len(names)
    assert {f"cat/{name}.jpg" for name in names} < set(data.paths)
    assert "cat/caf\\xe9.jpg" in data.paths
    "".join(data.paths).encode()  # valid Unicode, whatever the disk holds
    for i in range(len(data)):
        assert data[i].shape == (6, 8, 3)
        assert Path(data.file(i)).exists()
    assert len(data.subset("train")) + len(data.subset("val")) + len(data.subset("test")) == len(data)


@pytest.mark.fault("D14")
def test_two_names_that_look_alike_on_paper_stay_two_files(make, encoded):
    root = make({"cat": 1})
    (root / "cat" / "caf\\xe9.jpg").write_bytes(encoded(seed=1))
    (root / "cat" / _LATIN_1).write_bytes(encoded(seed=2))
    data = load(root)
    assert len(set(data.paths)) == 3
    assert len({data.file(i) for i in range(3)}) == 3
    assert len({data[i].tobytes() for i in range(3)}) == 3


@pytest.mark.fault("D14")
def test_class_folders_that_differ_in_normal_form_are_one_class(make):
    data = load(make({"train/caf\u00e9": 3, "test/cafe\u0301": 2, "train/tea": 3}))
    assert data.classes == ("caf\u00e9", "tea")
    assert data.counts("test").counts.tolist() == [2, 0]
    assert (data.findings[0].kind, data.findings[0].about) == ("class-names-merged", ("caf\u00e9",))


@pytest.mark.fault("D14")
def test_a_class_folder_that_is_no_utf8_is_shown_with_escapes(make, encoded):
    root = make({"cat": 2})
    folder = root / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "1.jpg").write_bytes(encoded())
    data = load(root)
    assert data.classes == ("caf\\xe9", "cat")
    assert data[0].shape == (6, 8, 3)


@pytest.mark.fault("D11")
def test_a_folder_that_cannot_be_read_is_named_and_the_rest_is_kept(make, monkeypatch):
    root = make({"cat": 2, "locked": 2})
    real = os.scandir

    def scandir(path: str):
        if "locked" in path:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(folder_module.os, "scandir", scandir)
    data = load(root)
    assert data.classes == ("cat",)
    assert len(data) == 2
    assert [f.about for f in data.findings if f.kind == "empty-classes-excluded"] == [("locked",)]
    assert [(f.kind, f.severity) for f in data.findings if f.kind == "unreadable-folder"] == [
        ("unreadable-folder", "error")
    ]
    assert str(root) not in repr(data.findings)


@pytest.mark.fault("D11")
def test_a_file_that_vanishes_during_the_scan_is_listed(make, monkeypatch):
    from counterpoise.workflow.dataset import headers

    root = make({"cat": 3})
    real = headers.examine

    def vanish(path: str):
        if path.endswith("001.jpg"):
            Path(path).unlink()
        return real(path)

    monkeypatch.setattr(headers, "examine", vanish)
    assert _reasons(load(root)) == {
        "cat/001.jpg": "The file does not exist. Restore it, or delete the row that names it."
    }


def test_the_order_of_the_file_system_changes_nothing(make, monkeypatch):
    root = make({"train/cat": 8, "train/dog": 5, "train/ant": 2, "test/cat": 2})
    first = load(root)
    real = os.scandir

    class Backwards:
        def __init__(self, path: str) -> None:
            with real(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *error: object) -> None:
            self.entries = []

    monkeypatch.setattr(folder_module.os, "scandir", Backwards)
    second = load(root)
    assert second.fingerprint == first.fingerprint
    assert second.paths == first.paths


def test_images_beside_folders_of_images_are_sorted_by_path(make, encoded, tmp_path):
    names = ["a-b/x.bmp", "a/a.bmp", "a/b/1.bmp", "a/b/2.bmp", "a/c.bmp", "b/0.bmp"]
    for i, name in enumerate(names):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(encoded("BMP", seed=i))
    data = load(tmp_path / "x", val_fraction=0, test_fraction=0)
    assert data.paths == tuple(names)
    assert [data.classes[c] for c in data.labels] == ["a-b", "a", "a", "a", "a", "b"]


def test_the_draw_follows_the_seed_and_not_the_place(make, tmp_path):
    folders = {"cat": 30, "dog": 30}
    first = load(make(folders))
    elsewhere = load(make(folders, root=tmp_path / "elsewhere"))
    assert first.fingerprint == elsewhere.fingerprint
    assert load(tmp_path / "photos", seed=1).fingerprint != first.fingerprint


@pytest.mark.fault("D15")
@pytest.mark.parametrize("split", [True, False])
def test_nested_folders_are_one_class_with_a_word_or_a_class_each_on_request(make, encoded, split, tmp_path):
    root = tmp_path / "nest"
    for name, n in (("animal/cat", 4), ("animal/dog", 3), ("car", 5), ("animal/fish", 0)):
        folder = root / ("train" if split else "") / name
        folder.mkdir(parents=True)
        for i in range(n):
            (folder / f"{i}.bmp").write_bytes(encoded("BMP", seed=hash((name, i)) % 1000))
    flat = load(root, val_fraction=0, test_fraction=0)
    assert flat.classes == ("animal", "car")
    (found,) = [f for f in flat.findings if f.kind == "nested-folders"]
    expected = (
        "The class 'animal' has its images in 2 folders, which count as one class: 'cat', 'dog'. Set `nested=True`"
    )
    assert expected in found.reason
    (root / ("train" if split else "") / "animal/link.bmp").symlink_to("cat/0.bmp")  # refused, and no class of its own
    data = load(root, nested=True, val_fraction=0, test_fraction=0, keep_empty_classes=True)
    assert data.classes == ("animal/cat", "animal/dog", "animal/fish", "car")
    assert data.counts().counts.tolist() == [4, 3, 0, 5]
    assert not [f for f in data.findings if f.kind == "nested-folders"]


@pytest.mark.fault("D15")
@pytest.mark.parametrize("split", [True, False])
def test_images_at_two_levels_of_nested_folders_are_named_with_what_to_do(make, split):
    folders = {"animal": 3, "animal/cat": 3, "animal/dog/puppy": 3, "car": 3, "plant": 0, "plant/rose": 3}
    root = make({f"train/{name}" if split else name: n for name, n in folders.items()})
    data = load(root, nested=True, val_fraction=0, test_fraction=0)
    assert data.classes == ("animal", "animal/cat", "animal/dog/puppy", "car", "plant/rose")
    (found,) = [f for f in data.findings if f.kind == "images-at-two-levels"]
    assert (found.severity, found.about) == ("warning", ("animal",))
    assert "has images beside folders of images ('animal/cat', 'animal/dog/puppy')" in found.reason
    assert "Move its images into a folder such as animal/other, or write a tree file" in found.reason
    assert not [f for f in load(root).findings if f.kind == "images-at-two-levels"]


def test_folders_below_a_class_that_holds_images_or_has_one_folder_raise_no_question(make, encoded, tmp_path):
    for path in ("a/day1/0.bmp", "b/0.bmp", "b/day1/1.bmp", "b/day2/2.bmp"):
        (tmp_path / "x" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / path).write_bytes(encoded("BMP", seed=len(path)))
    assert not [f for f in load(tmp_path / "x").findings if f.kind == "nested-folders"]


def test_copies_of_an_image_are_drawn_into_one_split(make, encoded):
    root = make({"cat": 0, "dog": 0})
    for i in range(60):
        for copy in range(2):
            (root / f"cat/{i:02d}-{copy}.bmp").write_bytes(encoded("BMP", seed=i))
        (root / f"dog/{i:02d}.bmp").write_bytes(encoded("BMP", seed=100 + i))
    for seed in range(3):
        data = load(root, seed=seed)
        split = dict(zip(data.paths, data.splits.tolist(), strict=True))
        assert all(split[f"cat/{i:02d}-0.bmp"] == split[f"cat/{i:02d}-1.bmp"] for i in range(60))
        assert not [f for f in audit(data).findings if f.kind == "same-image-two-splits"]
        assert data.counts("val").counts.tolist() == [24, 12]
        assert data.counts("test").counts.tolist() == [24, 12]


@pytest.mark.fault("D33")
def test_memory_grows_with_the_names_alone(tmp_path, encoded):
    root = tmp_path / "many"
    (root / "a").mkdir(parents=True)
    first = root / "a/00000.jpg"
    first.write_bytes(encoded("JPEG", size=(400, 300)))
    n = 5000
    for i in range(1, n):
        os.link(first, root / f"a/{i:05d}.jpg")
    tracemalloc.start()
    try:
        data = load(root)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(data) == n
    assert peak / n < 1500  # bytes a file: a name or two, a label, a split; 1 M files stay below 1.5 GB


_CONTENT = {
    "sound": lambda encoded, i: encoded("JPEG", seed=i),
    "empty": lambda encoded, i: b"",
    "text": lambda encoded, i: b"hello",
    "half": lambda encoded, i: encoded("PNG", seed=i)[:50],
}


@settings(max_examples=40, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(
        st.tuples(
            st.sampled_from(["", "cat/", "dog/", "dog/deep/", ".git/", "train/cat/", "test/dog/", "beside/x/"]),
            st.sampled_from(["jpg", "PNG", "txt", "pdf", "db", "tiff"]),
            st.sampled_from(sorted(_CONTENT)),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_every_file_is_in_the_dataset_or_quarantined_or_ignored(tmp_path_factory, encoded, files):
    root = tmp_path_factory.mktemp("any")
    for i, (folder, extension, content) in enumerate([*files, ("train/cat/", "jpg", "sound")]):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"{i}.{extension}").write_bytes(_CONTENT[content](encoded, i))
    data = load(root)
    listed = [*data.paths, *(item.path for item in data.quarantined)]
    assert len(listed) == len(set(listed))
    assert all((root / path).exists() for path in listed)
    assert len(listed) + data.num_ignored == data.num_files == _count_files(root)
    assert all(data[i].shape == (6, 8, 3) for i in range(len(data)))
    assert np.array_equal(np.unique(data.splits), np.intersect1d(data.splits, ["train", "val", "test"]))
