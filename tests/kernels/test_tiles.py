"""How the kernels view logits: sizes of tiles, common factors of strides, and when offsets need 64 bits."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from counterpoise.kernels.triton.launch import LogitsView, Tile, class_strides, power_of_2, tile_for, wide


def empty(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


def test_images_are_walked_over_as_they_lie():
    z = empty(2, 3, 4, 5)
    assert LogitsView.over(z)[1:] == (2, 3, 20)
    assert LogitsView.over(z.to(memory_format=torch.channels_last))[1:] == (1, 3, 40)
    assert LogitsView.over(empty(7, 3))[1:] == (1, 3, 7)
    walk = LogitsView.over(z)
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
    assert tile_for(LogitsView.over(empty(*shape)), soft=soft, double=double, pixels=len(shape) > 2) == tile


def test_the_common_factor_of_strides_is_a_compile_time_constant():
    z = empty(64, 1000)
    walk = LogitsView.over(z)
    view = walk.of_classes(z)
    found = class_strides(walk, z=view, g=None, t=view)
    assert {name: found[name] for name in ("STEP_O", "STEP_I", "STEP_C", "STEP_N")} == {
        "STEP_O": 8, "STEP_I": 8, "STEP_C": 1, "STEP_N": 1,
    }  # fmt: skip
    assert found["inner_steps"] == 64
    for name in "zt":
        assert [found[f"{name}_{axis}"] for axis in "oic"] == [0, 125, 1]
    assert [found[f"g_{axis}"] for axis in "oic"] == [0, 0, 0]
    for classes, common in ((8142, 2), (8141, 1), (4096, 16)):
        walk = LogitsView.over(empty(4, classes))
        assert class_strides(walk, z=walk.of_classes(empty(4, classes)))["STEP_I"] == common
    walk = LogitsView.over(empty(2, 3, 4, 4))
    assert class_strides(walk, z=walk.of_classes(empty(2, 3, 4, 4))) == {
        "STEP_O": 16, "STEP_I": 1, "STEP_C": 16, "STEP_N": 16, "inner_steps": 1, "z_o": 3, "z_i": 1, "z_c": 1,
    }  # fmt: skip
    classes_adjacent, pixels_adjacent = empty(2, 3, 8), empty(2, 8, 3).transpose(1, 2)  # no common factor
    found = class_strides(LogitsView.over(classes_adjacent), z=classes_adjacent, g=pixels_adjacent)
    assert [found[name] for name in ("STEP_O", "STEP_I", "STEP_C")] == [1, 1, 1]


def test_64_bits_only_where_a_tile_reaches_that_far():
    tile = Tile(4, 16, True, 4)
    far = torch.empty_strided((1, 16, 4), (0, 2**28, 1), device="meta")
    assert wide(tile, far)
    assert not wide(tile, torch.empty_strided((1, 16, 2**20), (0, 1, 16 * 2**10), device="meta"))


def test_powers_of_2():
    assert [power_of_2(n) for n in (1, 2, 3, 4, 5, 1000)] == [1, 2, 4, 4, 8, 1024]
