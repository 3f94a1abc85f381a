"""Features of images: their values, what is extracted again, interruptions, damage, and a full disk."""

from __future__ import annotations

import copy
import errno
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.workflow.training.frozen.photos import OPTIONS, write_photo, write_photos
from torch import nn

from counterpoise.core.errors import ArgumentError, DatasetError, WriteError
from counterpoise.models import build_extractor, inspect_model
from counterpoise.workflow.dataset import load
from counterpoise.workflow.training.data import fit_to_square, to_tensor
from counterpoise.workflow.training.frozen import cache as cache_module
from counterpoise.workflow.training.frozen import extraction
from counterpoise.workflow.training.frozen.extraction import extract_features

SPLITS = ("train", "val", "test")
VIEWS = {"views": 2, "augment": ("crop", "hflip")}


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


@pytest.fixture
def passed(monkeypatch):
    """The number of images of each batch that goes through the network."""
    numbers, compute = [], extraction._Network._features

    def count(network, images):
        numbers.append(len(images))
        return compute(network, images)

    monkeypatch.setattr(extraction._Network, "_features", count)
    return numbers


def equal(one, other):
    return all(np.array_equal(one.values[split], other.values[split]) for split in SPLITS)


def network_of(module: nn.Module, monkeypatch):
    """Let `extract_features` use this module as its backbone, which gets images in [-1, 1]."""
    made = extraction.FeatureExtractor(module, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).eval()
    monkeypatch.setattr(extraction, "build_extractor", lambda *arguments, **options: made)


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_features_are_those_of_a_plain_loop(photos, resize):
    options = {**OPTIONS, "resize": resize}
    features = extract_features(photos, **options, cache=None)
    network = build_extractor("resnet20")
    assert features.width == 64
    for split in SPLITS:
        images = photos.subset(split)
        squares = [to_tensor(fit_to_square(images[i], 12, resize)) for i in range(len(images))]
        with torch.no_grad():
            expected = network(torch.stack(squares).float() / 255).numpy()
        assert features.values[split].dtype == np.float16
        assert features.values[split].shape == (len(images), 1, 64)
        np.testing.assert_allclose(features.values[split][:, 0], expected, rtol=1e-3, atol=1e-5)
        assert np.ptp(expected, axis=0).max() > 0.01
    assert features.backbone is not None
    assert not features.backbone.training
    assert features.faults == {}
    assert state_equal(features.backbone, network)


def state_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_network_of_timm_gets_the_normalisation_of_its_weights(photos):
    features = extract_features(photos, **{**OPTIONS, "model": "timm:tf_efficientnet_lite0"}, cache=None)
    assert features.width == 1280
    assert features.source["mean"] == features.source["std"] == [0.5, 0.5, 0.5]
    assert extract_features(photos, **OPTIONS, cache=None).source["mean"] == [0.485, 0.456, 0.406]


def small_network(num_classes):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, num_classes))


def test_a_network_of_the_user_gives_the_input_of_its_classifier(photos):
    model = inspect_model(small_network, 2, image_size=12)
    features = extract_features(photos, **{**OPTIONS, "model": model}, cache=None)
    assert features.width == 800
    assert features.source["model"].endswith("small_network")
    square = to_tensor(fit_to_square(photos.subset("test")[0], 12))[None].float() / 255
    mean, std = (torch.tensor(features.source[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = small_network(2)[:3]((square - mean) / std)[0].numpy()
    np.testing.assert_allclose(features.values["test"][0, 0], expected, rtol=1e-3, atol=1e-3)


def test_nothing_is_extracted_twice(photos, tmp_path, passed):
    cache = tmp_path / "cache"
    first = extract_features(photos, **OPTIONS, cache=cache, **VIEWS)
    assert sum(passed) == 11 * 3 + 4 + 6
    passed.clear()
    assert equal(first, extract_features(photos, **OPTIONS, cache=cache, **VIEWS))
    # Other names, splits and classes of the same images.
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "photos" / "test", moved / "train")
    for file in (moved / "train" / "dots").iterdir():
        file.rename(file.with_name(f"renamed-{file.name}"))
    renamed = load(moved)  # some of them are in val now
    again = extract_features(renamed, **OPTIONS, cache=cache)
    assert passed == []
    before = dict(zip(photos.subset("test").paths, first.values["test"], strict=True))
    for split in SPLITS:
        for path, row in zip(renamed.subset(split).paths, again.values[split], strict=True):
            assert np.array_equal(row, before[path.replace("train/", "test/").replace("renamed-", "")])
    # One more view is extracted alone, as is an image that changed.
    extract_features(photos, **OPTIONS, cache=cache, views=3, augment=VIEWS["augment"])
    assert sum(passed) == 11
    passed.clear()
    write_photo(tmp_path / "photos" / "val" / "dots" / "1.png", np.random.default_rng(9))
    changed = extract_features(load(tmp_path / "photos"), **OPTIONS, cache=cache, **VIEWS)
    assert passed == [1]
    different = (changed.values["val"] != first.values["val"]).any(axis=(1, 2))
    assert different.tolist() == [False, True, False, False]
    assert np.array_equal(changed.values["train"], first.values["train"])


def test_the_same_image_under_two_names_is_extracted_once(photos, tmp_path, passed):
    for split in ("train", "test"):
        shutil.copy(tmp_path / "photos/train/dots/0.png", tmp_path / "photos" / split / "lines/copy.png")
    features = extract_features(load(tmp_path / "photos"), **OPTIONS, cache=None)
    assert sum(passed) == 21
    images = load(tmp_path / "photos")
    first, copy = (images.subset("train").paths.index(f"train/{name}.png") for name in ("dots/0", "lines/copy"))
    assert np.array_equal(features.values["train"][first], features.values["train"][copy])


@pytest.mark.parametrize(
    "other",
    [
        {"image_size": 10}, {"resize": "pad"}, {"model": "resnet32"}, {"precision": "bf16"},
        {"views": 1, "augment": ("hflip",)},
    ],
)  # fmt: skip
def test_another_preparation_is_another_cache(photos, tmp_path, passed, other):
    first = extract_features(photos, **OPTIONS, cache=tmp_path / "cache")
    passed.clear()
    second = extract_features(photos, **{**OPTIONS, **other}, cache=tmp_path / "cache")
    assert sum(passed) == (11 if "views" in other else 21)
    assert first.source != second.source
    if "views" in other:
        assert np.array_equal(first.values["train"], second.values["train"][:, :1])


def test_cached_and_fresh_features_are_the_same_bits_in_any_batches(photos, tmp_path, monkeypatch):
    cached = extract_features(photos, **OPTIONS, cache=tmp_path / "cache", **VIEWS)
    for batch in (2, 5, 64):
        monkeypatch.setitem(extraction._BATCH, "cpu", batch)
        assert equal(cached, extract_features(photos, **OPTIONS, cache=None, **VIEWS))
    assert equal(cached, extract_features(photos, **OPTIONS, cache=tmp_path / "cache", **VIEWS))


def test_views_are_label_preserving_transforms_of_the_image(photos):
    def features(**options):
        return extract_features(photos, **OPTIONS, cache=None, **options).values["train"]

    flipped = features(views=8, augment=("hflip",))
    images = photos.subset("train")
    squares = torch.stack([to_tensor(fit_to_square(images[i], 12)) for i in range(len(images))]).float() / 255
    with torch.no_grad():
        mirrored = build_extractor("resnet20")(squares.flip(3)).numpy()
    is_same = (flipped[:, 1:] == flipped[:, :1]).all(2)
    is_mirrored = np.isclose(flipped[:, 1:], mirrored[:, None], rtol=2e-3, atol=1e-4).all(2)
    assert (is_same ^ is_mirrored).all()
    assert 20 < is_mirrored.sum() < 68  # of 88; p < 1e-6 otherwise
    assert not (is_mirrored == is_mirrored[0]).all()
    cropped = features(views=2, augment=("crop",))
    assert (cropped[:, 1] != cropped[:, 2]).any(1).sum() > 6
    assert np.array_equal(cropped, features(views=2, augment=("crop",)))
    assert not np.array_equal(cropped, features(views=2, augment=("crop",), seed=1))


def test_views_do_not_depend_on_the_other_images(photos, tmp_path):
    whole = extract_features(photos, **OPTIONS, cache=None, **VIEWS)
    shutil.rmtree(tmp_path / "photos/train/dots")
    part = extract_features(load(tmp_path / "photos"), **OPTIONS, cache=None, **VIEWS)
    assert np.array_equal(part.values["train"], whole.values["train"][7:])
    assert whole.values["val"].shape[1] == whole.values["test"].shape[1] == 1


def test_views_by_functions_of_the_user_are_not_kept(photos, tmp_path, passed):
    def darker(image):
        return (image.float() / 255) * torch.rand(1) * 0.5

    options = {**OPTIONS, "cache": tmp_path / "cache", "views": 2, "augment": ("hflip", darker)}
    first = extract_features(photos, **options)
    values = first.values["train"]
    assert (values[:, 1] != values[:, 0]).any(1).all()
    assert (values[:, 1] != values[:, 2]).any(1).all()
    assert "darker" in first.source["augment"][1]
    assert equal(first, extract_features(photos, **options))
    assert sum(passed) == 21 + 4 * 11


def test_views_need_transforms(photos):
    with pytest.raises(ArgumentError, match="`views` needs transforms in `augment`"):
        extract_features(photos, **OPTIONS, cache=None, views=1)


def test_an_interrupted_extraction_resumes_from_its_complete_parts(photos, tmp_path, passed, monkeypatch):
    monkeypatch.setattr(cache_module, "_ROWS_PER_PART", 4)
    monkeypatch.setitem(extraction._BATCH, "cpu", 4)
    compute = extraction._Network._features

    def interrupted(network, images):
        if len(passed) == 3:
            raise KeyboardInterrupt
        return compute(network, images)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(extraction._Network, "_features", interrupted)
        extract_features(photos, **OPTIONS, cache=tmp_path / "cache")
    assert sum(passed) == 12
    passed.clear()
    resumed = extract_features(photos, **OPTIONS, cache=tmp_path / "cache")
    assert sum(passed) == 9
    assert equal(resumed, extract_features(photos, **OPTIONS, cache=None))


KILLED = """
import sys
from pathlib import Path
from tests.workflow.training.frozen.photos import OPTIONS
from counterpoise.workflow.dataset import load
from counterpoise.workflow.training.frozen import cache, extraction
cache._ROWS_PER_PART = extraction._BATCH["cpu"] = 2
compute = extraction._Network._features
def slowly(network, images):
    import time
    time.sleep(0.3)
    return compute(network, images)
extraction._Network._features = slowly
extraction.extract_features(load(sys.argv[1]), **OPTIONS, cache=Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_extraction_leaves_a_usable_cache(photos, tmp_path, passed):
    root, cache = Path(__file__).parents[4], tmp_path / "cache"
    child = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "photos", cache], cwd=root)
    for _ in range(600):
        if len(list(cache.glob("*/part-*.npy"))) >= 2:
            break
        time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = 2 * len(list(cache.glob("*/part-*.npy")))
    assert 4 <= kept < 21
    features = extract_features(photos, **OPTIONS, cache=cache)
    assert sum(passed) == 21 - kept
    assert equal(features, extract_features(photos, **OPTIONS, cache=None))


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "other"])
def test_a_damaged_part_is_extracted_again_with_a_warning(photos, tmp_path, passed, monkeypatch, damage):
    monkeypatch.setattr(cache_module, "_ROWS_PER_PART", 8)
    cache = tmp_path / "cache"
    first = extract_features(photos, **OPTIONS, cache=cache)
    part = sorted(cache.glob("*/part-*.npy"))[0]
    content = bytearray(part.read_bytes())
    rows = len(np.load(part))
    if damage == "flip":
        content[-1] ^= 1
    if damage == "other":  # a whole part, but of another network
        extract_features(photos, **{**OPTIONS, "model": "resnet32"}, cache=tmp_path / "second")
        second = sorted((tmp_path / "second").glob("*/part-*.npy"))[0]
        content = bytearray(second.read_bytes())
        part = part.rename(part.with_name(second.name))
    part.write_bytes(content[: {"truncate": 100, "empty": 0}.get(damage)])
    passed.clear()
    with pytest.warns(UserWarning, match=rf"{part.name} is damaged .* computed again; check the disk"):
        assert equal(first, extract_features(photos, **OPTIONS, cache=cache))
    assert sum(passed) == rows
    passed.clear()
    assert equal(first, extract_features(photos, **OPTIONS, cache=cache))
    assert passed == []


def test_extractions_into_one_cache_at_the_same_time(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_ROWS_PER_PART", 3)
    # Threads stand for processes here, and they would share the random numbers of initial weights.
    network = build_extractor("resnet20")
    monkeypatch.setattr(extraction, "build_extractor", lambda *arguments, **options: copy.deepcopy(network))
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(extract_features, photos, **OPTIONS, cache=cache, **VIEWS) for _ in range(3)]
        results = [run.result() for run in runs]
    expected = extract_features(photos, **OPTIONS, cache=None, **VIEWS)
    assert all(equal(result, expected) for result in results)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert equal(extract_features(photos, **OPTIONS, cache=cache, **VIEWS), expected)


@pytest.mark.parametrize("first", [1, 2, 4])
def test_a_disk_that_fills_is_one_error_and_the_cache_stays_usable(photos, tmp_path, passed, monkeypatch, first):
    monkeypatch.setattr(cache_module, "_ROWS_PER_PART", 4)
    monkeypatch.setitem(extraction._BATCH, "cpu", 4)
    writes, fsync = [], os.fsync

    def write(handle):
        writes.append(handle)
        if len(writes) >= first:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    message = r"^cannot write to .*: No space left on device; free space on this disk, or write to another"
    with monkeypatch.context() as patched, pytest.raises(WriteError, match=message):
        patched.setattr(os, "fsync", write)
        extract_features(photos, **OPTIONS, cache=tmp_path / "cache")
    kept = 4 * max(0, first - 2)  # the first file is the description
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    passed.clear()
    features = extract_features(photos, **OPTIONS, cache=tmp_path / "cache")
    assert sum(passed) == 21 - kept
    assert equal(features, extract_features(photos, **OPTIONS, cache=None))


def test_a_cache_that_cannot_be_written_is_refused_before_any_work(photos, tmp_path, passed):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(WriteError, match=r"cannot write to .*cache"):
        extract_features(photos, **OPTIONS, cache=tmp_path / "cache")
    assert passed == []


def test_images_that_cannot_be_decoded_are_faults(photos, tmp_path):
    train = tmp_path / "photos/train/dots"
    content = (train / "3.png").read_bytes()
    damaged = content[:60] + bytes(40) + content[100:]
    for name in ("3.png", "5.png"):  # a copy of a damaged image is damaged, too
        (train / name).write_bytes(damaged)
    (tmp_path / "photos/test/lines/2.png").write_bytes(damaged[:-13] + b"x" + damaged[-12:])
    data = load(tmp_path / "photos")
    features = extract_features(data, **OPTIONS, cache=tmp_path / "cache", **VIEWS)
    assert {split: list(rows) for split, rows in features.faults.items()} == {"train": [3, 5], "test": [5]}
    assert "train/dots/5.png" in features.faults["train"][5]
    assert np.array_equal(features.values["train"][[3, 5]], np.zeros((2, 3, 64)))
    rest = data.without_unreadable()
    assert len(rest) == 18
    assert equal(features.without_faults(), extract_features(rest, **OPTIONS, cache=None, **VIEWS))
    assert features.without_faults().faults == {}


def test_an_image_that_changes_while_it_is_read_is_refused(photos, monkeypatch, tmp_path):
    decode = type(photos).__getitem__

    def change(data, row):
        image = decode(data, row)
        write_photo(Path(data.file(row)), np.random.default_rng(5))
        return image

    monkeypatch.setattr(type(photos), "__getitem__", change)
    with pytest.raises(DatasetError, match=r"\.png changed while it was read; start again when no other program"):
        extract_features(photos, **OPTIONS, cache=tmp_path / "cache")


class Bright(nn.Module):
    """Features that are NaN, or beyond float16, for images whose first pixel is bright."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, images):
        features = images.flatten(1)[:, :5].clone()
        features[images[:, 0, 0, 0] > 0.5, 2] = self.value
        return features


def test_features_that_are_not_finite_are_refused_with_the_image(photos, monkeypatch):
    network_of(Bright(float("nan")), monkeypatch)
    first = next(i for i in range(len(photos)) if fit_to_square(photos[i], 12)[0, 0, 0] > 192)
    with pytest.raises(ArgumentError, match=rf"gives NaN or infinity for image '{photos.paths[first]}'"):
        extract_features(photos, **OPTIONS, cache=None)


def test_features_beyond_float16_are_kept_as_float32(photos, monkeypatch, tmp_path):
    network_of(Bright(123456.0), monkeypatch)
    fresh = extract_features(photos, **OPTIONS, cache=tmp_path / "cache")
    cached = extract_features(photos, **OPTIONS, cache=tmp_path / "cache")
    assert equal(fresh, cached)
    values = cached.values["train"]
    assert values.dtype == np.float32
    assert {123456.0} == set(values[values > 10].tolist())
    rest = values[values < 10]
    assert np.array_equal(rest, rest.astype(np.float16))


def test_a_network_for_another_size_is_refused_with_its_reason(photos):
    options = {**OPTIONS, "model": "timm:vit_tiny_patch16_224"}
    with pytest.raises(ArgumentError, match=r"cannot process images of 12×12 pixels: Input height .* `image_size`"):
        extract_features(photos, **options, cache=None)


@pytest.mark.parametrize("module", [nn.Identity(), nn.Flatten(0)])
def test_a_network_without_one_vector_per_image_is_refused(photos, monkeypatch, module):
    network_of(module, monkeypatch)
    with pytest.raises(
        ArgumentError, match=r"must give one vector of features per image, \(N, D\); for 2 images it gives"
    ):
        extract_features(photos, **OPTIONS, cache=None)


def test_batches_are_halved_until_they_fit_in_memory(photos, monkeypatch, passed):
    compute = extraction._Network._features

    def limited(network, images):
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(network, images)

    expected = extract_features(photos, **OPTIONS, cache=None)
    passed.clear()
    with monkeypatch.context() as patched:
        patched.setattr(extraction._Network, "_features", limited)
        assert equal(expected, extract_features(photos, **OPTIONS, cache=None))
    assert sum(passed) == 21
    assert max(passed) == 4

    def never(network, images):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(extraction._Network, "_features", never)
    with pytest.raises(ArgumentError, match="`image_size`: one image does not fit in the memory"):
        extract_features(photos, **OPTIONS, cache=None)


def test_half_precision_is_near_float32(photos):
    exact = extract_features(photos, **OPTIONS, cache=None)
    half = extract_features(photos, **{**OPTIONS, "precision": "bf16"}, cache=None)
    assert not equal(exact, half)
    difference = np.abs(half.values["test"].astype(float) - exact.values["test"]).max()
    assert difference < 0.05 * np.abs(exact.values["test"]).max()
    auto = extract_features(photos, **{**OPTIONS, "precision": "auto"}, device="cpu", cache=None)
    assert equal(auto, exact)
    assert auto.source["precision"] == "no"


def test_progress_counts_images(photos, tmp_path):
    for number in (4, 1):  # the second time all features are cached
        calls: list[tuple[int, int, float]] = []
        record = functools.partial(lambda calls, *values: calls.append(values), calls)
        extract_features(photos, **OPTIONS, cache=tmp_path / "cache", progress=record)
        assert len(calls) <= number
        assert calls[-1][:2] == (21, 21)
        # The second time no image passes through the network.
        assert all((rate > 0) is (number == 4) for _, _, rate in calls)
        assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)


def test_a_network_without_published_weights_is_the_same_in_every_call(photos):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = extract_features(photos, **OPTIONS, cache=None)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(1)
    assert equal(first, extract_features(photos, **OPTIONS, cache=None))


def test_features_that_are_computed_before_an_interruption_are_kept(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(extraction._BATCH, "cpu", 4)

    def interrupt(done, total, rate):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(photos, **OPTIONS, cache=tmp_path / "cache", progress=interrupt)
    parts = list((tmp_path / "cache").glob("*/part-*.npy"))
    assert sum(len(np.load(part)) for part in parts) >= 4
