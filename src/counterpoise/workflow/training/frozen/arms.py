"""The arms of a comparison on frozen features: which strategies can be trained, and which share their batches."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from counterpoise.core.artifacts import Strategy
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import Kind

_OF_BATCH: tuple[Kind, ...] = ("sampler", "mixing", "augment", "retraining")
"""Parts of a strategy that decide what a step sees; arms that agree in them and in the seed share their batches."""


@dataclass(frozen=True)
class Arm:
    """One head to be trained: a strategy with a seed, a learning rate and a weight decay.

    Attributes:
        strategy: how it is trained.
        seed: of the initial weights, the order of the images and the mixing.
        learning_rate: the highest learning rate.
        weight_decay: of AdamW.
    """

    strategy: Strategy
    seed: int
    learning_rate: float
    weight_decay: float

    @property
    def batch_key(self) -> tuple[Hashable, ...]:
        """Arms with equal keys see the same features and targets in every step, with heads of the same shape."""
        strategy = self.strategy
        parts = [(kind, *_method(strategy, kind)) for kind in _OF_BATCH]
        return (strategy.head, self.seed, *parts)

    @property
    def loss_key(self) -> tuple[Hashable, ...]:
        """Arms of one batch with equal keys share their loss; class weights that adapt belong to one arm."""
        own = (self.learning_rate, self.weight_decay) if self.strategy.reweighting == "adaptive" else ()
        return (repr(self.strategy), *own)


def reason_unavailable(strategy: Strategy, *, views: int) -> str | None:
    """Why a strategy cannot be trained on frozen features; None if it can."""
    if strategy.separate:
        return "it trains a network for each node of the class tree; use hierarchical, which has one head per node"
    if strategy.mixing in ("cmo", "cutmix"):
        return (
            f"{strategy.mixing} pastes a patch of one image on another, and frozen features have no pixels; use mixup"
        )
    if strategy.augment is not None and views == 0:
        return "it augments images by class, which needs augmented views of them; give `views` (--views), such as 4"
    return None


def check_available(strategy: Strategy, *, views: int) -> None:
    """Raise `ArgumentError`, with the reason, for a strategy that cannot be trained on frozen features."""
    reason = reason_unavailable(strategy, views=views)
    if reason is not None:
        raise ArgumentError(
            f"strategy {strategy.name!r} cannot be trained on frozen features: {reason}; leave it out, or train the "
            "whole network without `frozen`"
        )


def _method(strategy: Strategy, kind: Kind) -> tuple[Hashable, ...]:
    method, options = strategy.component(kind)
    return (method, tuple(sorted((name, repr(value)) for name, value in options.items())))
