"""Differences between strategies, with their intervals: from the baseline on test, from the choice on validation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from counterpoise.core.artifacts import Comparison, Difference
from counterpoise.workflow.report.collect.metrics import metric_title
from counterpoise.workflow.report.figures import strategies as drawn
from counterpoise.workflow.report.page import Cell, Choice, Column, Figure, Series, Table
from counterpoise.workflow.report.text import count, missing, number, percent, points, shown

__all__ = ["bounds", "described", "difference_figure", "from_baseline", "selection_figure"]

LISTED = 300
METHODS = {
    "images": "paired bootstrap over the test images, stratified by class, of the difference of seed means, widened "
    "for classes of few images; "
    "it says nothing about other seeds",
    "images-and-seeds": "two-level bootstrap, over the seeds and over the test images stratified by class, widened "
    "for classes of few images",
}
BRIEF = {"images": "images", "images-and-seeds": "images and seeds"}


def from_baseline(comparison: Comparison) -> list[Difference]:
    """What decides how it turned out: the main metric on test, strategy minus baseline."""
    return [
        d
        for d in comparison.differences
        if d.metric == comparison.metric and d.split == "test" and d.baseline == comparison.baseline
    ]


def described(method: str, confidence: float, resamples: int) -> str:
    """How an interval was made, in a sentence."""
    times = f", {count(resamples)} resamples" if resamples else ""
    return f"Intervals: {100 * confidence:g}\u00a0%, {METHODS[method]}{times}."


def bounds(d: Difference) -> str:
    """The interval in percentage points, or nothing."""
    return f"[{points(d.low)}, {points(d.high)}]" if number(d.low) is not None and number(d.high) is not None else ""


def difference_figure(comparison: Comparison, series: dict[str, Series]) -> Figure | None:
    """A forest plot of the differences from the baseline on test; None where there is none to draw."""
    caption = "On the test images, which had no part in the choice. An interval that crosses the line at 0 does not "
    caption += "separate the strategy from the baseline."
    found = from_baseline(comparison)
    return _forest(
        "differences", "Difference from the baseline", caption, found, series, table=_all(comparison, series)
    )


def selection_figure(comparison: Comparison, series: dict[str, Series]) -> Figure | None:
    """How far the others are behind the chosen strategy on validation; None where nothing was compared there."""
    found = [d for d in comparison.differences if d.metric == comparison.metric and d.split == "val"]
    chosen = comparison.verdict.recommended or comparison.baseline
    found = [d for d in found if d.baseline == chosen]
    caption = f"On the validation images, where the choice was made: each strategy minus {shown(chosen)}. A strategy "
    caption += "whose interval crosses the line at 0 cannot be told from it there."
    return _forest("selection", "Could validation tell them apart?", caption, found, series, hollow=True)


def _forest(
    name: str,
    title: str,
    caption: str,
    differences: Sequence[Difference],
    series: dict[str, Series],
    *,
    hollow: bool = False,
    table: Table | None = None,
) -> Figure | None:
    found = [d for d in differences if number(d.estimate) is not None and d.strategy in series]
    if not found:
        return None
    rows = [
        {
            "strategy": d.strategy,
            "estimate": d.estimate,
            "low": d.estimate if number(d.low) is None else d.low,
            "high": d.estimate if number(d.high) is None else d.high,
            "shown": f"{points(d.estimate)} {bounds(d)}".strip(),
            "method": BRIEF[d.method],
        }
        for d in found
    ]
    metric, against = metric_title(found[0].metric), shown(found[0].baseline)
    words = "; ".join(f"{d.strategy} {points(d.estimate)} {bounds(d)}".strip() for d in found)
    words = shown(f"{metric} minus that of {against}, percentage points: {words}.", 1200)
    axis = f"{metric}, percentage points"  # short: it must fit a phone; the caption says against what
    present = [series[d.strategy] for d in found]
    draw = partial(drawn.differences, rows, present, words, title=axis, hollow=hollow)
    return Figure(name, title, caption, words, (Choice("", draw),), table=table)


def _all(comparison: Comparison, series: dict[str, Series]) -> Table:
    left = [Column(title, numeric=False) for title in ("Strategy", "Minus", "Metric", "Split")]
    right = [Column("Difference"), Column("Interval"), Column("± over seeds"), Column("Bootstrap over", "", False)]
    rows = tuple(_row(d, series) for d in comparison.differences[:LISTED])
    more = len(comparison.differences) - len(rows)
    notes = (f"{count(more)} more are in the JSON file beside this page.",) if more > 0 else ()
    return Table("All differences, percentage points", (*left, *right), rows, notes, folded=True)


def _row(d: Difference, series: dict[str, Series]) -> tuple[Cell, ...]:
    none = "undefined for one of the two"
    return (
        Cell(shown(d.strategy), series=series.get(d.strategy)),
        Cell(shown(d.baseline)),
        Cell(metric_title(d.metric)),
        Cell(d.split),
        Cell(points(d.estimate)) if number(d.estimate) is not None else missing(none),
        Cell(bounds(d)) if bounds(d) else missing(none),
        Cell(percent(d.seed_sd)) if number(d.seed_sd) is not None else missing("no spread: one seed, or undefined"),
        Cell(BRIEF[d.method]),
    )
