"""Which epoch's weights a run keeps, and when a training that no longer improves on validation stops early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from counterpoise.core.text import metric_name, plural
from counterpoise.weights import DeferredWeights
from counterpoise.workflow.training.posthoc import HistoryRow
from counterpoise.workflow.training.recipe import Recipe
from counterpoise.workflow.training.settings import ResolvedSettings


@final
@dataclass
class EpochSelection:
    """The best epoch so far by a metric on the validation images, and its weights if they are kept.

    The first epoch with the highest value is the best. Only the epochs after the first ``before`` compete: what a
    strategy does towards its end, such as retraining the head, belongs to its model. Without ``keep`` and ``patience``
    nothing is recorded.
    """

    settings: ResolvedSettings
    before: int = 0
    epoch: int = 0
    best_epoch: int = 0
    best_value: float = float("-inf")
    weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe, settings: ResolvedSettings) -> EpochSelection:
        """The selection for a strategy: its second stage or its deferred class weights must have begun."""
        before = 0 if recipe.retraining is None else recipe.retraining.start_epoch
        if isinstance(recipe.reweighting, DeferredWeights):
            starts = (e for e in range(settings.epochs) if recipe.reweighting.has_started(e, epochs=settings.epochs))
            before = max(before, next(starts, settings.epochs - 1))
        return cls(settings, before)

    @property
    def keeps_best(self) -> bool:
        """Whether the model is to have the weights of the best epoch."""
        return self.settings.keep == "best"

    @property
    def stops(self) -> bool:
        """Whether the last ``patience`` epochs were not better than the best one."""
        patience = self.settings.patience
        return patience is not None and self.best_epoch > 0 and self.epoch - self.best_epoch >= patience

    def update(self, row: HistoryRow, weights: Callable[[], dict[str, Tensor]]) -> None:
        """Take note of the history of one epoch; ``weights`` are copied if it is the best and they are kept."""
        self.epoch = int(row["epoch"] or 0)
        value = row[f"val_{self.settings.select_by}"] if self.settings.select_by else None
        if value is None or self.epoch <= self.before or value <= self.best_value:
            return
        self.best_epoch, self.best_value = self.epoch, value
        if self.keeps_best:
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in weights().items()}

    def notes(self) -> tuple[str, ...]:
        """What the settings changed in a finished training, for readers."""
        metric, epochs = metric_name(self.settings.select_by or ""), self.settings.epochs
        notes = []
        if self.epoch < epochs:
            notes.append(
                f"training stopped after epoch {self.epoch} of {epochs}, because the validation {metric} did not "
                f"improve in {plural(self.settings.patience or 0, 'epoch')}; for all epochs train without `patience`"
            )
        if self.keeps_best:
            notes.append(
                f"the model has the weights of epoch {self.best_epoch}, the best one by validation {metric}; its "
                "validation values are optimistic, so quote those on the test images"
            )
        return tuple(notes)
