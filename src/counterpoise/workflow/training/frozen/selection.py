"""Choose the learning rate and the weight decay of every strategy, from one grid for all, on held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterpoise import metrics
from counterpoise.core.artifacts import Strategy
from counterpoise.core.images import find_duplicates
from counterpoise.workflow.dataset.folds import ResplitImages
from counterpoise.workflow.dataset.splits import draw
from counterpoise.workflow.training.frozen.arms import Arm
from counterpoise.workflow.training.frozen.heads import HeadStack
from counterpoise.workflow.training.frozen.setup import FrozenSetup

HELD_OUT = 0.2
"""Share of the training images of each class on which the pairs are scored."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for a strategy, and the score of every pair on the held-out images; None if it diverged."""

    learning_rate: float
    weight_decay: float
    scores: tuple[float | None, ...]


def inner_setup(setup: FrozenSetup, *, seed: int = 0) -> FrozenSetup:
    """A setup within the training images: a fifth of each class is its validation split; copies stay together."""
    train, rows = setup.data.subset("train"), np.flatnonzero(setup.data.splits == "train")
    groups = find_duplicates(setup.data, among=rows.tolist(), changed=False)
    identical = [np.searchsorted(rows, group).tolist() for group in groups]
    splits = draw(train.labels, train.paths, fractions={"val": HELD_OUT}, seed=seed, identical=identical)
    return setup.with_validation_of(splits == "val", ResplitImages(setup.data, splits, rows=rows))


def selection_arms(strategies: Sequence[Strategy], pairs: Sequence[tuple[float, float]], *, seed: int = 0) -> list[Arm]:
    """One arm for each strategy and each pair of learning rate and weight decay."""
    return [Arm(strategy, seed, rate, decay) for strategy in strategies for rate, decay in pairs]


def chosen_pairs(stack: HeadStack, *, metric: str) -> dict[str, Choice]:
    """The pair with the highest score on validation, for each strategy of a trained stack."""
    outputs, scores, pairs = stack.outputs("val"), {}, stack.setup.settings.pairs
    for i, head in enumerate(stack.heads):
        value = None
        if head.error is None:
            final = head.final_predictions({"val": outputs[i]})[0]["val"]
            value = float(metrics.METRICS[metric].value(metrics.tally(final.labels, final.logits.argmax(1))))
        scores[id(head.arm)] = None if value is None or np.isnan(value) else value
    by_strategy: dict[str, list[float | None]] = {}
    for arm in stack.arms:
        by_strategy.setdefault(arm.strategy.name, []).append(scores[id(arm)])
    return {name: Choice(*pairs[_best(values)], tuple(values)) for name, values in by_strategy.items()}


def _best(scores: Sequence[float | None]) -> int:
    """The index of the highest score; the first of equal ones."""
    return int(np.argmax([-np.inf if value is None else value for value in scores]))
