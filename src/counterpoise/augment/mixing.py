"""Mixing of two images and their labels: mixup, CutMix, Remix and CMO, with soft targets for any softmax loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.hyperparameters import check_options

Mixed = tuple[Tensor, Tensor]


def mixup(images: Tensor, target: Tensor, *, num_classes: int, alpha: float = 1.0, generator: torch.Generator) -> Mixed:
    """mixup: images ``λ x_i + (1−λ) x_j`` with targets ``λ y_i + (1−λ) y_j``; λ ~ Beta(α, α), j a permutation.

    Args:
        images: ``(N, ...)``, floating point.
        target: ``(N,)`` class indices, or ``(N, C)`` probabilities.
        num_classes: C.
        alpha: α, above 0; for small α, λ is close to 0 or 1.
        generator: on the CPU, so that the result does not depend on the device.

    Returns:
        Mixed images of the shape and dtype given, and float32 targets ``(N, C)`` that sum to 1.

    Raises:
        ArgumentError: a class index out of range, or an alpha that is not above 0.
        ArgumentTypeError: images that are not floating point.

    Reference: Zhang et al., mixup, ICLR 2018 (arXiv:1710.09412).

    Example:
        >>> images, target = mixup(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 1, 0]), num_classes=2,
        ...                        generator=torch.Generator().manual_seed(0))
        >>> images.shape, target.sum(1)
        (torch.Size([4, 3, 8, 8]), tensor([1., 1., 1., 1.]))
    """
    soft, lam, j = _sampled_mix(images, target, num_classes, alpha, generator)
    return lam * images + (1 - lam) * images[j], lam * soft + (1 - lam) * soft[j]


def remix(
    images: Tensor,
    target: Tensor,
    *,
    class_counts: CountsLike,
    alpha: float = 1.0,
    kappa: float = 3.0,
    tau: float = 0.5,
    generator: torch.Generator,
) -> Mixed:
    """Remix: mixup that gives the whole label to the rarer class if the image of the other class has a small share.

    The share of the label is ``λ_y = 0`` if ``n_i/n_j ≥ κ`` and ``λ < τ``, 1 if ``n_i/n_j ≤ 1/κ`` and ``1 − λ < τ``,
    and λ otherwise.

    Args:
        images: ``(N, ...)``, floating point.
        target: ``(N,)`` class indices.
        class_counts: training images per class, ``(C,)``.
        alpha: α of λ ~ Beta(α, α), above 0.
        kappa: κ, the ratio of class counts from which the rarer class gets the label, at least 1.
        tau: τ, the share of the frequent class's image up to which the rarer class gets the label, in [0, 1].
        generator: on the CPU, so that the result does not depend on the device.

    Returns:
        Mixed images of the shape and dtype given, and float32 targets ``(N, C)``.

    Raises:
        ArgumentError: a class index or a hyperparameter out of range.
        ArgumentTypeError: images that are not floating point.

    Reference: Chou et al., Remix, ECCV Workshops 2020 (arXiv:2007.03943).

    Example:
        >>> images, target = remix(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 1, 0]), class_counts=[90, 10],
        ...                        generator=torch.Generator().manual_seed(0))
        >>> target.sum(1)
        tensor([1., 1., 1., 1.])
    """
    check_options("mixing", "remix", {"kappa": kappa, "tau": tau})
    if target.dim() != 1:
        raise ArgumentError(f"`target` must be class indices (N,) for remix; got shape {tuple(target.shape)}")
    counts = class_counts if isinstance(class_counts, ClassCounts) else ClassCounts(class_counts)
    soft, lam, j = _sampled_mix(images, target, counts.num_classes, alpha, generator)
    n = torch.from_numpy(counts.counts.astype(np.float32)).to(target.device)[target]
    ratio = n / n[j]
    label = torch.full_like(ratio, lam)
    label[(ratio >= kappa) & (torch.full_like(ratio, lam) < tau)] = 0.0
    label[(ratio <= 1 / kappa) & (torch.full_like(ratio, 1 - lam) < tau)] = 1.0
    return lam * images + (1 - lam) * images[j], label[:, None] * soft + (1 - label[:, None]) * soft[j]


def cutmix(
    images: Tensor, target: Tensor, *, num_classes: int, alpha: float = 1.0, generator: torch.Generator
) -> Mixed:
    """CutMix: paste a rectangle of one image onto another; the shares of the target are the shares of the area.

    The rectangle covers the share 1 − λ of the image, λ ~ Beta(α, α), before it is clipped at the border; the target
    uses the clipped area.

    Args:
        images: ``(N, K, H, W)``, any dtype.
        target: ``(N,)`` class indices, or ``(N, C)`` probabilities.
        num_classes: C.
        alpha: α, above 0.
        generator: on the CPU, so that the result does not depend on the device.

    Returns:
        New images of the shape and dtype given, and float32 targets ``(N, C)``.

    Raises:
        ArgumentError: a class index out of range, or an alpha that is not above 0.

    Reference: Yun et al., CutMix, ICCV 2019 (arXiv:1905.04899).

    Example:
        >>> images, target = cutmix(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), num_classes=2,
        ...                         generator=torch.Generator().manual_seed(0))
        >>> images.shape, target.sum(1)
        (torch.Size([2, 3, 8, 8]), tensor([1., 1.]))
    """
    j = torch.randperm(len(images), generator=generator).to(images.device)
    soft = one_hot(target, num_classes)
    return _paste(images, soft, images[j], soft[j], alpha, generator)


def cmo(
    images: Tensor,
    target: Tensor,
    foreground: Tensor,
    foreground_target: Tensor,
    *,
    num_classes: int,
    alpha: float = 1.0,
    generator: torch.Generator,
) -> Mixed:
    """CMO: CutMix that pastes rectangles of images of rare classes onto images of all classes.

    Sample the foregrounds with ``ClassBalancedSampler(labels, power=-1)``, whose ``p(class) ∝ 1/n_c`` is that of the
    paper, and the backgrounds with instance-balanced sampling.

    Args:
        images: backgrounds ``(N, K, H, W)``, any dtype.
        target: labels of the backgrounds: ``(N,)`` class indices or ``(N, C)`` probabilities.
        foreground: ``(N, K, H, W)``, from which the rectangles are cut.
        foreground_target: labels of the foregrounds, ``(N,)`` or ``(N, C)``.
        num_classes: C.
        alpha: α of the Beta(α, α) distribution of the background's share, above 0.
        generator: on the CPU, so that the result does not depend on the device.

    Returns:
        New images of the shape and dtype given, and float32 targets ``(N, C)``.

    Raises:
        ArgumentError: images and foreground of different shapes, a class index out of range, or an alpha that is not
            above 0.

    Reference: Park et al., The Majority Can Help the Minority, CVPR 2022 (arXiv:2112.00412).

    Example:
        >>> images, target = cmo(torch.zeros(2, 3, 8, 8), torch.tensor([0, 0]), torch.ones(2, 3, 8, 8),
        ...                      torch.tensor([1, 1]), num_classes=2, generator=torch.Generator().manual_seed(0))
        >>> bool(torch.isclose(images[0].mean(), target[0, 1]))
        True
    """
    if images.shape != foreground.shape:
        raise ArgumentError(
            f"`foreground` must have the shape of `images`, {tuple(images.shape)}; got {tuple(foreground.shape)}"
        )
    soft, front = one_hot(target, num_classes), one_hot(foreground_target, num_classes)
    return _paste(images, soft, foreground, front, alpha, generator)


def one_hot(target: Tensor, num_classes: int) -> Tensor:
    """Convert class indices or probabilities to float32 ``(N, C)``."""
    if target.is_floating_point():
        if target.dim() != 2 or target.shape[1] != num_classes:
            raise ArgumentError(f"`target` must have shape (N, {num_classes}); got {tuple(target.shape)}")
        return target.float()
    if target.dim() != 1:
        raise ArgumentError(f"`target` must be class indices (N,) or probabilities (N, C); got {tuple(target.shape)}")
    if target.device.type == "cpu" and len(target) and not 0 <= int(target.min()) <= int(target.max()) < num_classes:
        raise ArgumentError(f"`target` must be in 0 .. {num_classes - 1}; got {target.min()} .. {target.max()}")
    return F.one_hot(target.long(), num_classes).float()


def _sampled_mix(
    images: Tensor, target: Tensor, num_classes: int, alpha: float, generator: torch.Generator
) -> tuple[Tensor, float, Tensor]:
    if not images.is_floating_point():
        raise ArgumentTypeError(f"`images` must be floating point to be mixed; got {images.dtype}")
    soft = one_hot(target, num_classes)
    return soft, _beta(alpha, generator), torch.randperm(len(images), generator=generator).to(images.device)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """λ ~ Beta(α, α) by NumPy, as torch's Beta distribution takes no generator."""
    check_options("mixing", "mixup", {"alpha": alpha})
    seed = int(torch.randint(2**62, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _paste(
    back: Tensor, back_target: Tensor, front: Tensor, front_target: Tensor, alpha: float, generator: torch.Generator
) -> Mixed:
    height, width = back.shape[-2:]
    side = (1 - _beta(alpha, generator)) ** 0.5
    tall, wide = int(height * side), int(width * side)
    middle = torch.rand(2, generator=generator)
    y, x = int(middle[0] * height), int(middle[1] * width)
    top, bottom = max(0, y - tall // 2), min(height, y - tall // 2 + tall)
    left, right = max(0, x - wide // 2), min(width, x - wide // 2 + wide)
    mixed = back.clone()
    mixed[..., top:bottom, left:right] = front[..., top:bottom, left:right]
    share = (bottom - top) * (right - left) / (height * width)
    return mixed, (1 - share) * back_target + share * front_target
