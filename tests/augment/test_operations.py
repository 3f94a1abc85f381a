"""Operations by strength: nothing at 0, never twice the same, only what keeps the labels."""

import numpy as np
import pytest
import torch

from counterpoise.augment import OPERATIONS, strengthened
from counterpoise.augment.operations import augmented_image
from counterpoise.core.errors import ArgumentError

ALL = frozenset({"hflip", "vflip", "rot90"})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=6, size=16):
    return torch.rand(n, 3, size, size, generator=generator(9))


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_leaves_strength_0_alone_and_changes_strength_1(name):
    strength = torch.tensor([0.0, 1.0] * 16)
    given = images(32)
    got = strengthened(given, strength, generator=generator(1), operations=[name], symmetries=ALL)
    assert got[0::2].equal(given[0::2])
    changed = [not a.equal(b) for a, b in zip(got[1::2], given[1::2], strict=True)]
    assert np.mean(changed) > (0.2 if name in ALL else 0.95)
    assert got.min() >= 0
    assert got.max() <= 1
    assert got.shape == given.shape


@pytest.mark.parametrize("name", ["rotate", "crop", "colour", "blur", "noise", "erase"])
def test_more_strength_changes_more(name):
    given = images(1).expand(200, -1, -1, -1)

    def change(strength):
        got = OPERATIONS[name](given, torch.full((200,), strength), generator(2))
        return (got - given).abs().mean().item()

    assert 0 < change(0.1) < change(0.5) < change(1.0)


def test_a_repeated_image_is_never_the_same_twice():
    one = images(1).expand(64, -1, -1, -1)
    got = strengthened(one, torch.full((64,), 0.9), generator=generator(3), symmetries=ALL)
    assert len({t.numpy().tobytes() for t in got}) == 64


def test_the_same_generator_gives_the_same_images():
    given, strength = images(), torch.rand(6, generator=generator(4))
    a, b = (strengthened(given, strength, generator=generator(5), symmetries=ALL) for _ in range(2))
    assert a.equal(b)
    assert not a.equal(strengthened(given, strength, generator=generator(6), symmetries=ALL))


def test_a_full_turn_is_a_rotation_about_the_centre():
    given = torch.zeros(1, 1, 9, 9)
    given[0, 0, 4, 4] = 1.0
    turned = OPERATIONS["rotate"](given, torch.ones(1), generator(7))
    assert turned[0, 0].argmax() == given[0, 0].argmax()


def test_the_symmetries_decide_what_is_done():
    given = torch.zeros(400, 1, 8, 8)
    given[:, :, :, :2] = 1.0  # a bar on the left
    strength = torch.ones(400)
    upright = strengthened(given, strength, generator=generator(8), operations=["rotate"])
    assert (upright[:, 0, :, :2].mean((1, 2)) > 0.6).all()  # 15 degrees leave it on the left
    free = strengthened(given, strength, generator=generator(8), operations=["rotate"], symmetries=ALL)
    assert (free[:, 0, :, :2].mean((1, 2)) < 0.3).float().mean() > 0.2
    default = strengthened(given, strength, generator=generator(8), operations=["blur"])
    assert (default[:, 0, :, 0] > default[:, 0, :, -1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operations": ["hflip"]}, "'hflip' may change the labels .* are none; leave it out"),
        ({"operations": ["rot90"], "symmetries": {"hflip"}}, "'rot90' may change the labels .* are hflip; leave"),
        ({"operations": ["sharpen"]}, "'sharpen' is unknown; expected one of hflip, .*erase"),
        ({"strength": torch.ones(3)}, r"`strength` must have shape \(6,\); got \(3,\)"),
        ({"images": images().byte()}, "`images` must be floating point"),
    ],
)
def test_mistakes_are_named(options, message):
    given = {"images": images(), "strength": torch.ones(6), **options}
    with pytest.raises(ArgumentError, match=message):
        strengthened(given.pop("images"), given.pop("strength"), generator=generator(), **given)


def test_a_rotation_of_a_wide_image_does_not_shear_it():
    disk = (torch.arange(40)[:, None] - 19.5) ** 2 + (torch.arange(80)[None, :] - 39.5) ** 2 < 12**2
    given = disk.float().expand(16, 1, 40, 80)
    turned = OPERATIONS["rotate"](given, torch.ones(16), generator(10))
    assert (turned - given).abs().mean() < 0.01  # a disk in the centre looks the same at every angle


def test_a_quarter_turn_swaps_the_sides_of_a_single_image_and_is_refused_for_a_batch():
    wide = torch.rand(3, 8, 12, generator=generator(11))
    shapes = {
        tuple(augmented_image(wide, ["rot90", "blur"], 1.0, generator=generator(s), symmetries=ALL).shape)
        for s in range(8)
    }
    assert shapes == {(3, 8, 12), (3, 12, 8)}
    with pytest.raises(ArgumentError, match=r"`images` must be square for 'rot90'.*\(1, 3, 8, 12\); crop or pad"):
        strengthened(wide[None], torch.ones(1), generator=generator(), operations=["rot90"], symmetries=ALL)


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_a_single_image_is_rotated_by_any_angle_only_where_quarter_turns_keep_labels(strength):
    bar = torch.zeros(1, 8, 8)
    bar[:, :, :2] = 1.0
    turned = {
        symmetries: [
            augmented_image(bar, ["rotate"], strength, generator=generator(s), symmetries=symmetries)[0, :, :2].mean()
            for s in range(30)
        ]
        for symmetries in (frozenset(), ALL)
    }
    assert min(turned[frozenset()]) > 0.6
    assert min(turned[ALL]) < 0.3
