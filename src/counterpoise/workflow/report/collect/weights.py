"""Class weights that a strategy changed while it trained: a table of a few epochs."""

from __future__ import annotations

import numpy as np

from counterpoise.core.artifacts import Arm, Comparison
from counterpoise.workflow.report.collect.pieces import ShownClasses
from counterpoise.workflow.report.page import Cell, Column, Table
from counterpoise.workflow.report.text import shown

__all__ = ["weight_tables"]

COLUMNS = 6


def weight_tables(comparison: Comparison, classes: ShownClasses) -> list[Table]:
    """One table for each strategy that changes its weights: classes by epochs, the mean over seeds."""
    return [_table(arm, classes) for arm in comparison.arms if arm.weights and all(arm.weights)]


def _table(arm: Arm, classes: ShownClasses) -> Table:
    mean = np.mean(np.array(arm.weights), axis=0)  # (epochs, C)
    epochs = np.unique(np.linspace(0, len(mean) - 1, num=COLUMNS).round().astype(int))
    shown_rows = zip(classes.ids, classes.cells, strict=True)
    rows = tuple((cell, *(Cell(f"{mean[epoch, c]:.2f}") for epoch in epochs)) for c, cell in shown_rows)
    columns = (Column("Class", numeric=False), *(Column(f"Epoch {epoch + 1}") for epoch in epochs))
    note = f"Mean over {len(arm.weights)} seed{'s' if len(arm.weights) > 1 else ''}; the average over all classes is 1."
    return Table(f"Class weights of {shown(arm.strategy.name)} while it trained", columns, rows, (note,))
