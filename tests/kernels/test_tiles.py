"""How the kernels view logits: sizes of tiles, common factors of strides, and when offsets need 64 bits."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from counterpoise.kernels.triton.launch import Steps, Tile, Walk, power_of_2, steps, tile_for, wide


def empty(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


def test_images_are_walked_over_as_they_lie():
    z = empty(2, 3, 4, 5)
    assert Walk.over(z)[1:] == (2, 3, 20)
    assert Walk.over(z.to(memory_format=torch.channels_last))[1:] == (1, 3, 40)
    assert Walk.over(empty(7, 3))[1:] == (1, 3, 7)
    walk = Walk.over(z)
    assert walk.of_classes(z).stride() == (60, 20, 1)
    assert walk.of_rows(empty(2, 4, 5)).shape == (2, 20)
    assert walk.of_rows(empty(2).reshape(2, 1, 1).expand(2, 4, 5)).stride() == (1, 0)  # a weight per image, not copied


@pytest.mark.parametrize(
    ("shape", "soft", "double", "tile"),
    [
        ((65536, 1000), False, False, Tile(1, 1024, True, 4)),
        ((65536, 10), False, False, Tile(64, 16, True, 4)),  # several rows a program
        ((3, 10), False, False, Tile(4, 16, True, 4)),  # but no more than there are
        ((64, 16384), False, False, Tile(1, 16384, True, 16)),
        ((64, 16385), False, False, Tile(1, 4096, False, 8)),  # beyond one tile: chunks
        ((64, 16384), False, True, Tile(1, 2048, False, 4)),
        ((64, 4096), True, False, Tile(1, 4096, True, 16)),
        ((64, 4097), True, False, Tile(1, 2048, False, 8)),
        ((2, 19, 64, 64), False, False, Tile(32, 32, True, 4)),  # whole cache lines of pixels
        ((2, 5000, 8, 8), False, False, Tile(32, 128, False, 8)),
        ((5, 1), False, False, Tile(8, 1, True, 4)),
    ],
)
def test_tiles_fit_the_registers(shape, soft, double, tile):
    assert tile_for(Walk.over(empty(*shape)), soft=soft, double=double, pixels=len(shape) > 2) == tile


def test_what_strides_have_in_common_is_told():
    z = empty(64, 1000)
    walk = Walk.over(z)
    view = walk.of_classes(z)
    assert steps(walk, view, None, view) == Steps(8, 8, 1, ((0, 125, 1), (0, 0, 0), (0, 125, 1)), 64, 1)
    for classes, common in ((8142, 2), (8141, 1), (4096, 16)):
        walk = Walk.over(empty(4, classes))
        assert steps(walk, walk.of_classes(empty(4, classes))).inner == common
    walk = Walk.over(empty(2, 3, 4, 4))
    assert steps(walk, walk.of_classes(empty(2, 3, 4, 4))) == Steps(16, 1, 16, ((3, 1, 1),), 1, 16)
    one_way, other = empty(2, 3, 8), empty(2, 8, 3).transpose(1, 2)  # nothing to share: classes here, pixels there
    assert steps(Walk.over(one_way), one_way, other)[:3] == (1, 1, 1)


def test_64_bits_only_where_a_tile_reaches_that_far():
    tile = Tile(4, 16, True, 4)
    far = torch.empty_strided((1, 16, 4), (0, 2**28, 1), device="meta")
    assert wide(tile, far)
    assert not wide(tile, torch.empty_strided((1, 16, 2**20), (0, 1, 16 * 2**10), device="meta"))


def test_powers_of_2():
    assert [power_of_2(n) for n in (1, 2, 3, 4, 5, 1000)] == [1, 2, 4, 4, 8, 1024]
