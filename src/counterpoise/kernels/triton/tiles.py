"""How a Triton kernel walks over logits: which memory is a row, how many rows and classes a program takes.

Logits (N, C, …) are seen as (outer, C, inner) without a copy. The rows of a tile lie along ``inner``: for (N, C) that
is the batch, for images (N, C, H, W) the pixels of one image, so neither is ever permuted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from counterpoise.kernels.layout import Fold

__all__ = ["Steps", "Tile", "Walk", "power_of_2", "steps", "tile_for", "wide"]

# Elements of a tile in one go. A hard target keeps one number a logit in registers, a soft one about six: with 512
# threads, 32 (8) logits each, they stay within a thread's 128 registers. Beyond, rows are read in chunks.
_HARD_TILE, _SOFT_TILE = 1 << 14, 1 << 12
_HARD_CHUNK, _SOFT_CHUNK = 1 << 12, 1 << 11
# A tile of few classes takes many rows, so that a program has work for its four warps.
_LEAST_TILE = 1 << 10
# Pixels lie side by side where the classes do not: that many at least make whole cache lines.
_LEAST_PIXELS = 32


class Walk(NamedTuple):
    """The logits' memory as (outer, C, inner), and how other tensors of the batch are seen alike."""

    fold: Fold
    outer: int
    classes: int
    inner: int

    @classmethod
    def over(cls, logits: Tensor) -> Walk:
        fold = Fold.of(logits)
        shape = fold.classes(logits).shape
        if len(shape) == 2:
            return cls(fold, 1, shape[1], shape[0])
        return cls(fold, shape[0], shape[1], shape[2])

    @property
    def rows(self) -> int:
        return self.outer * self.inner

    def of_classes(self, tensor: Tensor) -> Tensor:
        """(N, C, …) as a view (outer, C, inner); a copy only where strides cannot say it."""
        folded = self.fold.classes(tensor)
        return folded.T.unsqueeze(0) if folded.dim() == 2 else folded

    def of_rows(self, tensor: Tensor) -> Tensor:
        """(N, …) as (outer, inner)."""
        folded = self.fold.rows(tensor)
        return folded.unsqueeze(0) if folded.dim() == 1 else folded


class Tile(NamedTuple):
    """Rows and classes of a tile (powers of 2), whether one tile holds all classes, and the warps that work on it."""

    rows: int
    classes: int
    whole: bool
    warps: int


def tile_for(walk: Walk, *, soft: bool, double: bool, pixels: bool) -> Tile:
    """The tile of a program. ``pixels``: neighbours in memory are rows, not classes."""
    most, chunk = (_SOFT_TILE, _SOFT_CHUNK) if soft else (_HARD_TILE, _HARD_CHUNK)
    most, chunk = (most // 2, chunk // 2) if double else (most, chunk)
    inner = power_of_2(max(1, walk.inner))
    side = min(_LEAST_PIXELS, inner) if pixels else 1
    classes = power_of_2(walk.classes)
    whole = classes * side <= most
    if not whole:
        classes = max(1, chunk // side)
    rows = max(side, min(inner, _LEAST_TILE // classes))
    warps = min(16, max(4, rows * classes // (256 if soft else 512)))
    return Tile(rows, classes, whole, warps)


class Steps(NamedTuple):
    """Strides of (outer, inner, class) for each tensor, as multiples of what the compiler is told."""

    outer: int
    inner: int
    classes: int
    strides: tuple[tuple[int, int, int], ...]
    inner_extent: int
    extent_step: int


def steps(walk: Walk, *tensors: Tensor | None) -> Steps:
    """Split every stride into a factor that all tensors share, known when the kernel is compiled, and the rest.

    The compiler joins loads into 16 bytes only where it knows that no row starts, and none ends, inside of them. Left
    alone it learns of multiples of 16 only: 1000 classes of bfloat16 would be read two bytes at a time.
    """
    given = [t for t in tensors if t is not None]
    by_class = all(t.stride(1) == 1 for t in given)
    by_pixel = not by_class and all(t.stride(2) == 1 for t in given)
    common = walk.classes if by_class else walk.inner
    for t in given:
        across = t.stride(2) if by_class else t.stride(1)
        common = math.gcd(16, common, across, t.stride(0) if walk.outer > 1 else 0)
    if not (by_class or by_pixel):
        common = 1
    factors = (common, common if by_class else 1, common if by_pixel else 1)
    strides = tuple(
        (0, 0, 0)
        if t is None
        else (
            (t.stride(0) if walk.outer > 1 else 0) // factors[0],
            t.stride(2) // factors[1],
            t.stride(1) // factors[2],
        )
        for t in tensors
    )
    extent_step = common if by_pixel else 1
    return Steps(*factors, strides, walk.inner // extent_step, extent_step)


def wide(tile: Tile, *tensors: Tensor | None) -> bool:
    """Do offsets inside a tile need 64 bits? (Where a tile starts always has them.)"""
    given = (t for t in tensors if t is not None)
    return any(tile.rows * t.stride(2) + tile.classes * t.stride(1) > torch.iinfo(torch.int32).max for t in given)


def power_of_2(number: int) -> int:
    """The least power of 2 that is not below ``number``."""
    return 1 << (number - 1).bit_length()
