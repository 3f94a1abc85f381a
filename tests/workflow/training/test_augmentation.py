"""Functions of the caller as augmentation: what they get, that they resume bit for bit, and what is refused."""

from __future__ import annotations

import random
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from counterpoise.core.artifacts import Run
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.workflow.training import train
from counterpoise.workflow.training.augmentation import augmented


class Interrupted(Exception):
    pass


class Noise:
    """Called as albumentations are: ``noise(image=array)["image"]``; draws from a generator of its own."""

    available_keys = frozenset({"image"})

    def __init__(self):
        self.rng = np.random.default_rng()

    def set_random_seed(self, seed):
        self.rng = np.random.default_rng(seed)

    def __call__(self, *args, force_apply=False, **data):
        assert not args
        image = data["image"]
        assert image.flags["C_CONTIGUOUS"]
        assert (image.dtype, image.shape[2]) == (np.uint8, 3)
        return {"image": (image // 2 + self.rng.integers(0, 100, image.shape, dtype=np.uint8)).astype(np.uint8)}

    def __repr__(self):
        return "Noise()"


def by_keyword(*, image):
    return {"image": np.ascontiguousarray(image[:, ::-1]) if random.random() < 0.5 else image}


def with_numpy_and_python(image):
    shifted = image.float() / 255 + 0.1 * float(np.random.rand()) * random.random()  # noqa: NPY002
    return shifted.clamp(0, 1)


JITTER = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4), v2.RandomErasing(p=0.5)])
FUNCTIONS = {
    "v2": JITTER,
    "v2 to float": v2.Compose([v2.RandomResizedCrop(8, antialias=True), v2.ToDtype(torch.float32, scale=True)]),
    "names and functions": ["crop", v2.ColorJitter(0.4), with_numpy_and_python],
    "contract of albumentations": Noise(),
    "keyword": by_keyword,
}


def images(n=6, size=8):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, size, size), dtype=np.uint8))


def apply(steps, batch, seed=0):
    return augmented(batch, steps, generator=torch.Generator().manual_seed(0), seed=seed)


@pytest.mark.fault("C7")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_run_with_functions_resumes_to_the_bits_of_an_uninterrupted_one(dataset, tmp_path, name):
    def stop(done, total):
        if done == 3:
            raise Interrupted

    options = {"epochs": 2, "augment": FUNCTIONS[name]}
    train("baseline", dataset, out=tmp_path / "whole", **options)
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    with pytest.raises(Interrupted):
        train("baseline", dataset, out=tmp_path / "parts", progress=stop, **options)
    assert train("baseline", dataset, out=tmp_path / "parts", resume=True, **options).starts == (0, 2)
    for file in ("model.safetensors", "history.csv"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_result_depends_on_the_seed_alone_and_differs_by_image(name):
    steps = FUNCTIONS[name] if isinstance(FUNCTIONS[name], list) else [FUNCTIONS[name]]
    same = images(1).expand(8, -1, -1, -1)
    first = apply(steps, same)
    assert torch.equal(first, apply(steps, same))
    assert not torch.equal(first, apply(steps, same, seed=1))
    assert len({image.numpy().tobytes() for image in first}) > 1
    assert first.dtype == torch.float32


def test_the_generators_of_the_caller_stay_as_they_were():
    def state():
        return torch.rand(2).tolist(), np.random.rand(), random.random()  # noqa: NPY002

    def seed():
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)

    seed()
    expected = state()
    seed()
    apply([JITTER, with_numpy_and_python, by_keyword], images())
    assert state() == expected


def test_a_function_gets_one_image_of_the_batch_and_may_change_it():
    seen = []

    def darken(image):
        seen.append(image.clone())
        return image.div_(2, rounding_mode="floor")

    batch = images()
    before = batch.clone()
    result = apply([darken], batch)
    assert torch.equal(torch.stack(seen), before)
    assert torch.equal(batch, before)
    torch.testing.assert_close(result, before.div(2, rounding_mode="floor").float() / 255)


def test_names_before_and_after_a_function_are_applied_in_order():
    def paint(image):
        image[:, :, 0] = 255
        return image

    flipped = apply([paint, "hflip"], images(40))
    left, right = (flipped[..., x] == 1 for x in (0, 7))
    assert bool((left.flatten(1).all(1) ^ right.flatten(1).all(1)).all())
    assert 5 < int(right.flatten(1).all(1).sum()) < 35
    assert bool((apply(["hflip", paint], images(40))[..., 0] == 1).all())


def test_the_array_of_albumentations_is_the_image(monkeypatch):
    noise = Noise()
    monkeypatch.setattr(Noise, "__call__", lambda self, *, image: {"image": image[:, ::-1]})
    torch.testing.assert_close(apply([noise], images()), images().flip(3).float() / 255)


@pytest.mark.skipif(find_spec("albumentations") is None, reason="albumentations is not installed")
def test_albumentations_itself():
    import albumentations

    pipeline = albumentations.Compose([albumentations.HorizontalFlip(p=0.5), albumentations.ColorJitter(p=1.0)])
    same = images(1).expand(8, -1, -1, -1)
    assert torch.equal(apply([pipeline], same), apply([pipeline], same))
    assert not torch.equal(apply([pipeline], same), apply([pipeline], same, seed=1))


def test_the_run_records_functions_by_name_and_repr_without_addresses(dataset, tmp_path):
    class Plain:
        def __call__(self, image):
            return image

    steps = ["hflip", v2.ColorJitter(0.4), Plain(), with_numpy_and_python]
    train("baseline", dataset, epochs=1, augment=steps, out=tmp_path / "run")
    recorded = Run.load(tmp_path / "run" / "run.json").settings["augment"]
    assert recorded[0] == "hflip"
    assert recorded[1] == "torchvision.transforms.v2._color.ColorJitter: ColorJitter(brightness=(0.6, 1.4))"
    assert recorded[2].endswith("<locals>.Plain object>")
    assert recorded[3].endswith("test_augmentation.with_numpy_and_python")
    with pytest.raises(ArtifactError, match="its settings has augment ="):
        train("baseline", dataset, epochs=1, augment=["hflip", v2.ColorJitter(0.5)], out=tmp_path / "run", resume=True)


def fails(image):
    raise KeyError("boxes")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fails, r"fails raised KeyError: 'boxes'; it is called with one image, a tensor uint8 \(3, 8, 8\)"),
        (v2.Resize(16), r"must return one image of the size it is given, \(3, 8, 8\); it returned \(3, 16, 16\)"),
        (lambda image: None, "must return one image of the size .*; it returned NoneType"),
        (lambda image: image[0].numpy(), r"it returned \(8, 8\)"),
        (v2.ToDtype(torch.float32), r"it returned float32 in \[.*scale floats to \[0, 1\]"),
        (
            v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.2] * 3)]),
            "leave normalization out, because the model normalizes the images itself",
        ),
        (lambda image: image.int(), r"must return uint8, or floats in \[0, 1\]; it returned int32"),
        (v2.MixUp(num_classes=3), "MixUp.* raised"),
        (nn.Flatten(0), r"it returned \(192,\)"),
        (lambda *, image: {"mask": image}, r"raised KeyError: 'image'; .*image=array"),
    ],
)
def test_a_function_that_does_not_fit_is_refused_before_training(dataset, tmp_path, function, message):
    with pytest.raises(ArgumentError, match=rf"(?s)`augment`: .*{message}"):
        train("baseline", dataset, epochs=1, augment=function, out=tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
