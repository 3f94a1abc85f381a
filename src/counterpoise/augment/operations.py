"""Random operations on a batch of images with a strength per image, from 0 (no change) to 1.

Every operation is a function ``(images, strength, generator) → images``: images float ``(N, K, H, W)`` in [0, 1],
strength ``(N,)`` in [0, 1], generator on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoise.augment.batch import random_symmetry
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.images import SYMMETRIES
from counterpoise.core.names import did_you_mean

Operation = Callable[[Tensor, Tensor, torch.Generator], Tensor]
OperationName = Literal["hflip", "vflip", "rot90", "rotate", "crop", "colour", "blur", "noise", "erase"]
DEGRADING: tuple[OperationName, ...] = ("blur", "noise", "erase")
"""Operations that remove information; `drawn_operations` takes at most one of them per image."""
_ANGLE = math.radians(15)  # keeps the label of a 6; if rot90 preserves labels, any angle does
_TURN = math.pi


def strengthened(
    images: Tensor,
    strength: Tensor,
    *,
    generator: torch.Generator,
    operations: Sequence[OperationName] | None = None,
    symmetries: Collection[str] = frozenset(),
) -> Tensor:
    """Augment every image with its own strength: 0 leaves it unchanged bit for bit, 1 applies every operation in full.

    An image gets each operation with the probability of its strength, and then with that strength.

    Args:
        images: ``(N, K, H, W)``, floating point in [0, 1].
        strength: ``(N,)`` in [0, 1]; see `rarity_strength` and `repeat_strength`.
        generator: on the CPU; the same state gives the same images.
        operations: names from `OPERATIONS`, applied in the order of that table; None for all that preserve labels.
        symmetries: the label-preserving transforms of this dataset: some of "hflip", "vflip", "rot90". With "rot90"
            among them, "rotate" turns by any angle; without, by at most 15 degrees.

    Returns:
        New images of the shape and dtype given, in [0, 1].

    Raises:
        ArgumentError: an unknown operation, a flip or rotation that is not label-preserving, shapes that do not match,
            or "rot90" of images that are not square.

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
        taken = torch.rand(len(images), generator=generator).to(images.device) < strength
        full = _operation(name, symmetries)
        changed = torch.where(taken[:, None, None, None], full(changed, strength, generator), changed)
    return changed


def augmented_image(
    image: Tensor,
    operations: Sequence[OperationName],
    strength: float,
    *,
    generator: torch.Generator,
    symmetries: Collection[str] = frozenset(),
) -> Tensor:
    """Apply every one of the operations to one image; "rot90" may swap its height and width.

    Args:
        image: ``(K, H, W)``, floating point in [0, 1].
        operations: names from `OPERATIONS`, applied in the order given.
        strength: in [0, 1].
        generator: on the CPU; the same state gives the same image.
        symmetries: the label-preserving transforms of this dataset. With "rot90" among them, "rotate" turns by any
            angle at every strength; without, by at most ``strength`` times 15 degrees.

    Returns:
        A new image in [0, 1] of the dtype given, ``(K, H, W)``, or ``(K, W, H)`` after a quarter turn.

    Example:
        >>> generator = torch.Generator().manual_seed(1)
        >>> augmented_image(torch.rand(3, 4, 6), ["rot90"], 1.0, generator=generator, symmetries={"rot90"}).shape
        torch.Size([3, 6, 4])
    """
    changed, given = image[None], torch.tensor([strength])
    for name in operations:
        if name == "rot90":
            changed = changed.rot90(int(torch.randint(4, (1,), generator=generator)), dims=(2, 3))
        elif name == "rotate" and "rot90" in symmetries:
            changed = _rotate_by(changed, torch.ones(1), generator, _TURN)
        else:
            changed = _operation(name, symmetries)(changed, given, generator)
    return changed[0]


def drawn_operations(seed: int, operations: Sequence[OperationName]) -> tuple[OperationName, ...]:
    """Draw some of the operations for one image: each with probability ½, of blur, noise and erasing at most one.

    Stacked blur, noise and erasing make an image unrecognisable. One of them is drawn with probability ½. At least one
    operation with continuous parameters is always drawn, so that no two images are alike.

    Args:
        seed: at least 0; the same seed draws the same operations.
        operations: names from `OPERATIONS`, at least one of them no flip and no quarter turn.

    Returns:
        The names drawn, in the order given.

    Example:
        >>> [drawn_operations(seed, ["crop", "colour", "blur", "noise"]) for seed in (1, 3)]
        [('noise',), ('crop', 'colour')]
    """
    rng = np.random.default_rng(seed)
    drawn = {name for name in operations if name not in DEGRADING and rng.random() < 0.5}
    degrading = [name for name in operations if name in DEGRADING]
    if degrading and rng.random() < 0.5:
        drawn.add(degrading[int(rng.integers(len(degrading)))])
    continuous = [name for name in operations if name not in SYMMETRIES]
    if not drawn & set(continuous):
        drawn.add(continuous[int(rng.integers(len(continuous)))])
    return tuple(name for name in operations if name in drawn)


def allowed_operations(operations: Sequence[str] | None, symmetries: Collection[str]) -> tuple[OperationName, ...]:
    """Check the names of the operations, or return all that preserve the labels, in the order of `OPERATIONS`.

    Args:
        operations: names; None for all that preserve the labels.
        symmetries: the label-preserving transforms of the dataset: some of "hflip", "vflip", "rot90".

    Raises:
        ArgumentError: an unknown operation, or a flip or rotation that is not label-preserving.
        ArgumentTypeError: a string in place of a list of names.
    """
    if isinstance(operations, str):
        raise ArgumentTypeError(f"`operations` must be a list of names, such as ['crop', 'colour']; got {operations!r}")
    names: tuple[OperationName, ...] = get_args(OperationName)
    allowed = tuple(name for name in names if name not in SYMMETRIES or name in symmetries)
    if operations is None:
        return allowed
    for name in operations:
        if name not in names:
            raise ArgumentError(f"`operations` {name!r} is unknown; {did_you_mean(name, names)}")
        if name not in allowed:
            listed = ", ".join(sorted(symmetries)) or "none"
            raise ArgumentError(
                f"`operations`: {name!r} may change the labels of this dataset, whose label-preserving transforms are "
                f"{listed}; leave it out, or add it to the symmetries of the dataset (--symmetries)"
            )
    return tuple(name for name in names if name in operations)


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
    aspect = images.shape[2] / images.shape[3]  # the grid is in units of half a side, which differ unless H = W
    matrix = torch.stack([torch.stack([cos, -sin * aspect, zero], 1), torch.stack([sin / aspect, cos, zero], 1)], 1)
    return _warp(images, matrix).clamp(0, 1)


def _operation(name: OperationName, symmetries: Collection[str]) -> Operation:
    """The operation of this name; "rotate" by up to 15 degrees, or by any angle if "rot90" preserves labels."""
    if name == "rotate" and "rot90" in symmetries:
        return lambda images, strength, generator: _rotate_by(images, strength, generator, _TURN)
    return OPERATIONS[name]


def _rotate(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    return _rotate_by(images, strength, generator, _ANGLE)


def _crop(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """A crop of at least 60 % of each side, resized to the original size."""
    scale = 1 - 0.4 * strength * _uniform(images, generator, 0, 1)
    zero = torch.zeros_like(scale)
    x, y = (_uniform(images, generator) * (1 - scale) for _ in range(2))
    matrix = torch.stack([torch.stack([scale, zero, x], 1), torch.stack([zero, scale, y], 1)], 1)
    return _warp(images, matrix).clamp(0, 1)


def _colour(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Changes of brightness, contrast and saturation by up to 40 % each."""
    brightness, contrast, saturation = (
        (1 + 0.4 * strength * _uniform(images, generator))[:, None, None, None] for _ in range(3)
    )
    changed = images * brightness
    middle = changed.mean((1, 2, 3), keepdim=True)
    changed = middle + (changed - middle) * contrast
    grey = changed.mean(1, keepdim=True)
    return (grey + (changed - grey) * saturation).clamp(0, 1)


def _blur(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian blur with a standard deviation of up to 1/24 of the shorter side."""
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
    """Gaussian noise with a standard deviation of up to 0.1."""
    sigma = 0.1 * strength * _uniform(images, generator, 0.2, 1.0)
    drawn = torch.randn(images.shape, generator=generator).to(device=images.device, dtype=images.dtype)
    return (images + sigma[:, None, None, None] * drawn).clamp(0, 1)


def _erase(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Random erasing (Zhong et al., AAAI 2020) of up to a quarter of the area, filled with the mean colour."""
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
