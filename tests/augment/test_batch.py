"""Crops and symmetries of a batch, against the same done image by image."""

import pytest
import torch
from torch.nn import functional as F

from counterpoise.augment import random_crop, random_symmetry


def generator():
    return torch.Generator().manual_seed(0)


def windows(image, padding):
    """Every crop that the padded image has."""
    padded, (height, width) = F.pad(image, (padding,) * 4), image.shape[1:]
    places = range(2 * padding + 1)
    return {tuple(padded[:, y : y + height, x : x + width].flatten().tolist()) for y in places for x in places}


def test_each_crop_is_a_window_of_its_own_padded_image():
    images = torch.rand(300, 2, 4, 5)
    cropped = random_crop(images, padding=1, generator=generator())
    for before, after in zip(images, cropped, strict=True):
        assert tuple(after.flatten().tolist()) in windows(before, 1)


def test_every_window_is_drawn_about_equally_often():
    image = torch.rand(1, 1, 3, 3)
    cropped = random_crop(image.expand(9000, -1, -1, -1), padding=1, generator=generator())
    _, counts = cropped.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 9
    assert ((counts - 1000) ** 2 / 1000).sum() < 26.1  # χ², 8 degrees of freedom, p = 0.001


@pytest.mark.parametrize(
    ("symmetry", "images_of"),
    [
        ("hflip", lambda x: [x, x.flip(2)]),
        ("vflip", lambda x: [x, x.flip(1)]),
        ("rot90", lambda x: [x.rot90(k, (1, 2)) for k in range(4)]),
    ],
)
def test_a_symmetry_gives_each_of_its_images_about_equally_often(symmetry, images_of):
    image = torch.rand(3, 4, 4)
    out = random_symmetry(image.expand(4000, -1, -1, -1), symmetry, generator=generator())
    expected = images_of(image)
    counts = [int((out == one).flatten(1).all(1).sum()) for one in expected]
    assert sum(counts) == 4000
    assert all(abs(n - 4000 / len(expected)) < 150 for n in counts)


def test_the_same_generator_gives_the_same_batch_and_dtypes_stay():
    images = torch.randint(256, (8, 3, 6, 6), dtype=torch.uint8)
    a, b = (random_crop(images, padding=2, generator=generator()) for _ in range(2))
    assert torch.equal(a, b)
    assert a.dtype == torch.uint8
