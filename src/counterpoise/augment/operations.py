"""Random operations on a batch whose strength each image has for itself, from 0 (nothing) to 1.

Every operation is a function ``(images, strength, generator) → images``: images float ``(N, K, H, W)`` in [0, 1],
strength ``(N,)`` in [0, 1], generator on the CPU. What is drawn is continuous: an image repeated is another image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoise.augment.batch import random_symmetry
from counterpoise.core.errors import ArgumentError

__all__ = ["OPERATIONS", "OperationName", "allowed_operations", "strengthened"]

Operation = Callable[[Tensor, Tensor, torch.Generator], Tensor]
OperationName = Literal["hflip", "vflip", "rot90", "rotate", "crop", "colour", "blur", "noise", "erase"]
_ANGLE = math.radians(15)  # small enough to leave a 6 a 6; any angle where quarter turns keep the label
_TURN = math.pi


def strengthened(
    images: Tensor,
    strength: Tensor,
    *,
    generator: torch.Generator,
    operations: Sequence[OperationName] | None = None,
    symmetries: Collection[str] = frozenset(),
) -> Tensor:
    """Change every image by its own strength: 0 leaves it as it is, bit for bit; 1 applies every operation in full.

    Args:
        images: ``(N, K, H, W)``, floating point in [0, 1].
        strength: ``(N,)`` in [0, 1]; see `rarity_strength` and `repeat_strength`.
        generator: on the CPU; the same state gives the same images.
        operations: in this order; default all that ``symmetries`` allow. Each takes place with probability strength.
        symmetries: what keeps the labels of this dataset: some of "hflip", "vflip", "rot90".

    Returns:
        New images, in [0, 1].

    Raises:
        ArgumentError: an unknown operation, one that the symmetries forbid, or a strength that does not fit.

    Example:
        >>> images = torch.rand(2, 3, 8, 8)
        >>> changed = strengthened(images, torch.tensor([0.0, 1.0]), generator=torch.Generator().manual_seed(0))
        >>> changed[0].equal(images[0]), changed[1].equal(images[1])
        (True, False)
    """
    names = allowed_operations(operations, symmetries)
    if not images.is_floating_point() or images.dim() != 4:
        raise ArgumentError(f"`images` must be floating point (N, K, H, W); got {images.dtype} {tuple(images.shape)}")
    if strength.shape != images.shape[:1]:
        raise ArgumentError(f"`strength` must have shape ({len(images)},); got {tuple(strength.shape)}")
    changed = images
    for name in names:
        # An image takes an operation with the probability of its strength, and then by that strength.
        taken = torch.rand(len(images), generator=generator).to(images.device) < strength
        full = _bounded_rotate(symmetries) if name == "rotate" else OPERATIONS[name]
        changed = torch.where(taken[:, None, None, None], full(changed, strength, generator), changed)
    return changed


def allowed_operations(operations: Sequence[str] | None, symmetries: Collection[str]) -> tuple[OperationName, ...]:
    """The operations asked for, checked; or all that keep the labels."""
    known: tuple[OperationName, ...] = get_args(OperationName)
    free = tuple(name for name in known if name not in ("hflip", "vflip", "rot90") or name in symmetries)
    if operations is None:
        return free
    for name in operations:
        if name not in known:
            raise ArgumentError(f"`operations` {name!r} is unknown; expected some of {', '.join(known)}")
        if name not in free:
            allowed = ", ".join(sorted(symmetries)) or "none"
            raise ArgumentError(f"`operations`: {name!r} changes the labels; the symmetries that keep them: {allowed}")
    return tuple(name for name in known if name in operations)


def _symmetry(name: Literal["hflip", "vflip", "rot90"]) -> Operation:
    return lambda images, strength, generator: random_symmetry(images, name, generator=generator)


def _uniform(images: Tensor, generator: torch.Generator, low: float = -1.0, high: float = 1.0) -> Tensor:
    drawn = torch.rand(len(images), generator=generator) * (high - low) + low
    return drawn.to(device=images.device, dtype=images.dtype)


def _warp(images: Tensor, matrix: Tensor) -> Tensor:
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _rotate_by(images: Tensor, strength: Tensor, generator: torch.Generator, most: float) -> Tensor:
    angle = _uniform(images, generator) * strength * most
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    return _warp(images, matrix).clamp(0, 1)


def _bounded_rotate(symmetries: Collection[str]) -> Operation:
    """By up to 15 degrees; by any angle where quarter turns keep the label."""
    most = _TURN if "rot90" in symmetries else _ANGLE
    return lambda images, strength, generator: _rotate_by(images, strength, generator, most)


def _rotate(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    return _rotate_by(images, strength, generator, _ANGLE)


def _crop(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """A part of the image, down to 60 % of each side, brought back to its size."""
    scale = 1 - 0.4 * strength * _uniform(images, generator, 0, 1)
    room = 1 - scale
    zero = torch.zeros_like(scale)
    x, y = (_uniform(images, generator) * room for _ in range(2))
    matrix = torch.stack([torch.stack([scale, zero, x], 1), torch.stack([zero, scale, y], 1)], 1)
    return _warp(images, matrix).clamp(0, 1)


def _colour(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation, each by up to 40 %."""
    brightness, contrast, saturation = (
        (1 + 0.4 * strength * _uniform(images, generator))[:, None, None, None] for _ in range(3)
    )
    changed = images * brightness
    middle = changed.mean((1, 2, 3), keepdim=True)
    changed = middle + (changed - middle) * contrast
    grey = changed.mean(1, keepdim=True)
    return (grey + (changed - grey) * saturation).clamp(0, 1)


def _blur(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """A Gaussian of up to one part in 24 of the shorter side."""
    most = max(0.5, min(images.shape[-2:]) / 24)
    sigma = 0.25 + (most - 0.25) * strength * _uniform(images, generator, 0, 1)
    radius = max(1, min(math.ceil(2 * most), min(images.shape[-2:]) - 1))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    n, k, height, width = images.shape
    each = kernel.repeat_interleave(k, 0)[:, None]
    flat = F.pad(images.reshape(1, n * k, height, width), (radius,) * 4, mode="reflect")
    rows = F.conv2d(flat, each[..., None, :], groups=n * k)
    return F.conv2d(rows, each[..., None], groups=n * k).reshape(images.shape)


def _noise(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian, of a standard deviation up to 0.1."""
    sigma = 0.1 * strength * _uniform(images, generator, 0.2, 1.0)
    drawn = torch.randn(images.shape, generator=generator).to(device=images.device, dtype=images.dtype)
    return (images + sigma[:, None, None, None] * drawn).clamp(0, 1)


def _erase(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """A rectangle of up to a quarter of the area, filled with the image's mean colour (Zhong et al., AAAI 2020)."""
    n, _, height, width = images.shape
    side = (0.25 * strength * _uniform(images, generator, 0.1, 1.0)).sqrt()
    ratio = torch.exp(_uniform(images, generator) * math.log(2.0)).sqrt()
    tall, wide = (side * ratio).clamp(max=1) * height, (side / ratio).clamp(max=1) * width
    top = _uniform(images, generator, 0, 1) * (height - tall)
    left = _uniform(images, generator, 0, 1) * (width - wide)
    y = torch.arange(height, device=images.device)[None, :, None]
    x = torch.arange(width, device=images.device)[None, None, :]
    inside = (y >= top.view(n, 1, 1)) & (y < (top + tall).view(n, 1, 1))
    inside = inside & (x >= left.view(n, 1, 1)) & (x < (left + wide).view(n, 1, 1))
    return torch.where(inside[:, None], images.mean((2, 3), keepdim=True), images)


OPERATIONS: dict[OperationName, Operation] = {
    "hflip": _symmetry("hflip"),
    "vflip": _symmetry("vflip"),
    "rot90": _symmetry("rot90"),
    "rotate": _rotate,
    "crop": _crop,
    "colour": _colour,
    "blur": _blur,
    "noise": _noise,
    "erase": _erase,
}
