"""How a dataset is read, as options of the command line, and the options named in place of arguments."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.cli.photos import call, write_photos


@pytest.fixture
def photos(tmp_path):
    """Class folders: 24 red, 8 green and 6 blue images."""
    return write_photos(tmp_path / "photos")


def test_an_empty_class_folder_is_said_once_and_kept_on_request(photos, tmp_path):
    (photos / "yellow").mkdir()
    reason = (
        "1 class has no image and is excluded: 'yellow'. Add images, or set `--keep-empty-classes` to keep empty "
        "classes with count 0."
    )
    assert call("weights", photos).stderr == f"warning: {reason}\n"
    audited = call("audit", photos)
    assert (audited.stdout + audited.stderr).count("'yellow'") == 1
    assert f"warning  {reason}" in audited.stdout
    assert "yellow" in json.loads(call("weights", photos, "--keep-empty-classes", "--json").stdout)
    command = call("plan", photos, "--keep-empty-classes", "--val-fraction", 0.3).stdout.splitlines()[-1]
    assert command.startswith(f"counterpoise compare {photos} --val-fraction 0.3 --keep-empty-classes --strategies ")


def test_copies_are_excluded_on_request_and_counted(photos, tmp_path):
    shutil.copy(photos / "red/00.png", photos / "green/copy.png")
    shutil.copy(photos / "red/01.png", photos / "red/copy.png")
    told = call("train", photos, "--strategy", "focal", "--epochs", 1, "--exclude-duplicates", "--out", tmp_path / "o")
    line = "3 copies of images are excluded: 2 with different labels, 1 in the same class and split."
    assert told.stderr.splitlines()[0] == line
    # Of 6, 8 and 23 images, a fifth each is for validation and test.
    assert json.loads((tmp_path / "o/run.json").read_text())["train_counts"] == [4, 4, 13]
    assert "error" in call("audit", photos).stdout
    assert "error" not in call("audit", photos, "--exclude-duplicates").stdout


def test_findings_and_notes_name_the_options_of_the_command(photos):
    (photos / "red/more").mkdir()
    for name in ("a", "b"):
        shutil.copytree(photos / "blue", photos / f"warm/{name}")
    for told in (call("audit", photos).stdout, call("plan", photos).stderr):
        assert "Set `--nested` to make each a class" in told
        assert "nested=True" not in told
    shutil.copytree(photos / "blue", photos / "split/train/blue")
    shutil.copytree(photos / "green", photos / "split/train/green")
    told = call("audit", photos / "split", "--val-fraction", 0).stdout
    assert "let it be drawn with `--val-fraction`." in told
    assert "(--val-fraction)" not in told
    error = call("audit", photos, "--val-fraction", 1.5, code=2).stderr
    assert error == "error: `--val-fraction` must be at least 0 and below 1; got 1.5\n"


def test_columns_of_a_manifest_are_options_and_a_missing_one_is_suggested(photos):
    rows = "".join(f"{path.relative_to(photos)};{path.parent.name}\n" for path in photos.rglob("*.png"))
    (photos / "all.csv").write_bytes(f"image file;class\n{rows}".encode("utf-16"))
    assert call("audit", photos / "all.csv", code=2).stderr == (
        "error: 'all.csv' lacks the column `path` on line 1, which has 'image file', 'class'; set "
        "`--path-column 'image file'` and `--label-column class` if these columns have the paths and labels\n"
    )
    columns = ("--path-column", "image file", "--label-column", "class")
    told = call("audit", photos / "all.csv", *columns).stdout
    assert "info  'all.csv' was read with semicolons between its columns" in told
    command = call("plan", photos / "all.csv", *columns).stdout.splitlines()[-1]
    assert "all.csv --path-column 'image file' --label-column class --strategies" in command
    assert "`--label-column` needs a CSV" in call("audit", photos, "--label-column", "class", code=2).stderr


@pytest.mark.fault("D17")
def test_audit_writes_a_manifest_of_the_images_that_can_be_used(photos, tmp_path):
    shutil.copy(photos / "red/00.png", photos / "green/copy.png")
    shutil.copy(photos / "red/01.png", photos / "red/copy.png")
    (photos / "blue/page.jpg").write_text("<html>")
    damaged = bytearray((photos / "blue/00.png").read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF  # only decoding finds this
    (photos / "blue/00.png").write_bytes(damaged)
    file = tmp_path / "clean.csv"
    told = call("audit", photos, "--fail-on", "error", code=1).stdout.splitlines()
    assert told[-1] == (
        "--exclude-duplicates leaves the copies out; --write-clean FILE.csv writes a manifest without them"
    )
    told = call("audit", photos, "--write-clean", file).stdout.splitlines()
    assert told[-1] == (
        f"wrote {file}: 36 images, without 2 files that cannot be used and 3 copies of images; read it as DATA"
    )
    call("audit", file, "--fail-on", "warning")
    left = {line.split(",")[0] for line in file.read_text().splitlines()[1:]}
    every = {f"photos/{path.relative_to(photos)}" for path in photos.rglob("*.*g")}
    gone = ("red/00.png", "green/copy.png", "red/copy.png", "blue/page.jpg", "blue/00.png")
    assert every - left == {f"photos/{path}" for path in gone}
    assert "`--write-clean`" in call("audit", photos, "--write-clean", photos / "red/x.csv", code=2).stderr
    again = call("audit", photos, "--write-clean", file, code=2).stderr
    assert again == f"error: `--write-clean` {file} exists; choose another name, or set `--overwrite` to replace it\n"
    call("audit", photos, "--write-clean", file, "--overwrite", "--json")


def test_a_class_tree_says_what_to_do_about_folders_at_two_levels_and_misspelt_classes(photos, tmp_path):
    for shade, name in ((40, "a"), (80, "b")):
        shutil.copytree(photos / "blue", photos / f"red/{name}")
        for file in (photos / f"red/{name}").iterdir():
            Image.fromarray(np.asarray(Image.open(file)) + np.uint8(shade)).save(file)
    options = ("--nested", "--strategy", "hierarchical", "--epochs", 1, "--out", tmp_path / "out")
    told = call("train", photos, *options, code=2).stderr.splitlines()
    assert told[0].startswith("warning: The folder 'red' has images beside folders of images ('red/a', 'red/b')")
    assert told[1].startswith("error: `classes` 'red' must be a leaf")
    assert told[1].endswith("YAML file (`--tree`) with all of them as leaves: any red: [red, red/a, red/b]")
    (tmp_path / "tree.yaml").write_text("any red: [red, red/a, red/b]\nblue:\ngren:\n")
    told = call("train", photos, *options, "--tree", tmp_path / "tree.yaml", code=2).stderr.splitlines()
    assert told[1].endswith("it has 'gren' where the class is 'green'; write each name as the class is called")
    (tmp_path / "tree.yaml").write_text("any red: [red, red/a, red/b]\nblue:\ngreen:\nblack:\n")
    told = call("train", photos, *options, "--tree", tmp_path / "tree.yaml", code=2).stderr.splitlines()
    assert "the leaves 'black' of the tree" in told[1]
    assert "`--keep-empty-classes` keeps a class that has no images" in told[1]
    (tmp_path / "tree.yaml").write_text("any red: [red, red/a, red/b]\nblue:\ngreen:\n")
    call("train", photos, *options, "--tree", tmp_path / "tree.yaml")
    assert json.loads((tmp_path / "out/run.json").read_text())["classes"] == ["blue", "green", "red", "red/a", "red/b"]


def test_a_count_of_0_given_to_evaluate_is_named_with_its_consequence(tmp_path):
    labels = np.arange(30) % 3
    for split in ("val", "test"):
        logits = np.random.default_rng(0).normal(size=(30, 3)) + 2 * np.eye(3)[labels]
        np.savez(tmp_path / f"predictions-{split}.npz", logits=logits, labels=labels, classes=np.array(["a", "b", "c"]))
    file = tmp_path / "predictions-test.npz"
    told = call("evaluate", file, "--counts", "50,10,0")
    assert told.stderr == (
        "warning: `--counts`: 1 class has no training images and is in the group few: 'c'; correct the counts if the "
        "model was trained on images of them\n"
    )
    told = call("evaluate", file, "--counts", "50,0,0", "--tune", "tau", "--json")
    assert "2 classes have no training images and are never predicted after logit adjustment: 'b', 'c'" in told.stderr
    assert [score["recall"] for score in json.loads(told.stdout)["after"]["classes"]] == [1.0, 0.0, 0.0]
    assert call("evaluate", file, "--counts", "50,10,5").stderr == ""
    error = call("evaluate", file, "--counts", "0,0,0", "--tune", "tau", code=2).stderr
    assert error == "error: `--counts` must have at least one class with a count above 0; correct the counts\n"
