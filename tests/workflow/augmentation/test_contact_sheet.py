"""The contact sheet shows what was made from which image, is bounded, and is inert whatever the names are."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.workflow.augmentation import augment, contact_sheet, preview, read_lineage
from counterpoise.workflow.dataset import load

SHEET = "contact-sheet.html"


def write_images(root, counts, size=(20, 24)):
    rng = np.random.default_rng(0)
    for name, n in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def photos(tmp_path):
    counts = {"car": 9, "<img src=x onerror=alert(1)>": 2, "a & b": 4}
    return load(write_images(tmp_path / "photos", counts), val_fraction=0, test_fraction=0)


class Read(HTMLParser):
    """The headings, the pictures and the text beside each of a page."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.pictures, self.labels, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])
            self.labels.append("")
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "h2" in self.open:
            self.headings.append(data)
        if "li" in self.open and self.labels and data.strip():
            self.labels[-1] += data.strip() + " "


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_it_shows_originals_with_their_variants_and_the_operations(photos, tmp_path):
    result = augment(photos, tmp_path / "out", target="count:9", jobs=1)
    read = Read((tmp_path / "out" / SHEET).read_text("utf-8"))
    assert read.headings == ["<img src=x onerror=alert(1)>", "a & b"]  # most new images first; car got none
    lineage = read_lineage(tmp_path / "out/augmented.csv")
    assert result.made == len(lineage) == 12
    assert len(read.pictures) == (2 + 7) + (3 + 4)  # sources and variants; the fourth image of the second has no row
    by_pixels = {decoded(uri).tobytes(): label for uri, label in zip(read.pictures, read.labels, strict=True)}
    shown = 0
    for row in lineage:
        pixels = np.asarray(Image.open(tmp_path / "out" / row["file"]).convert("RGB")).tobytes()
        if pixels in by_pixels:
            shown += 1
            assert by_pixels[pixels].strip() == row["operations"].replace("+", ", ")
            original = np.asarray(Image.open(photos.root / row["source"]).convert("RGB")).tobytes()
            assert by_pixels[original].split() == ["original", row["source"].rpartition("/")[2]]
    assert shown == len(read.pictures) - sum("original" in label for label in read.labels)
    assert shown == 7 + 4


def test_names_stay_text_and_nothing_is_loaded(photos, tmp_path):
    augment(photos, tmp_path / "out", jobs=1)
    text = (tmp_path / "out" / SHEET).read_text("utf-8")
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert all(src.startswith("data:image/") for src in re.findall(r'<img src="([^"]+)"', text))
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


def test_its_size_is_bounded_whatever_the_data(tmp_path):
    counts = {f"class {i:02d}": 1 + i % 2 for i in range(30)} | {"many": 4}
    root = write_images(tmp_path / "photos", counts, size=(120, 220))
    augment(load(root, val_fraction=0, test_fraction=0), tmp_path / "out", jobs=1)
    text = (tmp_path / "out" / SHEET).read_text("utf-8")
    read = Read(text)
    assert len(read.headings) == contact_sheet.MAX_CLASSES
    assert "this page shows the 24 classes with the most new images" in text
    assert max(max(decoded(uri).shape) for uri in read.pictures[:40]) == contact_sheet.SIZE
    per_class = contact_sheet.MAX_SOURCES * (1 + contact_sheet.MAX_VARIANTS)
    assert len(read.pictures) <= contact_sheet.MAX_CLASSES * per_class


def test_without_images_there_is_no_sheet(photos, tmp_path):
    augment(photos, tmp_path / "out", jobs=1, images=False)
    assert not (tmp_path / "out" / SHEET).exists()
    augment(photos, tmp_path / "out", jobs=1, resume=True)
    assert (tmp_path / "out" / SHEET).exists()
    assert len(load(tmp_path / "out", val_fraction=0, test_fraction=0)) == 27
    augment(photos, tmp_path / "out", jobs=1, resume=True, images=False)
    assert not (tmp_path / "out" / SHEET).exists()
    augment(photos, tmp_path / "none", target="count:1", jobs=1)
    assert not (tmp_path / "none" / SHEET).exists()


def test_only_the_operations_named_are_used_with_the_strength_given(photos, tmp_path):
    result = augment(photos, tmp_path / "out", target="count:20", operations=["noise", "crop"], strength=0.25)
    assert (result.operations, result.strength) == (("crop", "noise"), 0.25)
    rows = read_lineage(tmp_path / "out/augmented.csv")
    assert {row["operations"] for row in rows} == {"crop", "noise", "crop+noise"}
    assert {row["strength"] for row in rows} == {"0.25"}
    assert preview(photos, tmp_path / "new", target="count:20", operations=["crop", "noise"], strength=0.25) == result


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operations": ["nois"]}, "`operations` 'nois' is unknown; did you mean .*noise"),
        ({"operations": ["vflip", "noise"]}, r"'vflip' may change the labels .* hflip; leave it out.*\(--symmetries\)"),
        ({"operations": []}, "`operations` must name at least one of rotate, .*erase; got none"),
        ({"operations": ["hflip"]}, "at least one of rotate, crop, .*; got hflip, with which several new images"),
        ({"strength": 0}, "`strength` must be above 0 and at most 1; got 0"),
        ({"strength": 1.5}, "`strength` must be above 0 and at most 1; got 1.5"),
        ({"strength": float("nan")}, "`strength` must be above 0 and at most 1; got nan"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(photos, tmp_path, options, message):
    for call in (augment, preview):
        with pytest.raises(ArgumentError, match=message):
            call(photos, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_text_is_no_list_of_operations(photos, tmp_path):
    with pytest.raises(ArgumentTypeError, match=r"must be a list of names, such as \['crop', 'colour'\]; got 'noise'"):
        augment(photos, tmp_path / "out", operations="noise")
    with pytest.raises(ArgumentTypeError, match="`strength` must be a number; got str"):
        augment(photos, tmp_path / "out", strength="0.4")


def test_a_folder_made_otherwise_is_not_continued(photos, tmp_path):
    out = tmp_path / "out"
    augment(photos, out, jobs=1)
    with pytest.raises(ArgumentError, match=r"`strength` was 0\.4 and is now 0\.5; name a new folder"):
        augment(photos, out, strength=0.5, resume=True)
    with pytest.raises(ArgumentError, match=r"the list of operations \(`operations`, `symmetries`\) was .*'blur'"):
        augment(photos, out, operations=["crop"], resume=True)
    record = out / "augmented.json"
    record.write_text(record.read_text().replace(',\n "strength": 0.4', ""))  # as before there was a strength
    assert "strength" not in record.read_text()
    with pytest.raises(ArgumentError, match=r"an earlier version of Counterpoise, which drew other operations; name a"):
        augment(photos, out, resume=True)
