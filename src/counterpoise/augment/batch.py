"""Random crops, flips and rotations of a whole batch on its device, with their own random generator."""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.core.errors import ArgumentError
from counterpoise.core.images import Symmetry


def random_crop(images: Tensor, *, padding: int, generator: torch.Generator) -> Tensor:
    """Pad the images with zeros and crop each to its original size at a random place.

    Args:
        images: ``(N, C, H, W)``, any dtype.
        padding: pixels added on every side, at least 0.
        generator: on the CPU, so that the places do not depend on the device.

    Returns:
        Images of the shape and dtype given.

    Reference: He et al., Deep Residual Learning, CVPR 2016, section 4.2 (padding 4 for 32×32).

    Example:
        >>> images = torch.arange(4.0).view(1, 1, 2, 2)
        >>> random_crop(images, padding=0, generator=torch.Generator()).equal(images)
        True
    """
    n, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    top, left = torch.randint(2 * padding + 1, (2, n), generator=generator).to(images.device)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    batch = torch.arange(n, device=images.device)
    # Indexed as (N, H, W, C) and viewed as (N, C, H, W): in channels_last memory format, fast in convolutions.
    return padded.permute(0, 2, 3, 1)[batch[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_symmetry(images: Tensor, symmetry: Symmetry, *, generator: torch.Generator) -> Tensor:
    """Flip each image with probability ½, or rotate it by a random multiple of 90 degrees.

    Args:
        images: ``(N, C, H, W)``, any dtype; square for ``"rot90"``.
        symmetry: ``"hflip"`` (left and right), ``"vflip"`` (top and bottom) or ``"rot90"``.
        generator: on the CPU, so that the result does not depend on the device.

    Returns:
        Images of the shape and dtype given.

    Raises:
        ArgumentError: ``"rot90"`` and images that are not square, because a quarter turn would swap their sides.

    Example:
        >>> one = torch.ones(1, 1, 2, 2)
        >>> random_symmetry(one, "hflip", generator=torch.Generator()).equal(one)
        True
    """
    if symmetry == "rot90":
        if images.shape[2] != images.shape[3]:
            raise ArgumentError(
                f"`images` must be square for 'rot90', which swaps the sides; got {tuple(images.shape)}; crop or "
                "pad them to a square, or leave out 'rot90'"
            )
        turns = torch.randint(4, (len(images),), generator=generator).to(images.device)
        rotated = torch.stack([images.rot90(k, dims=(2, 3)) for k in range(4)])
        return rotated[turns, torch.arange(len(images), device=images.device)]
    flip = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    return torch.where(flip[:, None, None, None], images.flip(3 if symmetry == "hflip" else 2), images)
