"""Per class: recall by strategy, training against validation recall, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from counterpoise.core.artifacts import Evaluation
from counterpoise.workflow.report.collect.pieces import ShownClasses, interval, rate
from counterpoise.workflow.report.collect.seeds import ClassMean, class_means, confusion_sum
from counterpoise.workflow.report.figures import classes as drawn
from counterpoise.workflow.report.page import Cell, Choice, Column, Figure, Mark, Series, Table
from counterpoise.workflow.report.text import count, number, percent, points

__all__ = ["Evaluations", "confusion_figure", "gap_figure", "recall_figure"]

Evaluations = Mapping[str, Sequence[Evaluation]]
CHOICES = 12
PAIRS = 8
WRITTEN = 12


def recall_figure(
    by_strategy: Evaluations,
    classes: ShownClasses,
    series: Sequence[Series],
    *,
    sizes: Sequence[int | None],
    split: str = "test",
) -> Figure:
    """Recall per class with Wilson intervals, one mark a strategy."""
    rows, body = [], []
    for index, label, cell in zip(classes.ids, classes.labels, classes.cells, strict=True):
        means = {s.name: class_means(by_strategy[s.name], index) for s in series}
        rows += [_recall_row(label, name, m) for name, m in means.items() if m.recall is not None]
        none = "no image of this class in the split"
        support = next(iter(means.values())).support
        size = Cell(count(sizes[index])) if sizes[index] is not None else Cell(count(None), missing="not recorded")
        values = (interval(m.recall, m.low, m.high, none) for m in means.values())
        body.append((cell, size, Cell(count(support)), *values))
    columns = (
        Column("Class", numeric=False),
        Column("Train"),
        Column("Images here"),
        *(Column(s.name) for s in series),
    )
    level = f"{100 * by_strategy[series[0].name][0].confidence:g}\u00a0%"
    over = f"The bars are {level} Wilson intervals"
    if _several(by_strategy, series):
        over = f"Means over seeds; the bars are {level} Wilson intervals for the mean on the images of one seed"
    caption = f"Classes from the most training images to the fewest. {over}: wide where there are few images."
    words = f"Recall of {len(classes.ids)} classes under {len(series)} strategies; the table below has the numbers."
    draw = partial(drawn.recall, rows, classes.labels, series, words, split=split)
    table = Table("Recall per class, %", columns, tuple(body), folded=True)
    return Figure(
        "recall", "Recall per class", f"{caption} {classes.note}".strip(), words, (Choice("", draw),),
        key=tuple(series) if len(series) > 1 else (), table=table,
    )  # fmt: skip


def _several(by_strategy: Evaluations, series: Sequence[Series]) -> bool:
    return any(len(by_strategy[s.name]) > 1 for s in series)


def _recall_row(label: str, strategy: str, m: ClassMean) -> dict[str, object]:
    low, high = m.recall if m.low is None else m.low, m.recall if m.high is None else m.high
    text = f"{percent(m.recall)} ({percent(low)} to {percent(high)})"
    return {
        "class": label,
        "strategy": strategy,
        "recall": m.recall,
        "low": low,
        "high": high,
        "shown": text,
        "support": m.support,
    }


def gap_figure(
    by_strategy: Evaluations,
    classes: ShownClasses,
    series: Sequence[Series],
    *,
    sizes: Sequence[int | None],
    split: str = "validation",
) -> Figure | None:
    """Recall on training against validation images, a picture for every strategy; None where no one measured it."""
    choices, columns, body = [], [], [[cell] for cell in classes.cells]
    words = f"Recall on the training images and on the {split} images, class by class."
    for one in series[:CHOICES]:
        means = [class_means(by_strategy[one.name], index) for index in classes.ids]
        rows = [
            {"class": label, "train": m.train_recall, "val": m.recall, "shown": points(m.gap), "images": sizes[index]}
            for index, label, m in zip(classes.ids, classes.labels, means, strict=True)
            if m.train_recall is not None and m.recall is not None
        ]
        if not rows:
            continue
        choices.append(
            Choice(one.name, partial(drawn.gap, rows, classes.labels, f"{words} Strategy {one.name}.", series=one))
        )
        columns.append(Column(one.name))
        for line, m in zip(body, means, strict=True):
            line.append(_gap_cell(m))
    if not choices:
        return None
    caption = f"A long bar is a class that is recognised where it was seen and not elsewhere. {classes.note}"
    legend = (Mark("training images", "ink", "circle", hollow=True), Mark(f"{split} images", "ink", "circle"))
    table = Table(
        "Gap per class, percentage points",
        (Column("Class", numeric=False), *columns),
        tuple(map(tuple, body)),
        folded=True,
    )
    return Figure(
        "gap", f"Training against {split}", caption.strip(), words, tuple(choices), "Strategy",
        legend=legend, table=table,
    )  # fmt: skip


def _gap_cell(m: ClassMean) -> Cell:
    if number(m.gap) is None:
        return replace(rate(None, "recall in training or validation is not known"))
    return Cell(points(m.gap), detail=f"{percent(m.train_recall, 0)} → {percent(m.recall, 0)}")


def confusion_figure(by_strategy: Evaluations, classes: ShownClasses, series: Sequence[Series]) -> Figure | None:
    """The confusion matrix, a picture for every strategy; None where the evaluations keep no matrix."""
    choices, body = [], []
    for one in series[:CHOICES]:
        evaluations = by_strategy[one.name]
        rows = _confusion_rows(evaluations, classes)
        if not rows:
            continue
        words = f"Confusion matrix of {one.name}: rows are the true classes, columns the predictions."
        written = len(classes.ids) <= WRITTEN
        choices.append(Choice(one.name, partial(drawn.confusion, rows, classes.labels, words, written=written)))
        body += _pairs(rows, one)
    if not choices:
        return None
    caption = "Each row is a true class and adds up to 100\u00a0% over all classes; the outlined diagonal is recall. "
    seeds = ", all seeds together" if _several(by_strategy, series) else ""
    caption += f"Numbers are percentages{seeds}. {classes.note}"
    columns = [Column(title, numeric=False) for title in ("Strategy", "True class", "Taken for")]
    table = Table(
        "The most frequent confusions", (*columns, Column("Images"), Column("% of the class")), tuple(body), folded=True
    )
    words = "Which classes are taken for which; the table below lists the most frequent confusions."
    return Figure("confusion", "Confusion", caption.strip(), words, tuple(choices), "Strategy", table=table)


def _confusion_rows(evaluations: Sequence[Evaluation], classes: ShownClasses) -> list[dict[str, object]]:
    kept = [e for e in evaluations if e.confusion]
    rows: list[dict[str, object]] = []
    for i, true in zip(classes.ids, classes.labels, strict=True):
        whole = sum(sum(e.confusion[i]) for e in kept)
        for j, predicted in zip(classes.ids, classes.labels, strict=True):
            n = confusion_sum(kept, i, j)
            if n:
                r = n / whole
                text = percent(r, 0) if r >= 0.005 else ""
                rows.append({"t": true, "p": predicted, "n": n, "r": round(r, 6), "shown": text})
    return rows


def _pairs(rows: Sequence[dict[str, object]], one: Series) -> list[tuple[Cell, ...]]:
    """The largest shares off the diagonal."""
    wrong = sorted((row for row in rows if row["t"] != row["p"]), key=_share, reverse=True)[:PAIRS]
    return [
        (
            Cell(one.name, series=one),
            Cell(str(row["t"]), name=True),
            Cell(str(row["p"]), name=True),
            Cell(str(row["n"])),
            Cell(percent(_share(row))),
        )
        for row in wrong
    ]


def _share(row: dict[str, object]) -> float:
    return float(str(row["r"]))
