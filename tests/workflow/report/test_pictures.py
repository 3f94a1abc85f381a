"""Pictures of mistakes, of what a strategy fixes and breaks, of copies and of quarantined files."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from counterpoise.core.artifacts import Example, Finding, Predictions, Quarantined
from counterpoise.core.errors import ArtifactError, DatasetError
from counterpoise.workflow.dataset import load, open_images
from counterpoise.workflow.report import pictures, render, render_html
from counterpoise.workflow.report.outcomes import read_outcomes

from . import samples
from .test_html import ALLOWED, Tree

NAMES = ("cat", "<b>dog</b>", "fox")


class Coloured:
    """An image for every path, larger than a thumbnail and with structure, except for the path ``gone.png``."""

    name = "/home/ann/secret-project/photos"

    def thumbnail(self, path: str, size: int) -> Any:
        if path == "gone.png":
            raise DatasetError("there is no such file")
        rng = np.random.default_rng(list(path.encode()))
        return rng.integers(0, 256, (size, size, 3)).astype(np.uint8)


def write(folder: Path, logits: list[list[float]], labels: list[int], paths: list[str], names: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    predictions = Predictions(np.array(logits), np.array(labels), np.array(paths), np.array(names))
    predictions.save(folder / "predictions-test.npz")


def sure(predicted: int, probability: float = 0.9, classes: int = 3) -> list[float]:
    """Logits with this probability for a class; the others share the rest."""
    rest = (1 - probability) / (classes - 1)
    return [float(np.log(probability if c == predicted else rest)) for c in range(classes)]


@pytest.fixture
def compared(tmp_path: Path) -> tuple[Any, Path]:
    """A comparison of three classes, cat the most and fox the least frequent, with the predictions of its runs."""
    comparison = samples.comparison(NAMES, seeds=(0, 1))
    comparison = replace(comparison, audit=replace(comparison.audit, quarantined=()))
    labels, paths = [0, 0, 1, 2, 2, 2], [f"test/{i}.png" for i in range(6)]
    baseline = [sure(0), sure(0), sure(1), sure(0, 0.99), sure(1, 0.7), sure(2)]
    ours = [sure(0), sure(2, 0.8), sure(1), sure(2), sure(1, 0.6), sure(2)]
    second = [sure(0), sure(2, 0.6), sure(1), sure(2), sure(0, 0.7), sure(2)]
    for name in ("baseline", "logit-adjusted"):
        for seed in (0, 1):
            logits = baseline if name == "baseline" else second if seed else ours
            write(tmp_path / "runs" / f"{name}-seed{seed}", logits, labels, paths, NAMES)
    return comparison, tmp_path


def test_the_outcomes_over_two_runs_are_those_counted_by_hand(compared):
    _, folder = compared
    found = read_outcomes([folder / "runs" / f"logit-adjusted-seed{seed}" for seed in (0, 1)], NAMES)
    assert found.wrong.tolist() == [0, 2, 0, 0, 2, 0]
    assert found.mistaken.tolist() == [0, 2, 1, 2, 0, 2]  # image 4: dog with 0.6 in one run, cat with 0.7 in the other
    np.testing.assert_allclose(found.confidence, [0, 0.7, 0, 0, 0.7, 0], atol=1e-12)
    np.testing.assert_allclose(found.weight, [0, 0.7, 0, 0, 0.35, 0], atol=1e-12)
    np.testing.assert_allclose(found.true_probability, [0.9, 0.15, 0.9, 0.9, 0.175, 0.9], atol=1e-12)


def test_predictions_of_other_images_or_classes_are_refused(compared):
    _, folder = compared
    write(folder / "other", [sure(0)] * 6, [0, 0, 1, 2, 2, 2], [f"x{i}" for i in range(6)], NAMES)
    with pytest.raises(ArtifactError, match="other images or classes"):
        read_outcomes([folder / "runs/baseline-seed0", folder / "other"], NAMES)
    with pytest.raises(ArtifactError, match="other images or classes"):
        read_outcomes([folder / "runs/baseline-seed0"], ("a", "b", "c"))


def alt_texts(html: str) -> list[str]:
    return [attributes["alt"] or "" for attributes in Tree(html).all("img")]


def test_mistakes_fixed_and_broken_images_are_shown_with_class_prediction_and_confidence(compared):
    comparison, folder = compared
    html = render_html(comparison, data=Coloured(), folder=folder)
    assert alt_texts(html) == [
        "fox, predicted as cat with a probability of 70\u00a0%",
        "cat, predicted as fox with a probability of 70\u00a0%",
        "fox; baseline predicts cat with a probability of 99\u00a0%, logit-adjusted predicts it right",
        "cat; logit-adjusted predicts fox with a probability of 70\u00a0%, baseline predicts it right",
    ]
    text = " ".join("".join(part for _, part in Tree(html).texts).split())
    assert (
        "1 image of 6 that logit-adjusted predicts right and baseline wrong, each in most of its 2 runs: fox 1." in text
    )
    assert (
        "1 image of 6 that baseline predicts right and logit-adjusted wrong, each in most of its 2 runs: cat 1." in text
    )
    assert "fox 10 training images; 1 of 3 test images wrong in most of the 2 runs" in text
    for name in ("4.png", "1.png", "3.png"):
        assert name in text


def test_if_the_baseline_is_selected_it_is_set_against_the_best_other_strategy(compared):
    comparison, folder = compared
    verdict = replace(comparison.verdict, recommended="baseline", leader="baseline")
    arms = tuple(arm for arm in comparison.arms if arm.strategy.name in ("baseline", "logit-adjusted"))
    html = render_html(replace(comparison, verdict=verdict, arms=arms), data=Coloured(), folder=folder)
    assert "Most confident mistakes of baseline" in html
    assert "Fixed by logit-adjusted" in html


def test_a_comparison_without_mistakes_says_so(compared):
    comparison, folder = compared
    for seed in (0, 1):
        for name in ("baseline", "logit-adjusted"):
            (folder / f"runs/{name}-seed{seed}/predictions-test.npz").unlink()
            (folder / f"runs/{name}-seed{seed}").rmdir()
            write(folder / f"runs/{name}-seed{seed}", [sure(0), sure(2)], [0, 2], ["a", "b"], NAMES)
    html = render_html(comparison, data=Coloured(), folder=folder)
    assert "logit-adjusted predicts every test image right." in html
    assert "Broken by logit-adjusted: none of the 2 test images." in html


@pytest.mark.fault("R1")
def test_names_stay_text_and_no_tag_or_address_is_new(compared):
    comparison, folder = compared
    for path in (folder / "runs").glob("*/predictions-test.npz"):
        saved = Predictions.load(path)
        hostile = np.array(["</script><script>alert(1)</script>", *saved.paths[1:]])
        replace(saved, logits=saved.logits[:, [1, 0, 2]], paths=hostile).save(path)
    tree = Tree(render_html(comparison, data=Coloured(), folder=folder))
    assert tree.open == []
    assert {tag for tag, _ in tree.tags} <= {*ALLOWED, "img", "h4"}
    assert all(a["src"].startswith("data:image/") for a in tree.all("img"))
    assert not [a for _, a in tree.tags if any(name.startswith("on") or name == "style" for name in a)]
    assert "script>" in " ".join(tree.inside("bdi"))


def sources(html: str) -> list[bytes]:
    return [base64.b64decode(code) for code in re.findall(r'src="data:image/\w+;base64,([^"]+)"', html)]


@pytest.mark.fault("R2")
@pytest.mark.fault("R6")
def test_pictures_are_small_without_metadata_and_the_same_each_time(compared):
    comparison, folder = compared
    html = render_html(comparison, data=Coloured(), folder=folder)
    assert html == render_html(comparison, data=Coloured(), folder=folder)
    opened = [Image.open(io.BytesIO(data)) for data in sources(html)]
    assert {image.format for image in opened} == {"JPEG"}
    assert all(max(image.size) <= pictures.SIZE and not image.getexif() for image in opened)
    assert all(set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"} for image in opened)
    for attributes, image in zip(Tree(html).all("img"), opened, strict=True):
        assert (int(attributes["width"]), int(attributes["height"])) == image.size
        assert attributes["loading"] == "lazy"


def test_all_pictures_of_a_page_stay_within_the_stated_bytes(compared, monkeypatch):
    comparison, folder = compared
    whole = render_html(comparison, data=Coloured(), folder=folder)
    longest = max(map(len, re.findall(r'src="(data:image[^"]+)"', whole)))
    monkeypatch.setattr(pictures, "MAX_BYTES", 2 * longest)
    html = render_html(comparison, data=Coloured(), folder=folder)
    assert len(sources(html)) == 2
    assert "2 pictures are not shown, because a page has at most" in html


def test_images_that_are_gone_are_counted_and_the_way_out_is_named(compared):
    comparison, folder = compared
    for path in (folder / "runs").glob("*/predictions-test.npz"):
        saved = Predictions.load(path)
        replace(saved, paths=np.array(["a.png", "b.png", "c.png", "gone.png", "gone.png", "d.png"])).save(path)
    html = render_html(comparison, data=Coloured(), folder=folder)
    text = " ".join("".join(part for _, part in Tree(html).texts).split())
    assert "2 pictures are not shown, because the files are no longer at …/photos" in text
    assert "counterpoise report DIR --data DATA" in text
    assert len(sources(html)) == 2
    gone = render_html(comparison, data=open_images("no/such/folder"), folder=folder)
    assert "4 pictures are not shown, because the files are no longer at no/such/folder" in gone
    assert not sources(gone)
    assert "secret-project" not in html + gone


def test_without_images_or_in_another_format_nothing_changes(compared):
    comparison, folder = compared
    plain = render(comparison, folder / "plain.html").read_text("utf-8")
    assert render(comparison, folder / "no.html", data=Coloured(), images=False).read_text("utf-8") == plain
    assert '<img src="data:' in render(comparison, folder / "report.html", data=Coloured()).read_text("utf-8")
    markdown = render(comparison, folder / "a.md").read_text("utf-8")
    assert render(comparison, folder / "b.md", data=Coloured()).read_text("utf-8") == markdown
    saved = render(comparison, folder / "a.json").read_text("utf-8")
    assert render(comparison, folder / "b.json", data=Coloured()).read_text("utf-8") == saved


def test_missing_predictions_are_named_and_the_rest_is_shown(compared, tmp_path):
    comparison, folder = compared
    (folder / "runs/baseline-seed1/predictions-test.npz").unlink()
    html = render_html(comparison, data=Coloured(), folder=folder)
    assert "There are no pictures of mistakes, because the predictions cannot be read" in html
    assert "Recall per class" in html


def test_a_run_shows_its_most_confident_mistakes(compared):
    _, folder = compared
    run = replace(samples.run(NAMES), directory=str(folder / "runs/baseline-seed0"))
    html = render(run, folder / "run.html", data=Coloured()).read_text("utf-8")
    assert alt_texts(html) == [
        "fox, predicted as cat with a probability of 99\u00a0%",
        "fox, predicted as <b>dog</b> with a probability of 70\u00a0%",
    ]


def test_copies_stand_side_by_side_and_a_quarantined_file_that_can_be_decoded_is_shown():
    findings = (
        Finding("same-image-two-classes", "error", "Two labels.", ("train/cat/a.png", "train/dog/b.png")),
        Finding("same-image-two-splits", "error", "Two splits.", ("train/dog/b.png", "train/cat/a.png")),
        Finding("repeated-images", "info", "1 image repeats.", ("train/fox/c.png", "train/fox/d.png")),
    )
    quarantined = (Quarantined("train/cat/cut.png", "Truncated.", "cat", "train"), Quarantined("gone.png", "Empty."))
    examples = (Example("train/cat/a.png", "cat", "test"), Example("train/dog/b.png", "dog", "val"))
    audit = replace(samples.audit(), findings=findings, quarantined=quarantined, examples=examples)
    html = render_html(audit, data=Coloured())
    pairs = ["the image train/cat/a.png", "the image train/dog/b.png"]
    assert alt_texts(html) == [
        *pairs,
        "the image train/fox/c.png",
        "the image train/fox/d.png",
        "the image train/cat/cut.png",
    ]
    assert "Different labels and different splits" in html
    assert "The same class and split" in html
    assert "First training image" not in html  # the two examples are no training images
    text = " ".join("".join(part for _, part in Tree(html).texts).split())
    assert "cat test" in text
    assert "dog validation" in text
    assert "Empty." in html
    assert "not shown" not in html


def test_the_first_training_image_of_each_class_is_that_of_the_audit():
    examples = (
        Example("dog.png", "dog", "train"),
        Example("cat.png", "cat", "train"),
        Example("copy.png", "cat", "train"),
        Example("gone.png", "frog", "train"),
    )
    html = render_html(replace(samples.audit(), quarantined=(), examples=examples), data=Coloured())
    assert alt_texts(html) == ["a training image of cat", "a training image of dog"]
    alone = replace(samples.audit(), quarantined=(), examples=examples[1:2])
    assert sources(render_html(alone, data=Coloured())) == sources(html)[:1]
    assert "not shown" not in html


def photo(path: Path, size: tuple[int, int], **options: Any) -> None:
    """An image whose left half is red and whose right half is blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (0, 0, 200))
    image.paste((200, 0, 0), (0, 0, size[0] // 2, size[1]))
    image.save(path, **options)


def test_a_thumbnail_is_upright_as_in_training(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise: left becomes top
    photo(tmp_path / "photos/cat/a.jpg", (1600, 800), exif=exif, quality=95)
    photo(tmp_path / "photos/dog/b.png", (10, 30))
    whole = load(tmp_path / "photos")
    for images in (whole, open_images(tmp_path / "photos")):
        small = images.thumbnail("cat/a.jpg", 100)
        assert small.shape == (100, 50, 3)
        np.testing.assert_allclose(small[10, 25], whole[0][100, 400], atol=8)
        np.testing.assert_allclose(small[90, 25], whole[0][1500, 400], atol=8)
        assert images.thumbnail("dog/b.png", 100).shape == (30, 10, 3)


@pytest.mark.parametrize(
    "path", ["../secret.png", "/etc/passwd", "cat/../../secret.png", "link.png", "cat", "a\0b", ""]
)
@pytest.mark.fault("R6")
def test_no_path_leads_out_of_the_folder(tmp_path, path):
    photo(tmp_path / "secret.png", (10, 10))
    photo(tmp_path / "photos/cat/a.png", (10, 10))
    (tmp_path / "photos/link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DatasetError, match="is not a file in"):
        open_images(tmp_path / "photos").thumbnail(path, 64)
    with pytest.raises(DatasetError, match="is not a file in"):
        load(tmp_path / "photos", val_fraction=0, test_fraction=0).thumbnail(path, 64)


def test_the_paths_of_a_manifest_are_relative_to_its_folder_and_digits_need_no_files(tmp_path):
    photo(tmp_path / "photos/cat/a.png", (10, 10))
    (tmp_path / "list.csv").write_text("path,label\nphotos/cat/a.png,cat\n")
    assert open_images(tmp_path / "list.csv").thumbnail("photos/cat/a.png", 64).shape == (10, 10, 3)
    digits, images = load("digits"), open_images("digits")
    for row in (0, 500, len(digits) - 1):
        assert (images.thumbnail(digits.paths[row], 64) == digits[row]).all()
        assert (digits.thumbnail(digits.paths[row], 64) == digits[row]).all()
    with pytest.raises(DatasetError, match="is not an image of"):
        images.thumbnail("digits/9/9999", 64)


def test_an_image_that_half_of_the_runs_predict_wrong_is_neither_wrong_nor_right_in_most(tmp_path):
    for i, logits in enumerate(([sure(0), sure(1), sure(2)], [sure(0), sure(0), sure(1)])):
        write(tmp_path / str(i), logits, [0, 0, 0], ["a", "b", "c"], NAMES)
    found = read_outcomes([tmp_path / "0", tmp_path / "1"], NAMES)
    assert found.wrong.tolist() == [0, 1, 2]
    assert found.is_wrong.tolist() == [False, False, True]
    assert found.is_right.tolist() == [True, False, False]
    assert found.mistaken.tolist() == [0, 1, 2]  # of the last, both classes are as likely: the one of the first run
