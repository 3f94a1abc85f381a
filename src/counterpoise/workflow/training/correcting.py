"""Corrections of the scores after training, and what validation says of the final ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise import metrics
from counterpoise.core.artifacts import Predictions, Strategy
from counterpoise.core.images import Split
from counterpoise.workflow.evaluation import Fitted, cross_fitted
from counterpoise.workflow.training.build import Known, build_posthoc, needs_validation
from counterpoise.workflow.training.loop import validation_loss

__all__ = ["Row", "corrected", "validated"]

Row = dict[str, float | None]


def corrected(
    strategy: Strategy, known: Known, raw: dict[Split, Predictions]
) -> tuple[dict[Split, Predictions], Fitted]:
    """The final scores of each split, with the strategy's correction, and what was fitted for it on validation.

    Where something was, each validation image is corrected by a fit to the others: numbers on validation then mean
    what they mean for strategies that fit nothing there.
    """
    fit = build_posthoc(strategy, known)
    val = raw.get("val")
    scores, labels = (np.empty((0, 0)), np.empty(0, np.int64)) if val is None else (val.logits, val.labels)
    fitted = fit(scores, labels)
    final = {split: replace(here, logits=fitted.apply(here.logits)) for split, here in raw.items()}
    if val is not None and needs_validation(strategy):
        final["val"] = replace(val, logits=cross_fitted(fit, scores, labels))
    return final, fitted


def validated(labels: NDArray[np.int64], scores: NDArray[np.floating[Any]]) -> Row:
    if not len(labels):
        return {"val_loss": None, "val_accuracy": None, "val_balanced_accuracy": None}
    predicted = scores.argmax(1)
    return {
        "val_loss": validation_loss(scores, labels),
        "val_accuracy": float((predicted == labels).mean()),
        "val_balanced_accuracy": float(metrics.balanced_accuracy(labels, predicted)),
    }
