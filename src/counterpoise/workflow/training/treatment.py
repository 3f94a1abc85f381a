"""What a strategy does to a batch, beyond the augmentation that every strategy gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterpoise import augment
from counterpoise.core.artifacts import Strategy
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError
from counterpoise.samplers import ClassBalancedSampler
from counterpoise.workflow.training.stream import Order

__all__ = ["Treatment", "build_treatment"]

Mix = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Treatment:
    """Augmentation by class, then mixing.

    Attributes:
        strength: ``(C,)`` float32, how strongly the images of each class are changed; None for not at all.
        symmetries: what keeps the labels of this dataset.
        mix: images, labels and generator → images and soft targets; None for none.
        foreground: a second order of training images, whose images come in turn with those of the first; None for none.
    """

    strength: Tensor | None = None
    symmetries: frozenset[str] = frozenset()
    mix: Mix | None = None
    foreground: Order | None = None

    def apply(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images float in [0, 1] and class ids → images and a target for the loss."""
        if self.strength is not None:
            strength = self.strength.to(labels.device)[labels]
            images = augment.strengthened(images, strength, generator=generator, symmetries=self.symmetries)
        if self.mix is not None:
            return self.mix(images, labels, generator)
        return images, labels


def build_treatment(
    strategy: Strategy,
    labels: np.ndarray[Any, np.dtype[np.int64]],
    counts: ClassCounts,
    *,
    prior: np.ndarray[Any, np.dtype[np.float64]] | None,
    symmetries: frozenset[str],
    seed: int,
) -> Treatment:
    """The treatment of a strategy; ``prior`` is the one its sampler produces, None for that of the data."""
    return Treatment(
        strength=_strength(strategy, counts, counts.prior() if prior is None else prior),
        symmetries=symmetries,
        mix=_mix(strategy, counts),
        foreground=_foreground(labels, counts, seed) if strategy.mixing == "cmo" else None,
    )


def _strength(strategy: Strategy, counts: ClassCounts, prior: Any) -> Tensor | None:
    if strategy.augment is None:
        return None
    schemes: dict[str, Callable[..., Any]] = {
        "by_rarity": lambda **o: augment.rarity_strength(counts, **o),
        "by_repeats": lambda **o: augment.repeat_strength(counts, prior, **o),
    }
    if strategy.augment not in schemes:
        raise ArgumentError(
            f"strategy {strategy.name!r}: augment {strategy.augment!r} is unknown; expected one of {', '.join(schemes)}"
        )
    return torch.from_numpy(schemes[strategy.augment](**strategy.augment_options)).float()


def _mix(strategy: Strategy, counts: ClassCounts) -> Mix | None:
    if strategy.mixing is None:
        return None
    if strategy.mixing not in _MIXINGS:
        raise ArgumentError(
            f"strategy {strategy.name!r}: mixing {strategy.mixing!r} is unknown; expected one of {', '.join(_MIXINGS)}"
        )
    options = dict(strategy.mixing_options)
    probability = options.pop("probability", 1.0)
    mixed, plain = _MIXINGS[strategy.mixing](counts, **options), _backgrounds if strategy.mixing == "cmo" else _same

    def mix(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        now = float(torch.rand((), generator=generator)) < probability
        return (mixed if now else plain)(images, labels, generator)

    return mix


def _same(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return images, labels


def _backgrounds(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return images[0::2], labels[0::2]


def _cmo(counts: ClassCounts, **options: float) -> Mix:
    # Background and foreground come in turn, so that every process gets whole pairs.
    return lambda images, labels, generator: augment.cmo(
        images[0::2],
        labels[0::2],
        images[1::2],
        labels[1::2],
        num_classes=counts.num_classes,
        generator=generator,
        **options,
    )


def _foreground(labels: Any, counts: ClassCounts, seed: int) -> Order:
    """Rare classes first: p(class) ∝ 1/n, from another stream of random numbers than the backgrounds."""
    sampler = ClassBalancedSampler(labels, power=-1.0, seed=seed + 1_000_003, num_classes=counts.num_classes)

    def draw(number: int) -> Any:
        sampler.set_epoch(number)
        return np.concatenate(list(sampler.batches(1 << 16)))

    return Order(len(sampler), draw, sampler.prior)


_MIXINGS: dict[str, Callable[..., Mix]] = {
    "mixup": lambda counts, **o: (
        lambda images, labels, generator: augment.mixup(
            images, labels, num_classes=counts.num_classes, generator=generator, **o
        )
    ),
    "cutmix": lambda counts, **o: (
        lambda images, labels, generator: augment.cutmix(
            images, labels, num_classes=counts.num_classes, generator=generator, **o
        )
    ),
    "remix": lambda counts, **o: (
        lambda images, labels, generator: augment.remix(images, labels, class_counts=counts, generator=generator, **o)
    ),
    "cmo": _cmo,
}
