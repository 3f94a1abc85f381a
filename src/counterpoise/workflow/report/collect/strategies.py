"""Per strategy: the table of results, differences, trade-off, calibration, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from counterpoise.core.artifacts import Arm, Comparison, Difference, Evaluation, Spread, Verdict
from counterpoise.workflow.report.collect.differences import bounds, described, from_baseline
from counterpoise.workflow.report.collect.metrics import METRICS, metric_title
from counterpoise.workflow.report.collect.pieces import rate
from counterpoise.workflow.report.collect.seeds import calibration_sum, mean
from counterpoise.workflow.report.figures import strategies as drawn
from counterpoise.workflow.report.page import Cell, Choice, Column, Figure, Series, Table
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

__all__ = ["calibration_figure", "curve_figure", "result_table", "tradeoff_figure"]

NO_SCORE = "the strategy failed or has no score for this"
CURVES = (
    ("val_balanced_accuracy", "Validation balanced accuracy", True),
    ("val_accuracy", "Validation accuracy", True),
    ("loss", "Training loss", False),
    ("val_loss", "Validation loss", False),
    ("learning_rate", "Learning rate", False),
)
GROUPS = ("many", "medium", "few", "few_false_positives")
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
        *(Column(*METRICS[m]) for m in _others(comparison)),
        Column("Time a seed", "Training and evaluation of one seed, on average."),
    ]
    rows = tuple(_result_row(comparison, arm, series[arm.strategy.name]) for arm in comparison.arms)
    recommended = comparison.verdict.recommended
    marked = frozenset(i for i, arm in enumerate(comparison.arms) if arm.strategy.name == recommended)
    return Table("Strategies compared", tuple(columns), rows, _result_notes(comparison), marked=marked)


def _others(comparison: Comparison) -> list[str]:
    """The metrics beside the one of the comparison; of the groups those that have classes, the rarest for its price."""

    def known(metric: str) -> bool:
        return any(_known(_score(arm, "test", metric)) for arm in comparison.arms)

    candidates = [m for m in ("balanced_accuracy", *AFTER) if m != comparison.metric]
    if not known("few_false_positives") and known("medium_false_positives"):
        candidates[candidates.index("few_false_positives")] = "medium_false_positives"
    return [m for m in candidates if m not in GROUPS or known(m)]


def _result_row(comparison: Comparison, arm: Arm, series: Series) -> tuple[Cell, ...]:
    name, metric = arm.strategy.name, comparison.metric
    reason = f"{name} failed" if arm.status == "failed" else NO_SCORE
    state = "failed" if arm.status == "failed" else ""
    state = state or (_standing(comparison.verdict) if name == comparison.verdict.recommended else "")
    state = state or ("the baseline" if name == comparison.baseline != "baseline" else "")
    seconds = duration(mean(arm.seconds)) if arm.seconds else None
    return (
        Cell(shown(name), series=series, detail=state, strong=name == comparison.verdict.recommended),
        _spread(_score(arm, "val", metric), reason),
        _spread(_score(arm, "test", metric), reason, strong=True),
        _difference(comparison, arm),
        *(_spread(_score(arm, "test", m), _reason(m, reason)) for m in _others(comparison)),
        Cell(seconds) if seconds else missing("not recorded"),
    )


def _standing(verdict: Verdict) -> str:
    return "ahead on validation" if verdict.kind == "undecided" else "recommended"


def _score(arm: Arm, split: str, metric: str) -> Spread | None:
    return arm.scores.get(split, {}).get(metric)


def _reason(metric: str, otherwise: str) -> str:
    return "no class is in this group" if otherwise == NO_SCORE and metric in GROUPS else otherwise


def _spread(spread: Spread | None, reason: str, *, strong: bool = False) -> Cell:
    if spread is None or number(spread.mean) is None:
        return missing(reason)
    detail = "" if number(spread.sd) is None else f"± {percent(spread.sd)}"
    return Cell(percent(spread.mean), detail=detail, strong=strong)


def _difference(comparison: Comparison, arm: Arm) -> Cell:
    if arm.strategy.name == comparison.baseline:
        return missing("the baseline itself")
    found = next((d for d in from_baseline(comparison) if d.strategy == arm.strategy.name), None)
    if found is None or number(found.estimate) is None:
        return missing("no difference could be taken: one of the two failed")
    return Cell(points(found.estimate), detail=bounds(found))


def _bounds(d: Difference) -> str:
    return f"[{points(d.low)}, {points(d.high)}]" if number(d.low) is not None and number(d.high) is not None else ""


def _result_notes(comparison: Comparison) -> tuple[str, ...]:
    seeds = len(comparison.seeds)
    over = (
        f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed, so there is no spread over seeds"
    )
    notes = [f"Percentages of the test images unless the heading says validation: {over}."]
    methods = dict.fromkeys((d.method, d.confidence, d.resamples) for d in from_baseline(comparison))
    notes += [described(*method) for method in methods]
    failed = (arm for arm in comparison.arms if arm.status == "failed")
    notes += [f"{shown(a.strategy.name)} failed: {shown(without_roots(a.error or _SILENT), 400)}" for a in failed]
    return tuple(notes)


_SILENT = "no reason was recorded"


def tradeoff_figure(comparison: Comparison, series: Sequence[Series]) -> Figure | None:
    """Head against tail: one small mark a seed, one large mark a strategy; None unless two groups have classes."""
    arms = {arm.strategy.name: arm for arm in comparison.arms}
    groups = [g for g in ("many", "medium", "few") if any(_known(_score(arms[s.name], "test", g)) for s in series)]
    if len(groups) < 2:
        return None
    head, tail = groups[0], groups[-1]
    rows, means, body = [], [], []
    for one in series:
        arm = arms[one.name]
        across, up = _score(arm, "test", head), _score(arm, "test", tail)
        if across is None or up is None or not (_known(across) and _known(up)):
            continue
        means.append({"strategy": one.name, "seed": "mean", "head": across.mean, "tail": up.mean})
        pairs = zip(arm.seeds, across.values, up.values, strict=False)
        rows += [{"strategy": one.name, "seed": str(seed), "head": a, "tail": b} for seed, a, b in pairs]
        body.append((Cell(shown(one.name), series=one), _spread(across, NO_SCORE), _spread(up, NO_SCORE)))
    words = f"Mean recall of the classes with {head} images against that of the classes with {tail}; "
    words += "up and to the right is better."
    draw = partial(drawn.tradeoff, rows, means, series, words, head=head, tail=tail)
    columns = (Column("Strategy", numeric=False), Column(head.capitalize()), Column(tail.capitalize()))
    caption = "Large marks are means over seeds, small ones single seeds. Moving left is the price of moving up."
    table = Table("Mean recall on the test images, %", columns, tuple(body), folded=True)
    return Figure("tradeoff", "Head against tail", caption, words, (Choice("", draw),), key=tuple(series), table=table)


def _known(spread: Spread | None) -> bool:
    return spread is not None and number(spread.mean) is not None


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
    trained = tuple(one for one in series if arms[one.name].history and not arms[one.name].strategy.reuses)
    choices = []
    for key, title, as_rate in CURVES:
        rows = [row for one in trained for row in _curve(arms[one.name], key)]
        if rows:
            words = f"{title} by epoch, one line a strategy and seed."
            choices.append(Choice(title, partial(drawn.curves, rows, trained, words, title=title, rate=as_rate)))
    if not choices:
        return None
    caption = "One line a seed; the mark is its last epoch. Strategies that reuse another's model train nothing."
    words = "Training curves of every strategy and seed."
    return Figure("training", "Training", caption, words, tuple(choices), "Quantity", key=trained)


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
