"""What the settings of a training on frozen features are derived to be."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from counterpoise.core.errors import ArgumentError
from counterpoise.core.images import LabeledImages
from counterpoise.models import WeightFile
from counterpoise.workflow.training.settings import (
    FROZEN_EPOCHS,
    PRETRAINED_SIZE,
    SMALL_IMAGE,
    ResolvedSettings,
    Settings,
    native_size,
)

MODEL = "timm:tf_efficientnet_lite0"
"""The default backbone: fast on a CPU."""
SMALL_SIZE = 128
"""Images of up to `SMALL_IMAGE` pixels are enlarged to this size."""
LEARNING_RATES = (1e-3, 3e-4, 3e-3, 1e-4)
WEIGHT_DECAYS = (0.01, 3.0)
"""Every strategy chooses from the pairs of these, which are the same for all."""
STEPS_PER_EPOCH, FEWEST_STEPS = 40, 600
"""Wanted in an epoch, and by default at least in a training: with fewer the heads are not fitted."""
SMALLEST_BATCH, LARGEST_BATCH = 16, 512


def resolve_frozen(settings: Settings, data: LabeledImages) -> ResolvedSettings:
    """Derive what is unset from the training split of ``data``.

    Raises:
        ArgumentError: a model or an augmentation that cannot be used.
    """
    if not isinstance(settings.model, str):
        raise ArgumentError(
            "`model` must be a name with `frozen`, such as timm:resnet50; or give `features` (--features)"
        )
    train = data.subset("train")
    size = settings.image_size or (SMALL_SIZE if native_size(train) <= SMALL_IMAGE else PRETRAINED_SIZE)
    own = settings.features is not None
    resolved = replace(settings, image_size=size, augment=settings.augment if settings.views else ()).resolve(data)
    if not all(isinstance(name, str) for name in resolved.augment):
        raise ArgumentError("`augment` must be names such as hflip with `frozen`, of which the views are made")
    batch = min(settings.batch_size or default_batch(len(train)), len(train))
    rates = LEARNING_RATES if settings.learning_rate is None else (settings.learning_rate,)
    decays = WEIGHT_DECAYS if settings.weight_decay is None else (settings.weight_decay,)
    steps = -(-len(train) // batch)
    return replace(
        resolved,
        epochs=settings.epochs or max(FROZEN_EPOCHS, -(-FEWEST_STEPS // steps)),
        model="features" if own else MODEL if settings.model == "auto" else settings.model,
        pretrained=not own and settings.weights is None,
        weights=None if settings.weights is None else WeightFile.of(Path(settings.weights)),
        batch_size=batch,
        steps_per_epoch=steps,
        pairs=tuple((rate, decay) for rate in rates for decay in decays),
    )


def default_batch(images: int) -> int:
    """The power of two with which an epoch has about 40 steps, from 16 to 512.

    Example:
        >>> [default_batch(n) for n in (100, 1_000, 10_000, 1_000_000)]
        [16, 32, 256, 512]
    """
    wanted = 1 << round(math.log2(max(1.0, images / STEPS_PER_EPOCH)))
    return min(max(wanted, SMALLEST_BATCH), LARGEST_BATCH)
