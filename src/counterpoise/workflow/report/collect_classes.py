"""Figures with one row per class: number of images, recall, training vs. validation recall, confusion matrix.

Also selects the classes that figures show, and averages the evaluations of several seeds.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce

from counterpoise.core.artifacts import AuditResult, CalibrationBin, ClassScore, Evaluation
from counterpoise.core.text import plural, points
from counterpoise.metrics import wilson_interval
from counterpoise.workflow.report import charts, page
from counterpoise.workflow.report import formatting as fmt

Evaluations = Mapping[str, Sequence[Evaluation]]
"""The evaluations of every strategy, one per seed."""
RAREST, LARGEST = 30, 10
LABEL_LENGTH = 26
MAX_VARIANTS = 12
MAX_CONFUSIONS = 8
MAX_CLASSES_WITH_NUMBERS = 12
SORTED = "Classes are sorted from the most to the fewest training images."


@dataclass(frozen=True)
class ClassSelection:
    """The classes that figures and tables show, the largest first, with labels short enough for an axis."""

    ids: tuple[int, ...]
    labels: tuple[str, ...]
    cells: tuple[page.Cell, ...]
    omitted: int

    @property
    def note(self) -> str:
        """Which classes are omitted and where they are; empty if all are shown."""
        if not self.omitted:
            return ""
        return (
            f"Only the {LARGEST} largest and the {RAREST} rarest classes are shown; the {self.omitted:,} classes "
            f"between them are {fmt.JSON_EXPORT}."
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """The note as the notes of a table."""
        return (self.note,) if self.note else ()


def select_classes(names: Sequence[str], sizes: Sequence[int]) -> ClassSelection:
    """All classes if there are at most 40, otherwise the 30 rarest and the 10 largest, sorted by size."""
    order = sorted(range(len(names)), key=lambda i: (-sizes[i], i))
    ids = order if len(order) <= RAREST + LARGEST else [*order[:LARGEST], *order[-RAREST:]]
    selected = [names[i] for i in ids]
    labels = fmt.short_labels(selected, LABEL_LENGTH)
    cells = (
        replace(fmt.name_cell(name, limit=LABEL_LENGTH), text=label)
        for name, label in zip(selected, labels, strict=True)
    )
    return ClassSelection(tuple(ids), tuple(labels), tuple(cells), len(order) - len(ids))


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the defined values, or None if there is none."""
    defined = [v for v in map(fmt.finite, values) if v is not None]
    return sum(defined) / len(defined) if defined else None


def is_over_seeds(evaluations: Evaluations, series: Iterable[page.Series]) -> bool:
    """Whether any strategy has several seeds."""
    return any(len(evaluations[s.name]) > 1 for s in series)


def calibration_sum(evaluations: Sequence[Evaluation]) -> list[CalibrationBin]:
    """The confidence bins of all seeds: counts are added, confidence and accuracy weighted by them."""
    bins = []
    for same in zip(*(e.calibration for e in evaluations), strict=False):
        n = sum(b.count for b in same)
        confidence = sum((fmt.finite(b.confidence) or 0.0) * b.count for b in same)
        correct = sum((fmt.finite(b.accuracy) or 0.0) * b.count for b in same)
        means = (confidence / n, correct / n) if n else (None, None)
        bins.append(CalibrationBin(same[0].low, same[0].high, n, *means))
    return bins


def _class_mean(evaluations: Sequence[Evaluation], index: int) -> ClassScore:
    """The scores of one class, averaged over seeds.

    The interval is Wilson's for the mean recall on the images of one seed: all seeds use the same images, so more seeds
    do not narrow it.
    """
    scores = [e.classes[index] for e in evaluations]
    recall, images = mean(s.recall for s in scores), scores[0].support
    low = high = None
    if recall is not None and images:
        wilson = wilson_interval(recall * images, images, confidence=evaluations[0].confidence)
        low, high = float(wilson.low), float(wilson.high)
    train_recall, gap = mean(s.train_recall for s in scores), mean(s.gap for s in scores)
    return replace(scores[0], recall=recall, recall_low=low, recall_high=high, train_recall=train_recall, gap=gap)


def counts_figure(audit: AuditResult) -> page.Figure | None:
    """Images per class and split; None without classes."""
    if not audit.classes:
        return None
    classes = select_classes([c.name for c in audit.classes], [c.train for c in audit.classes])
    selected = [(audit.classes[i], label) for i, label in zip(classes.ids, classes.labels, strict=True)]
    splits = {split: name for split, name in fmt.SPLIT_NAMES.items() if audit.splits.get(split)}
    rows = [
        {"class": label, "split": split, "name": name, "n": getattr(c, split), "group": c.group}
        for c, label in selected
        for split, name in splits.items()
    ]
    text = f"Images per class in {plural(len(selected), 'class', 'classes')}; the largest class has "
    text += f"{plural(selected[0][0].train, 'training image')}, the smallest {selected[-1][0].train:,}."
    variants = tuple(
        page.Variant(label, partial(charts.counts_chart, rows, classes.labels, text, log=log))
        for label, log in (("Logarithmic", True), ("Linear", False))
    )
    table = page.Table(
        "Images per class",
        (
            *page.text_columns("Class", "Group"),
            *(page.Column(f"{name.capitalize()} images") for name in splits.values()),
            page.Column("Share of the training images (%)"),
        ),
        tuple(
            (
                cell,
                page.Cell(c.group),
                *(fmt.number_cell(getattr(c, s)) for s in splits),
                fmt.percent_cell(c.share, "no training images"),
            )
            for (c, _), cell in zip(selected, classes.cells, strict=True)
        ),
        folded=True,
    )
    legend = tuple(
        page.LegendEntry(name, charts.SPLIT_COLOURS[s], charts.SPLIT_SHAPES[s]) for s, name in splits.items()
    )
    caption = f"{SORTED} {classes.note}".strip()
    return page.Figure("counts", "Images per class", caption, text, variants, "Scale", legend=legend, table=table)


def recall_figure(
    evaluations: Evaluations,
    classes: ClassSelection,
    series: Sequence[page.Series],
    *,
    sizes: Sequence[int | None],
    split: str = "test",
) -> page.Figure:
    """Recall per class with Wilson intervals, one mark per strategy."""
    rows: list[page.Row] = []
    body = []
    for index, label, cell in zip(classes.ids, classes.labels, classes.cells, strict=True):
        means = {s.name: _class_mean(evaluations[s.name], index) for s in series}
        rows += [_recall_row(label, name, m) for name, m in means.items() if m.recall is not None]
        size = sizes[index]
        images = fmt.missing_cell("not recorded") if size is None else fmt.number_cell(size)
        reason = "no image of this class in the split"
        recalls = (fmt.interval_cell(m.recall, m.recall_low, m.recall_high, reason) for m in means.values())
        body.append((cell, images, fmt.number_cell(next(iter(means.values())).support), *recalls))
    columns = (
        *page.text_columns("Class"),
        page.Column("Training images"),
        page.Column(f"{split.capitalize()} images"),
        *(page.Column(s.name) for s in series),
    )
    level = f"{100 * evaluations[series[0].name][0].confidence:g}\u00a0%"
    bars = f"The bars are {level} Wilson intervals; they are wide for classes with few images."
    if is_over_seeds(evaluations, series):
        bars = (
            f"Marks are means over seeds. The bars are {level} Wilson intervals of the mean for the images of one "
            "seed; they are wide for classes with few images, and more seeds do not narrow them."
        )
    strategies = plural(len(series), "strategy", "strategies")
    text = f"Recall of {plural(len(classes.ids), 'class', 'classes')} with {strategies}; the table has the numbers."
    chart = partial(charts.recall_chart, rows, classes.labels, series, text, split=split)
    return page.Figure(
        "recall",
        "Recall per class",
        f"{SORTED} {bars} {classes.note}".strip(),
        text,
        (page.Variant("", chart),),
        series=tuple(series) if len(series) > 1 else (),
        table=page.Table("Recall per class (%)", columns, tuple(body), folded=True),
    )


def _recall_row(label: str, strategy: str, m: ClassScore) -> page.Row:
    low, high = m.recall if m.recall_low is None else m.recall_low, m.recall if m.recall_high is None else m.recall_high
    formatted = f"{fmt.percent_number(m.recall)} ({fmt.percent_number(low)} to {fmt.percent_number(high)})"
    row = {"class": label, "strategy": strategy, "recall": m.recall, "low": low, "high": high}
    return {**row, "formatted": formatted, "support": m.support}


def gap_figure(
    evaluations: Evaluations,
    classes: ClassSelection,
    series: Sequence[page.Series],
    *,
    sizes: Sequence[int | None],
    split: str = "validation",
) -> page.Figure | None:
    """Training recall against the recall on ``split``, a variant per strategy; None if no training recall is known."""
    text = f"Recall on the training images and on the {split} images of every class."
    variants, columns, body = [], [], [[cell] for cell in classes.cells]
    for s in series[:MAX_VARIANTS]:
        means = [_class_mean(evaluations[s.name], index) for index in classes.ids]
        rows = [
            {
                "class": label,
                "train": m.train_recall,
                "evaluated": m.recall,
                "formatted": points(m.gap),
                "images": sizes[index],
            }
            for index, label, m in zip(classes.ids, classes.labels, means, strict=True)
            if m.train_recall is not None and m.recall is not None
        ]
        if not rows:
            continue
        alternative = f"{text} Strategy: {s.name}."
        chart = partial(charts.gap_chart, rows, classes.labels, alternative, series=s, split=split)
        variants.append(page.Variant(s.name, chart))
        columns.append(page.Column(s.name))
        for row, m in zip(body, means, strict=True):
            row.append(_gap_cell(m))
    if not variants:
        return None
    caption = f"A long bar is a large gap between training and {split} recall: the model overfits this class."
    table = page.Table(
        "Gap per class (percentage points)",
        (*page.text_columns("Class"), *columns),
        tuple(map(tuple, body)),
        folded=True,
    )
    return page.Figure(
        "gap",
        f"Training vs. {split} recall",
        f"{caption} {classes.note}".strip(),
        text,
        tuple(variants),
        "Strategy",
        legend=(
            page.LegendEntry("training images", "text", "circle", hollow=True),
            page.LegendEntry(f"{split} images", "text", "circle"),
        ),
        table=table,
    )


def _gap_cell(m: ClassScore) -> page.Cell:
    if fmt.finite(m.gap) is None:
        return fmt.missing_cell("the recall on the training or on the other images is not known")
    return page.Cell(
        points(m.gap), detail=f"{fmt.percent_number(m.train_recall, 0)} → {fmt.percent_number(m.recall, 0)}"
    )


def confusion_figure(
    evaluations: Evaluations, classes: ClassSelection, series: Sequence[page.Series]
) -> page.Figure | None:
    """The confusion matrix, a variant per strategy; None if the evaluations have none."""
    variants, body = [], []
    for s in series[:MAX_VARIANTS]:
        rows = _confusion_rows(evaluations[s.name], classes)
        if not rows:
            continue
        text = f"Confusion matrix of {s.name}: rows are the true classes, columns the predicted classes."
        numbers = len(classes.ids) <= MAX_CLASSES_WITH_NUMBERS
        variants.append(
            page.Variant(s.name, partial(charts.confusion_chart, rows, classes.labels, text, numbers=numbers))
        )
        body += _most_frequent_confusions(rows, s)
    if not variants:
        return None
    over = ", over all seeds" if is_over_seeds(evaluations, series) else ""
    caption = (
        "Rows are the true classes, columns the predicted classes. Each row sums to 100\u00a0% over all classes; the "
        f"outlined diagonal is the recall. Numbers are percentages{over}."
    )
    columns = (
        *page.text_columns("Strategy", "True class", "Predicted class"),
        page.Column("Images"),
        page.Column("Share of the true class (%)"),
    )
    return page.Figure(
        "confusion",
        "True vs. predicted classes",
        f"{caption} {classes.note}".strip(),
        "How often each true class is predicted as each class; the table lists the most frequent confusions.",
        tuple(variants),
        "Strategy",
        table=page.Table("Most frequent confusions", columns, tuple(body), folded=True),
    )


def _confusion_rows(evaluations: Sequence[Evaluation], classes: ClassSelection) -> list[page.Row]:
    matrices = [e.confusion for e in evaluations if e.confusion]
    if not matrices:
        return []
    matrix, rows = reduce(operator.add, matrices), []
    for i, true in zip(classes.ids, classes.labels, strict=True):
        row = matrix.predicted(i)
        total = sum(row.values())
        for j, predicted in zip(classes.ids, classes.labels, strict=True):
            n = row.get(j, 0)
            if n:
                formatted = fmt.percent_number(n / total, 0) if n / total >= 0.005 else ""
                rows.append({"t": true, "p": predicted, "n": n, "r": round(n / total, 6), "formatted": formatted})
    return rows


def _most_frequent_confusions(rows: Sequence[page.Row], s: page.Series) -> list[tuple[page.Cell, ...]]:
    wrong = sorted((row for row in rows if row["t"] != row["p"]), key=lambda row: row["r"], reverse=True)
    return [
        (
            page.Cell(s.name, series=s),
            page.Cell(row["t"], is_name=True),
            page.Cell(row["p"], is_name=True),
            fmt.number_cell(row["n"]),
            page.Cell(fmt.percent_number(row["r"])),
        )
        for row in wrong[:MAX_CONFUSIONS]
    ]
