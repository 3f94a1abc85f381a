"""Any augmentation by class: torchvision's, Albumentations', Kornia's, one's own."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from counterpoise.augment import ClassConditional, rarity_strength, repeat_strength, some_of
from counterpoise.core.errors import ArgumentError
from counterpoise.samplers import ClassBalancedSampler

IMAGE = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_rarity_by_hand():
    np.testing.assert_allclose(rarity_strength([1000, 100, 10], low=0.2, high=0.8), [0.2, 0.5, 0.8])
    np.testing.assert_allclose(rarity_strength([50, 0, 5]), [0, 1, 1])
    np.testing.assert_allclose(rarity_strength([7, 7]), [0, 0])


def test_strength_from_repeats_is_what_the_sampler_does():
    labels = np.repeat([0, 1], [90, 10])
    sampler = ClassBalancedSampler(labels, seed=0)
    often = np.bincount(labels[np.concatenate(list(sampler.batches(100)))]) / [90, 10]
    got = repeat_strength([90, 10], sampler.prior, half=4.0)
    assert got[0] == 0  # 0.56 times an epoch
    assert got[1] == pytest.approx((5 - 1) / (5 + 2))
    assert often[1] == pytest.approx(5, abs=1.5)
    assert repeat_strength([90, 10], [0.6, 0.4])[1] == pytest.approx(0.5)  # 4 times


def test_torchvision():
    augment = ClassConditional(lambda s: v2.GaussianNoise(sigma=0.5 * s), [0.0, 0.1, 1.0])
    change = [(augment(IMAGE, c) - IMAGE).abs().mean().item() for c in range(3)]
    assert change[0] == 0 < change[1] < change[2]


def test_albumentations():
    albumentations = pytest.importorskip("albumentations")
    augment = ClassConditional(
        lambda s: albumentations.Compose([albumentations.Rotate(limit=(-90 * s, 90 * s), p=1.0)]), [0.0, 1.0]
    )
    image = (IMAGE.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    turn = lambda label, draw: augment(image, label, draw=draw)  # noqa: E731
    np.testing.assert_array_equal(turn(0, 0), image)
    assert not np.array_equal(turn(1, 0), turn(1, 1))
    np.testing.assert_array_equal(turn(1, 0), turn(1, 0))


def test_kornia():
    kornia = pytest.importorskip("kornia.augmentation")
    augment = ClassConditional(lambda s: kornia.RandomRotation(degrees=90 * s, p=1.0), [0.0, 1.0])
    torch.testing.assert_close(augment(IMAGE[None], 0), IMAGE[None], atol=1e-5, rtol=0)
    assert not augment(IMAGE[None], 1, draw=0).equal(augment(IMAGE[None], 1, draw=1))
    assert augment(IMAGE[None], 1, draw=0).equal(augment(IMAGE[None], 1, draw=0))


def test_ones_own_with_any_generator():
    augment = ClassConditional(
        lambda s: lambda x: x + s * (torch.rand(()) + np.random.rand() + random.random()),  # noqa: NPY002
        [1.0],
    )
    values = [augment(torch.zeros(()), 0).item() for _ in range(50)]
    assert len(set(values)) == 50
    again = ClassConditional(augment.transforms[1.0].__class__ and (lambda s: augment.transforms[1.0]), [1.0])
    assert [again(torch.zeros(()), 0).item() for _ in range(50)] == values


def test_nothing_outside_notices():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    expected = [torch.rand(()).item(), np.random.rand(), random.random()]  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    ClassConditional(lambda s: v2.RandomErasing(p=1.0), [1.0])(IMAGE, 0)
    assert [torch.rand(()).item(), np.random.rand(), random.random()] == expected  # noqa: NPY002


def test_strength_as_a_number_of_operations():
    done = []
    operations = [lambda x, i=i: done.append(i) or x for i in range(4)]
    for strength, number in ((0.0, 0), (0.5, 2), (1.0, 4)):
        augment = ClassConditional(some_of(operations), [strength])
        drawn = set()
        for _ in range(30):
            done.clear()
            augment(0, 0)
            assert done == sorted(done)
            assert len(done) == number
            drawn.add(tuple(done))
        assert len(drawn) == {0: 1, 2: 6, 4: 1}[number]


class Repeated(Dataset):
    """One image of a rare class, asked for again and again."""

    def __init__(self):
        self.augment = ClassConditional(lambda s: v2.GaussianNoise(sigma=s), [1.0])

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.augment(IMAGE, 0)


@pytest.mark.fault("S16")
def test_workers_and_epochs_never_give_the_same_image_twice():
    torch.manual_seed(0)
    loader = DataLoader(Repeated(), batch_size=3, num_workers=2, multiprocessing_context="fork")
    seen = [image.numpy().tobytes() for _ in range(2) for batch in loader for image in batch]
    assert len(set(seen)) == len(seen) == 24


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ClassConditional(lambda s: None, [0.5, 1.5]), r"`strengths` must be \(C,\) numbers in \[0, 1\]"),
        (lambda: ClassConditional(lambda s: lambda x: x, [0.5])(0, 1), r"`label` must be in 0 .. 0; got 1"),
        (lambda: rarity_strength([1, 2], low=0.5, high=0.2), "`low` must be at most `high`; got 0.5 and 0.2"),
        (lambda: repeat_strength([1, 2], [1.0]), r"`prior` must have shape \(2,\); got \(1,\)"),
        (lambda: repeat_strength([1, 2], [0.5, 0.5], half=1.0), "`half` must be above 1; got 1"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
