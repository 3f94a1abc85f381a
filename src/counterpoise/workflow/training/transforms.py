"""Transforms of a whole batch that belong to a strategy: augmentation by class, and mixing of two images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoise import augment
from counterpoise.core.artifacts import Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.hyperparameters import defaults
from counterpoise.samplers import ClassBalancedSampler
from counterpoise.workflow.training.data import SampleOrder, sampler_order

Mixing = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Images, labels and generator → images and class probabilities, or unmixed images and labels."""


@dataclass(frozen=True)
class BatchTransform:
    """Augmentation by class, then mixing, after the augmentation that every strategy gets.

    Attributes:
        strength: ``(C,)`` float32 in [0, 1], how strongly the images of each class are augmented; None for not at all.
        symmetries: label-preserving transforms of the dataset.
        mix: mixes the images of a batch; None for no mixing.
        foreground: order of the images that are pasted on others (CMO), which alternate with them in a batch; None
            for no second order.
    """

    strength: Tensor | None = None
    symmetries: frozenset[str] = frozenset()
    mix: Mixing | None = None
    foreground: SampleOrder | None = None

    def apply(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images float in [0, 1] and class ids → images and the target of the loss."""
        if self.strength is not None:
            strength = self.strength.to(labels.device)[labels]
            images = augment.strengthened(images, strength, generator=generator, symmetries=self.symmetries)
        if self.mix is not None:
            return self.mix(images, labels, generator)
        return images, labels


def build_transform(
    strategy: Strategy,
    labels: NDArray[np.int64],
    counts: ClassCounts,
    *,
    sampling_prior: NDArray[np.float64] | None,
    symmetries: frozenset[str],
    seed: int,
) -> BatchTransform:
    """The batch transform of a strategy; ``sampling_prior`` is that of its sampler, None for that of the data."""
    strength = None
    if strategy.augment is not None:
        sampled = counts.prior() if sampling_prior is None else sampling_prior
        strength = CLASS_AUGMENTATIONS[strategy.augment](counts, sampled, **strategy.augment_options)
    return BatchTransform(
        strength=None if strength is None else torch.from_numpy(strength).float(),
        symmetries=symmetries,
        mix=_build_mixing(strategy, counts),
        foreground=_rare_foregrounds(labels, counts, seed) if strategy.mixing == "cmo" else None,
    )


def _build_mixing(strategy: Strategy, counts: ClassCounts) -> Mixing | None:
    """The mixing of a strategy, applied to a share of the batches."""
    if strategy.mixing is None:
        return None
    options: dict[str, Any] = {**defaults("mixing", strategy.mixing, "probability"), **strategy.mixing_options}
    probability, method, paired = options.pop("probability"), MIXINGS[strategy.mixing], strategy.mixing == "cmo"
    options |= {"class_counts": counts} if strategy.mixing == "remix" else {"num_classes": counts.num_classes}

    def mix(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        # Backgrounds and foregrounds alternate in a batch of pairs.
        inputs = (images[0::2], labels[0::2], images[1::2], labels[1::2]) if paired else (images, labels)
        if float(torch.rand((), generator=generator)) < probability:
            return method(*inputs, generator=generator, **options)
        return inputs[0], inputs[1]

    return mix


def _rare_foregrounds(labels: NDArray[np.int64], counts: ClassCounts, seed: int) -> SampleOrder:
    """Images with p(class) ∝ 1/n_c, from other random numbers than the backgrounds."""
    sampler = ClassBalancedSampler(labels, power=-1.0, seed=seed + 1_000_003, num_classes=counts.num_classes)
    return sampler_order(sampler)


def _by_rarity(counts: ClassCounts, prior: NDArray[np.float64], **options: Any) -> NDArray[np.float64]:
    return augment.rarity_strength(counts, **options)


MIXINGS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "mixup": augment.mixup,
    "cutmix": augment.cutmix,
    "remix": augment.remix,
    "cmo": augment.cmo,
}
CLASS_AUGMENTATIONS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "by_rarity": _by_rarity,
    "by_repeats": augment.repeat_strength,
}
