"""How to train: every number of a run beside the strategy, the same for all strategies of a comparison."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from counterpoise.core.errors import ArgumentError, DatasetError
from counterpoise.core.images import SYMMETRIES, LabeledImages

__all__ = ["Resolved", "Settings"]

SMALL = 64
"""Images whose shorter side is at most this many pixels keep their size and get a small network."""
PHOTO_SIZE, PRETRAINED_SIZE = 128, 224
FULL_BATCH, SMALL_BATCH, SMALL_DATA = 128, 32, 2048


@dataclass(frozen=True)
class Settings:
    """What the caller may choose; None and "auto" are decided from the data by `resolve`.

    Attributes:
        model: a name for `counterpoise.models.build_model`, or "auto".
        epochs: passes over as many images as the training split has, for every strategy alike.
        batch_size: images a step, over all processes.
        learning_rate: the peak, after the warm-up.
        momentum, weight_decay: of SGD (Nesterov).
        warmup: share of all steps in which the learning rate rises linearly; a cosine follows.
        image_size: height and width that images are brought to.
        augment: any of "crop", "hflip", "vflip", "rot90"; "auto" is the crop and, where it keeps the labels,
            the horizontal flip.
        pretrained: start from published weights.
        precision: "no" (float32), "bf16" or "fp16".
        cache_gib: images are decoded once and kept where they fit in this much memory.
        tree: the class tree of hierarchical strategies: a YAML, JSON or CSV file; "folders" (class names such as
            animal/dog); "balanced" (from the counts); saved predictions (.npz; from what they confuse); "auto" is
            "folders" where names have a slash, else "balanced".
    """

    model: str = "auto"
    epochs: int = 30
    batch_size: int | None = None
    learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05
    image_size: int | None = None
    augment: tuple[str, ...] | Literal["auto"] = "auto"
    pretrained: bool = False
    precision: Literal["no", "bf16", "fp16"] = "no"
    cache_gib: float = 4.0
    tree: str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "image_size"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ArgumentError(f"`{name}` must be a whole number of at least 1; got {value!r}")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ArgumentError(f"`learning_rate` must be above 0; got {self.learning_rate!r}")
        if not 0 <= self.warmup < 1:
            raise ArgumentError(f"`warmup` is a share of the steps, in [0, 1); got {self.warmup!r}")
        if self.precision not in ("no", "bf16", "fp16"):
            raise ArgumentError(f"`precision` must be 'no', 'bf16' or 'fp16'; got {self.precision!r}")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """From keyword arguments; an unknown one is an `ArgumentError` with the nearest name."""
        names = [f.name for f in dataclasses.fields(cls)]
        for key in options:
            if key not in names:
                close = difflib.get_close_matches(key, names, n=1)
                hint = f"did you mean `{close[0]}`?" if close else f"expected one of {', '.join(names)}"
                raise ArgumentError(f"`{key}` is no setting of a training; {hint}")
        if isinstance(options.get("augment"), list):
            options = {**options, "augment": tuple(options["augment"])}
        return cls(**options)

    def resolve(self, data: LabeledImages) -> Resolved:
        """Decide what was left open, from the training split of ``data``."""
        train = data.subset("train")
        if len(train) < 2:
            raise ArgumentError(f"{data.name} has {len(train)} training images; training needs at least two")
        size = self.image_size or (PRETRAINED_SIZE if self.pretrained else _native_size(train))
        batch = min(self.batch_size or (FULL_BATCH if len(train) >= SMALL_DATA else SMALL_BATCH), len(train))
        model = self.model if self.model != "auto" else ("resnet20" if size <= SMALL else "timm:resnet18")
        rate = self.learning_rate or 0.1 * batch / FULL_BATCH * (0.1 if self.pretrained else 1.0)
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "tree"}
        decided = {"model": model, "image_size": size, "batch_size": batch, "learning_rate": rate}
        steps = -(-len(train) // batch)
        return Resolved(**{**fields, **decided, "augment": self._augment(data)}, steps_per_epoch=steps)

    def _augment(self, data: LabeledImages) -> tuple[str, ...]:
        if self.augment == "auto":
            return ("crop", "hflip") if "hflip" in data.symmetries else ("crop",)
        known = ("crop", *SYMMETRIES)
        for name in self.augment:
            if name not in known:
                raise ArgumentError(f"`augment` {name!r} is unknown; expected some of {', '.join(known)}")
            if name != "crop" and name not in data.symmetries:
                allowed = ", ".join(sorted(data.symmetries)) or "none"
                raise ArgumentError(
                    f"`augment`: {name!r} changes the labels of {data.name}, whose symmetries are: {allowed}; "
                    "leave it out, or state the symmetry when loading the dataset"
                )
        return self.augment


@dataclass(frozen=True)
class Resolved:
    """`Settings` with nothing left open, as run.json records them."""

    model: str
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    warmup: float
    image_size: int
    augment: tuple[str, ...]
    pretrained: bool
    precision: str
    cache_gib: float
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training: the budget, equal for every strategy."""
        return self.epochs * self.steps_per_epoch

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up to the peak, then a cosine to zero."""
        warm = round(self.warmup * self.steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, comparable with those of another run."""
        return {**dataclasses.asdict(self), "augment": list(self.augment)}


def _native_size(images: LabeledImages) -> int:
    sample = np.linspace(0, len(images) - 1, num=min(len(images), 32)).astype(int)
    sides = []
    for row in sample.tolist():
        # An image that cannot be decoded is found and reported when all are.
        with contextlib.suppress(DatasetError):
            sides.append(min(images[row].shape[:2]))
    size = int(np.median(sides)) if sides else PHOTO_SIZE
    return size if size <= SMALL else PHOTO_SIZE
