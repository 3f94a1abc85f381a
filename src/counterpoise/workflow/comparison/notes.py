"""Notes on a comparison, which its verdict adds to the conclusion."""

from __future__ import annotations

from collections.abc import Sequence

from counterpoise.core.artifacts import Arm
from counterpoise.workflow.training import ResolvedSettings, TrainingSetup
from counterpoise.workflow.training.frozen.setup import FrozenSetup

FEW_STEPS = 200
"""The verdict warns about trainings of fewer optimiser steps."""


def notes_on(setup: TrainingSetup, arms: Sequence[Arm]) -> list[str]:
    """What the verdict says besides: double corrections, folds, frozen features, unequal budgets, and few steps."""
    advice = [setup.double_correction_advice(arm.strategy) for arm in arms]
    notes = [sentence for sentence in advice if sentence is not None]
    if setup.folds is not None:
        notes += setup.folds.never_scored(setup.data)
    notes += [*_frozen_notes(setup), *_selection_notes(setup.settings, arms)]
    return [*notes, *_few_steps(setup.settings)]


def _frozen_notes(setup: TrainingSetup) -> list[str]:
    """That only heads were trained, and what a training of the whole network may change."""
    if not isinstance(setup, FrozenSetup):
        return []
    source = setup.features.source
    of = f"the file {source['file']}" if "file" in source else str(source["model"])
    return [
        f"the comparison is on frozen features of {of}: only the last layer was trained, so it tells which remedy pays "
        "on these features; a training of the whole network may give other scores and another order"
    ]


def _selection_notes(settings: ResolvedSettings, arms: Sequence[Arm]) -> list[str]:
    """What `keep` and `patience` mean for the numbers of a comparison."""
    notes = []
    ends = {arm.strategy.name: [len(rows) for rows in arm.history] for arm in arms if not arm.strategy.reuses}
    trained = [(n, name) for name, numbers in ends.items() for n in numbers if n]
    if settings.patience is not None and trained and min(trained)[0] < settings.epochs:
        (few, shortest), (most, longest) = min(trained), max(trained)
        notes.append(
            f"the runs do not have the same budget: with `--patience {settings.patience}` they stopped after {few} "
            f"({shortest}) to {most} ({longest}) of {settings.epochs} epochs; rerun without it for equal budgets"
        )
    if settings.keep == "best":
        notes.append(
            "validation has chosen the epoch of every model as well as the strategy, so the validation values are "
            "optimistic; quote those on the test images"
        )
    return notes


def _few_steps(settings: ResolvedSettings) -> tuple[str, ...]:
    if settings.steps >= FEW_STEPS:
        return ()
    epochs = -(-FEW_STEPS // settings.steps_per_epoch)
    return (
        f"each training took only {settings.steps} optimiser steps, so the strategies differ mostly in how fast they "
        f"start; rerun with `--epochs {epochs}` or more for at least {FEW_STEPS} steps",
    )
