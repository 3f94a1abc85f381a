"""Per strategy: the table of results, differences, trade-off, calibration, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from counterpoise.core.artifacts import Arm, Comparison, Difference, Evaluation, Spread
from counterpoise.workflow.report.collect.metrics import METRICS, metric_title
from counterpoise.workflow.report.collect.pieces import rate
from counterpoise.workflow.report.collect.seeds import calibration_sum, mean
from counterpoise.workflow.report.figures import strategies as drawn
from counterpoise.workflow.report.page import Cell, Choice, Column, Figure, Mark, Series, Table
from counterpoise.workflow.report.text import (
    count,
    duration,
    missing,
    number,
    percent,
    points,
    shown,
    without_roots,
)

__all__ = ["calibration_figure", "curve_figure", "difference_figure", "result_table", "tradeoff_figure"]

NO_SCORE = "the strategy failed or has no score for this"
CURVES = (
    ("val_balanced_accuracy", "Validation balanced accuracy", True),
    ("val_accuracy", "Validation accuracy", True),
    ("loss", "Training loss", False),
    ("val_loss", "Validation loss", False),
    ("learning_rate", "Learning rate", False),
)
AFTER = ("accuracy", "macro_f1", "many", "medium", "few", "few_false_positives", "expected_calibration_error")


def result_table(comparison: Comparison, series: dict[str, Series]) -> Table:
    """The whole comparison in one table, one row a strategy, in the order they were asked for."""
    metric = comparison.metric
    title = metric_title(metric)
    about = METRICS.get(metric, ("", ""))[1]
    columns = [
        Column("Strategy", numeric=False),
        Column(f"{title}, validation", about),
        Column(f"{title}, test", about),
        Column("Difference from baseline", "In percentage points, on the test images, with its interval."),
        *(Column(*METRICS[m]) for m in _others(metric)),
        Column("Time a seed", "Training and evaluation of one seed, on average."),
    ]
    rows = tuple(_result_row(comparison, arm, series[arm.strategy.name]) for arm in comparison.arms)
    recommended = comparison.verdict.recommended
    marked = frozenset(i for i, arm in enumerate(comparison.arms) if arm.strategy.name == recommended)
    return Table("Strategies compared", tuple(columns), rows, _result_notes(comparison), marked=marked)


def _others(metric: str) -> list[str]:
    rest = [m for m in AFTER if m != metric]
    return rest if metric == "balanced_accuracy" else ["balanced_accuracy", *rest]


def _result_row(comparison: Comparison, arm: Arm, series: Series) -> tuple[Cell, ...]:
    name, metric = arm.strategy.name, comparison.metric
    reason = f"{name} failed" if arm.status == "failed" else NO_SCORE
    state = "failed" if arm.status == "failed" else ""
    state = state or ("recommended" if name == comparison.verdict.recommended else "")
    state = state or ("the baseline" if name == comparison.baseline != "baseline" else "")
    seconds = duration(mean(arm.seconds)) if arm.seconds else None
    return (
        Cell(shown(name), series=series, detail=state, strong=name == comparison.verdict.recommended),
        _spread(_score(arm, "val", metric), reason),
        _spread(_score(arm, "test", metric), reason, strong=True),
        _difference(comparison, arm),
        *(_spread(_score(arm, "test", m), _reason(m, reason)) for m in _others(metric)),
        Cell(seconds) if seconds else missing("not recorded"),
    )


def _score(arm: Arm, split: str, metric: str) -> Spread | None:
    return arm.scores.get(split, {}).get(metric)


def _reason(metric: str, otherwise: str) -> str:
    groups = ("many", "medium", "few", "few_false_positives")
    return "no class is in this group" if otherwise == NO_SCORE and metric in groups else otherwise


def _spread(spread: Spread | None, reason: str, *, strong: bool = False) -> Cell:
    if spread is None or number(spread.mean) is None:
        return missing(reason)
    detail = "" if number(spread.sd) is None else f"± {percent(spread.sd)}"
    return Cell(percent(spread.mean), detail=detail, strong=strong)


def _difference(comparison: Comparison, arm: Arm) -> Cell:
    if arm.strategy.name == comparison.baseline:
        return missing("the baseline itself")
    found = next((d for d in _main(comparison, "test") if d.strategy == arm.strategy.name), None)
    if found is None or number(found.estimate) is None:
        return missing("no difference could be taken: one of the two failed")
    return Cell(points(found.estimate), detail=_bounds(found))


def _bounds(d: Difference) -> str:
    return f"[{points(d.low)}, {points(d.high)}]" if number(d.low) is not None and number(d.high) is not None else ""


def _main(comparison: Comparison, split: str) -> list[Difference]:
    return [d for d in comparison.differences if d.metric == comparison.metric and d.split == split]


def _result_notes(comparison: Comparison) -> tuple[str, ...]:
    seeds = len(comparison.seeds)
    over = (
        f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed, so there is no spread over seeds"
    )
    notes = [f"Percentages of the test images unless the heading says validation: {over}."]
    methods = dict.fromkeys((d.method, d.confidence, d.resamples) for d in _main(comparison, "test"))
    notes += [f"Intervals: {100 * level:g}\u00a0%, {_METHODS[method]}{_times(n)}." for method, level, n in methods]
    failed = (arm for arm in comparison.arms if arm.status == "failed")
    notes += [f"{shown(a.strategy.name)} failed: {shown(without_roots(a.error or _SILENT), 400)}" for a in failed]
    return tuple(notes)


_SILENT = "no reason was recorded"
_METHODS = {
    "images": "paired bootstrap over the test images, stratified by class, of the difference of seed means; "
    "it says nothing about other seeds",
    "images-and-seeds": "two-level bootstrap, over the seeds and over the test images stratified by class",
}
_BRIEF = {"images": "images", "images-and-seeds": "images and seeds"}


def _times(resamples: int) -> str:
    return f", {count(resamples)} resamples" if resamples else ""


def difference_figure(comparison: Comparison, series: dict[str, Series]) -> Figure | None:
    """A forest plot of the differences from the baseline; None where there is none to draw."""
    found = [d for split in ("test", "val") for d in _main(comparison, split) if number(d.estimate) is not None]
    if not found:
        return None
    rows = [
        {
            "strategy": d.strategy,
            "split": d.split,
            "estimate": d.estimate,
            "low": d.estimate if number(d.low) is None else d.low,
            "high": d.estimate if number(d.high) is None else d.high,
            "shown": f"{points(d.estimate)} {_bounds(d)}".strip(),
            "method": _BRIEF[d.method],
            "fill": f"{d.split} {d.strategy}",
        }
        for d in found
    ]
    present = [series[name] for name in dict.fromkeys(d.strategy for d in found)]
    title = f"Difference in {metric_title(comparison.metric).lower()} from {shown(comparison.baseline)}"
    spoken = "; ".join(f"{d.strategy} {points(d.estimate)} {_bounds(d)}" for d in found if d.split == "test")
    words = f"{title} on the test images, percentage points: {shown(spoken, 1200)}."
    caption = "The choice was made on validation; the test images tell how it turned out. "
    caption += "An interval that crosses the line at 0 does not separate the strategy from the baseline."
    draw = partial(drawn.differences, rows, present, words, title="Difference, percentage points")
    return Figure(
        "differences", "Difference from the baseline", caption, words, (Choice("", draw),),
        legend=(Mark("test", "ink", "circle"), Mark("validation", "ink", "circle", hollow=True)),
        table=_difference_table(comparison, series),
    )  # fmt: skip


def _difference_table(comparison: Comparison, series: dict[str, Series]) -> Table:
    titles = ("Strategy", "Metric", "Split")
    columns = [Column(title, numeric=False) for title in titles]
    columns += [Column("Difference"), Column("Interval"), Column("± over seeds"), Column("Bootstrap over", "", False)]
    none = "undefined for one of the two"
    rows = tuple(
        (
            Cell(shown(d.strategy), series=series.get(d.strategy)),
            Cell(metric_title(d.metric)),
            Cell(d.split),
            Cell(points(d.estimate)) if number(d.estimate) is not None else missing(none),
            Cell(_bounds(d)) if _bounds(d) else missing(none),
            Cell(percent(d.seed_sd)) if number(d.seed_sd) is not None else missing("one seed: no spread"),
            Cell(_BRIEF[d.method]),
        )
        for d in comparison.differences[:200]
    )
    return Table("Differences in every metric, percentage points", tuple(columns), rows, folded=True)


def tradeoff_figure(comparison: Comparison, series: Sequence[Series]) -> Figure | None:
    """Head against tail: one small mark a seed, one large mark a strategy; None without both groups."""
    rows, means, body = [], [], []
    arms = {arm.strategy.name: arm for arm in comparison.arms}
    for one in series:
        arm = arms[one.name]
        many, few = _score(arm, "test", "many"), _score(arm, "test", "few")
        if many is None or few is None or number(many.mean) is None or number(few.mean) is None:
            continue
        means.append({"strategy": one.name, "seed": "mean", "many": many.mean, "few": few.mean})
        pairs = zip(arm.seeds, many.values, few.values, strict=False)
        rows += [
            {"strategy": one.name, "seed": str(seed), "many": a, "few": b}
            for seed, a, b in pairs
            if number(a) is not None and number(b) is not None
        ]
        body.append((Cell(shown(one.name), series=one), _spread(many, NO_SCORE), _spread(few, NO_SCORE)))
    if not means:
        return None
    words = "Mean recall of the classes with many images against that of the classes with few; up and right is better."
    draw = partial(drawn.tradeoff, rows, means, series, words)
    columns = (Column("Strategy", numeric=False), Column("Many"), Column("Few"))
    caption = "Large marks are means over seeds, small ones single seeds. Moving left is the price of moving up."
    table = Table("Mean recall on the test images, %", columns, tuple(body), folded=True)
    return Figure("tradeoff", "Head against tail", caption, words, (Choice("", draw),), key=tuple(series), table=table)


def calibration_figure(by_strategy: Mapping[str, Sequence[Evaluation]], series: Sequence[Series]) -> Figure | None:
    """A reliability diagram; None where nothing was binned."""
    rows, body = [], []
    for one in series:
        bins = calibration_sum(by_strategy[one.name])
        total = sum(b.count for b in bins)
        for b in bins:
            if not b.count:
                continue
            span = f"{percent(b.low, 0)} to {percent(b.high, 0)}\u00a0%"
            row = {"strategy": one.name, "confidence": b.confidence, "accuracy": b.accuracy, "count": b.count}
            rows.append({**row, "share": b.count / total, "range": span})
            cells = (Cell(span), Cell(count(b.count)), rate(b.confidence, ""), rate(b.accuracy, ""))
            body.append((Cell(shown(one.name), series=one), *cells))
    if not rows:
        return None
    words = "How often predictions are right against how sure they are; on the diagonal the two agree."
    caption = "Below the diagonal a model is surer than it is right. The larger the mark, the more predictions."
    columns = (Column("Strategy", numeric=False), Column("Confidence"), Column("Predictions"))
    table = Table(
        "Bins of confidence, all seeds",
        (*columns, Column("Mean confidence, %"), Column("Accuracy, %")),
        tuple(body),
        folded=True,
    )
    draw = partial(drawn.calibration, rows, series, words)
    key = tuple(series) if len(series) > 1 else ()
    return Figure("calibration", "Calibration", caption, words, (Choice("", draw),), key=key, table=table)


def curve_figure(comparison: Comparison, series: Sequence[Series]) -> Figure | None:
    """Training curves, a picture for every quantity recorded; None where nothing was."""
    arms = {arm.strategy.name: arm for arm in comparison.arms}
    choices = []
    for key, title, as_rate in CURVES:
        rows = [row for one in series for row in _curve(arms[one.name], key)]
        if rows:
            words = f"{title} by epoch, one line a strategy and seed."
            choices.append(Choice(title, partial(drawn.curves, rows, series, words, title=title, rate=as_rate)))
    if not choices:
        return None
    drawn_names = {one.name for one in series if arms[one.name].history}
    key_ = tuple(one for one in series if one.name in drawn_names)
    caption = "One line a seed; the mark is its last epoch. Strategies that reuse another's model train nothing."
    words = "Training curves of every strategy and seed."
    return Figure("training", "Training", caption, words, tuple(choices), "Quantity", key=key_)


def _curve(arm: Arm, key: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for seed, epochs in zip(arm.seeds, arm.history, strict=False):
        known = [(e.get("epoch"), e.get(key)) for e in epochs]
        known = [(epoch, value) for epoch, value in known if number(epoch) is not None and number(value) is not None]
        rows += [
            {"strategy": arm.strategy.name, "seed": str(seed), "epoch": x, "value": y, "last": i == len(known) - 1}
            for i, (x, y) in enumerate(known)
        ]
    return rows
