"""A balanced copy: what is written, from what, always the same, and nothing else touched."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError, DatasetError
from counterpoise.workflow.augmentation import augment, balanced_copy, preview, read_lineage
from counterpoise.workflow.augmentation.balanced_copy import Item, write_item
from counterpoise.workflow.dataset import load

COUNTS = {"car": 12, "träck ü, é": 5, "=moto": 2}


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for split, share in (("train", 1), ("val", 2), ("test", 2)):
        for name, n in COUNTS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n if share == 1 else 2):
                pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                suffix = "jpg" if i % 2 else "png"
                Image.fromarray(pixels).save(folder / f"=a {i}.{suffix}")
    (root / "train" / "car" / "broken.jpg").write_bytes(b"no image")
    return root


def digests(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(Path(folder).rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize(
    ("target", "after"),
    [("balanced", [2 * 6] * 3), ("count:7", [12, 7, 7]), ("ratio:3", [12, 5, 4]), ("ratio:1.5", [12, 8, 8])],
)
def test_every_class_reaches_its_number_and_none_loses_an_image(photos, tmp_path, target, after):
    result = augment(photos, tmp_path / "out", target=target, jobs=1)
    by_name = dict(zip(result.classes, result.after, strict=True))
    assert [by_name[name] for name in COUNTS] == after
    for name, n in by_name.items():
        assert len(list((tmp_path / "out" / "train" / name).iterdir())) == n
    assert result.made == sum(after) - sum(COUNTS.values())
    assert result.copied == sum(COUNTS.values())
    assert result.quarantined == 1


def test_originals_are_copied_byte_for_byte_and_the_source_is_untouched(photos, tmp_path):
    before = digests(photos)
    augment(photos, tmp_path / "out", jobs=1)
    assert digests(photos) == before
    made = digests(tmp_path / "out")
    for name, digest in before.items():
        if name.startswith("train/") and "broken" not in name:
            assert made[name] == digest
    assert not any(name.startswith(("val/", "test/")) for name in made)


def test_no_two_images_are_alike_and_each_source_is_used_once_before_any_twice(photos, tmp_path):
    augment(photos, tmp_path / "out", target="count:30", jobs=1)
    for name in COUNTS:
        pixels = [np.asarray(Image.open(f)).tobytes() for f in sorted((tmp_path / "out/train" / name).iterdir())]
        assert len(set(pixels)) == len(pixels) == 30
    used = Counter(row["source"] for row in read_lineage(tmp_path / "out/augmented.csv"))
    for name, n in COUNTS.items():
        times = [used[f"train/{name}/=a {i}.{'jpg' if i % 2 else 'png'}"] for i in range(n)]
        assert sum(times) == 30 - n
        assert max(times) - min(times) <= 1


@pytest.mark.fault("R3")
def test_the_lineage_names_every_new_file_and_runs_in_no_spreadsheet(photos, tmp_path):
    augment(photos, tmp_path / "out", jobs=1)
    with (tmp_path / "out/augmented.csv").open(newline="", encoding="utf-8") as lines:
        raw = list(csv.reader(lines))
    assert raw[0] == ["file", "source", "operations", "strength", "seed"]
    assert not [cell for row in raw for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    rows = read_lineage(tmp_path / "out/augmented.csv")
    new = {str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out/train").rglob("*-aug*")}
    assert {row["file"] for row in rows} == new
    for row in rows[:5]:
        again = tmp_path / "again" / row["file"].rpartition("/")[2]
        operations = tuple(row["operations"].split("+"))
        write_item(
            Item(str(again), str(photos / row["source"]), "", operations, float(row["strength"]), int(row["seed"]))
        )
        assert again.read_bytes() == (tmp_path / "out" / row["file"]).read_bytes()


def test_names_that_begin_like_formulas_round_trip(tmp_path):
    from counterpoise.core.lineage import write_lineage

    names = ["=1+1", "'quoted", "''two", "-x", "@y", "\tz", "a,b", 'c"d', "e\nf", "plain"]
    write_lineage(tmp_path / "a.csv", [(name, name, "", "", "") for name in names])
    assert [row["file"] for row in read_lineage(tmp_path / "a.csv")] == names


def test_the_same_files_result_from_any_number_of_processes_and_after_any_interruption(photos, tmp_path, monkeypatch):
    augment(photos, tmp_path / "one", target="count:20", jobs=1)
    monkeypatch.setattr(balanced_copy, "MAX_SERIAL", 0)
    augment(photos, tmp_path / "two", target="count:20", jobs=2)
    whole = digests(tmp_path / "one")
    assert digests(tmp_path / "two") == whole

    def stop(done, total):
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        augment(photos, tmp_path / "three", target="count:20", jobs=1, progress=stop)
    assert 20 < len(digests(tmp_path / "three")) < len(whole)
    with pytest.raises(ArtifactError, match="holds other files"):
        augment(photos, tmp_path / "three", target="count:20", jobs=1)
    augment(photos, tmp_path / "three", target="count:20", jobs=1, resume=True)
    assert digests(tmp_path / "three") == whole
    with pytest.raises(ArgumentError, match="another augmentation: `target` was 'count:20' and is now 'count:21'"):
        augment(photos, tmp_path / "three", target="count:21", jobs=1, resume=True)


def test_drawn_splits_do_not_leak_where_they_are_copied_too(tmp_path):
    root, rng = tmp_path / "flat", np.random.default_rng(0)
    for name, n in (("a", 30), ("b", 8)):
        (root / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    dataset = load(root)
    augment(dataset, tmp_path / "out", splits=True, jobs=1)
    again = load(tmp_path / "out")
    for split in ("val", "test"):
        assert again.counts(split).counts.tolist() == dataset.counts(split).counts.tolist()
        names = {path.rpartition("/")[2] for path in again.subset(split).paths}
        assert names == {path.rpartition("/")[2] for path in dataset.subset(split).paths}
    held_out = {p for s in ("val", "test") for p in dataset.subset(s).paths}
    assert not held_out & {row["source"] for row in read_lineage(tmp_path / "out/augmented.csv")}
    assert again.counts("train").imbalance_ratio == 1.0


def test_a_preview_writes_nothing(photos, tmp_path):
    result = preview(photos, tmp_path / "out")
    assert result == augment(photos, tmp_path / "real", jobs=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.fault("D25")
def test_folders_that_cannot_be_written_to_are_refused_before_anything_is(photos, tmp_path):
    before = digests(photos)
    for out in (photos, photos / "train" / "new", tmp_path):
        with pytest.raises(ArgumentError, match="lie inside each other"):
            augment(photos, out)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArgumentError, match="is a link"):
        augment(photos, tmp_path / "link")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="is a file"):
        augment(photos, tmp_path / "file")
    assert digests(photos) == before
    assert (tmp_path / "file").read_text() == "mine"


def killed_by(item):
    """Write a file, unless its source kills the process, as a fault of a decoder would."""
    if item.path == "train/car/=a 3.jpg":
        os.kill(os.getpid(), signal.SIGKILL)
    balanced_copy.write_item(item)


def write_all(items):
    for item in items:
        killed_by(item)


@pytest.mark.fault("D29")
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_file_that_kills_its_process_is_named_and_the_others_are_written(photos, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(balanced_copy, "MAX_SERIAL", 0)
        patched.setattr(balanced_copy, "CHUNK", 3)
        patched.setattr(balanced_copy, "_write_items", write_all)
        patched.setattr(balanced_copy, "write_item", killed_by)
        message = r"^the processes that read 1 image were killed, .*: 'train/car/=a 3.jpg'; all other files are written"
        with pytest.raises(ArtifactError, match=message):
            augment(photos, tmp_path / "out", target="count:14", jobs=2)
    augment(photos, tmp_path / "whole", target="count:14", jobs=1)
    missing = digests(tmp_path / "whole").keys() - digests(tmp_path / "out").keys() - {"contact-sheet.html"}
    assert missing
    assert all("=a 3" in name for name in missing)
    augment(photos, tmp_path / "out", target="count:14", jobs=1, resume=True)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


@pytest.mark.fault("D31")
def test_a_full_disk_leaves_no_half_file(photos, tmp_path, monkeypatch):
    original, written = balanced_copy.atomic_write, []

    @contextlib.contextmanager
    def full(target):
        with original(target) as file:
            yield file
            written.append(target)
            if len(written) == 3:
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(balanced_copy, "atomic_write", full)
    with pytest.raises(ArtifactError, match=r"cannot write .*: No space left on device"):
        augment(photos, tmp_path / "out", jobs=1)
    monkeypatch.undo()
    for file in (tmp_path / "out/train").rglob("*-aug*"):
        Image.open(file).load()
    augment(photos, tmp_path / "out", jobs=1, resume=True)
    assert len(list((tmp_path / "out/train").rglob("*"))) == 3 + 36


def test_a_copy_without_validation_images_is_not_split_again(photos, tmp_path):
    augment(photos, tmp_path / "bare")
    augment(photos, tmp_path / "whole", splits=True)
    for source in (tmp_path / "bare", tmp_path / "bare/train"):
        with pytest.raises(DatasetError, match=r"has augmented images.*--with-splits"):
            load(source)
        assert len(load(source, val_fraction=0, test_fraction=0)) == 36
    whole = load(tmp_path / "whole")
    assert whole.counts("val").counts.tolist() == load(photos).counts("val").counts.tolist()
    shutil.copytree(photos / "val", tmp_path / "bare/val")
    assert load(tmp_path / "bare").counts("val").total == 6


def test_the_folder_of_a_manifest_may_hold_the_copy(photos, tmp_path):
    rows = [
        f"photos/{path},{path.split('/')[1]},{path.split('/')[0]}" for path in load(photos).paths if "," not in path
    ]
    (photos.parent / "list.csv").write_text("\n".join(["path,label,split", *rows]), encoding="utf-8")
    made = augment(load(photos.parent / "list.csv"), photos.parent / "balanced", target="count:6")
    assert made.made > 0
    with pytest.raises(ArgumentError, match="lie inside each other"):
        augment(load(photos.parent / "list.csv"), photos, target="count:6")


def test_other_symmetries_are_another_augmentation(photos, tmp_path):
    made = augment(photos, tmp_path / "out")
    assert "hflip" in made.operations
    with pytest.raises(ArgumentError, match=r"list of operations \(`operations`, `symmetries`\) was .*'hflip'"):
        augment(load(photos, symmetries=()), tmp_path / "out", resume=True)


def test_what_an_interruption_left_is_taken_away_and_what_is_not_ours_refused(photos, tmp_path):
    out = tmp_path / "out"
    augment(photos, out)
    whole = digests(out)
    half = out / "train/car/.000-aug0001.jpg.abc.tmp"
    half.write_bytes(b"half")
    empty = next((out / "train").rglob("*-aug0001*"))
    empty.write_bytes(b"")  # a disk that lost what it had promised
    augment(photos, out, resume=True)
    assert not half.exists()
    assert digests(out) == whole
    (out / "train/plane").mkdir()
    (out / "train/plane/foreign.png").write_bytes(b"x")
    with pytest.raises(
        ArtifactError, match=r"a file that is not part of this copy, 'train/plane/foreign.png'; remove it"
    ):
        augment(photos, out, resume=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("x")
    for call in (preview, augment):
        with pytest.raises(ArtifactError, match=r"\(mine.txt\); .*set `resume` to continue \(--resume\)$"):
            call(photos, other)
    with pytest.raises(ArtifactError, match=r"'mine\.txt'"):
        augment(photos, other, resume=True)
    with pytest.raises(ArgumentError, match=r"`splits` \(--with-splits\) was False and is now True"):
        augment(photos, out, resume=True, splits=True)


@pytest.mark.parametrize("target", ["ratio:1e400", "even", "count:0", "count:x", "ratio:0.5", "ratio:", "balanced:3"])
def test_a_target_that_cannot_be_read_is_named(photos, tmp_path, target):
    with pytest.raises(ArgumentError, match="`target` must be balanced, count:N or ratio:R"):
        augment(photos, tmp_path / "out", target=target)


def test_embedded_images_have_no_files(tmp_path):
    with pytest.raises(ArgumentError, match="digits has no files to copy"):
        augment("digits", tmp_path / "out")


def test_a_dataset_of_the_user_has_no_files_to_copy(tmp_path):
    class Partial:
        labels = ()

    with pytest.raises(ArgumentTypeError, match="`data` must be a dataset, got Partial; it lacks `name`"):
        augment(Partial(), tmp_path / "out")
    with pytest.raises(ArgumentTypeError, match=r"`data` must be a dataset, got NoneType"):
        augment(None, tmp_path / "out")


def test_quarter_turns_swap_the_sides_of_images_that_are_not_square(photos, tmp_path):
    augment(load(photos, symmetries=["rot90"]), tmp_path / "out", target="count:30", jobs=1)
    made = list((tmp_path / "out" / "train").rglob("*-aug*"))
    assert len(made) == 3 * 30 - sum(COUNTS.values())
    sizes = set()
    for file in made:
        with Image.open(file) as image:
            sizes.add(image.size)
    assert sizes == {(24, 20), (20, 24)}
