"""What train, compare and demo share: options → settings, and a comparison as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from counterpoise.cli.output import note, percent, points, print_table, say

if TYPE_CHECKING:
    from counterpoise.core.artifacts import Arm, Comparison, Difference, Spread
    from counterpoise.core.images import LabeledImages

__all__ = ["load_data", "print_comparison", "tell_of_nesting", "training_settings"]


SEEDS_RESAMPLED = 5
"""From so many seeds on the intervals are over seeds, too."""


def load_data(
    data: str, *, val_fraction: float, split_seed: int, symmetries: str | None, nested: bool
) -> LabeledImages:
    """The dataset, with the symmetries the caller states."""
    from counterpoise.workflow.dataset import load

    stated: Any = None if symmetries is None else _names(symmetries)
    dataset = load(data, val_fraction=val_fraction, seed=split_seed, symmetries=stated, nested=nested)
    tell_of_nesting(dataset)
    return dataset


def tell_of_nesting(dataset: LabeledImages) -> None:
    """Say where folders within a class folder may be what the caller means by classes."""
    for finding in dataset.findings:
        if finding.kind == "nested-folders":
            note(f"warning: {finding.reason}")


def training_settings(*, augment: str, **settings: Any) -> dict[str, Any]:
    """Keyword arguments for `train` and `compare`."""
    return {**settings, "augment": "auto" if augment == "auto" else tuple(_names(augment))}


def print_comparison(comparison: Comparison) -> None:
    """The verdict and one row a strategy."""
    gains = {
        d.strategy: d
        for d in comparison.differences
        if (d.split, d.metric, d.baseline) == ("test", comparison.metric, comparison.baseline)
    }
    metrics = _metrics(comparison)
    headers = ("strategy", "val bal. acc.", "test bal. acc.", "vs baseline [95 %]", *metrics.values(), "time")
    rows = [_row(arm, gains.get(arm.strategy.name), list(metrics)) for arm in comparison.arms]
    print_table(headers, rows)
    verdict = comparison.verdict
    say()
    faults = [finding.reason for finding in comparison.audit.findings if finding.severity == "error"]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        say(f"error in the data: {faults[0]}{more}; see the report or `counterpoise audit`")
    if any("[?]" in cell for row in rows for cell in row):
        say("[?]: too few images for an interval; each class they decide is all right or all wrong")
    if 1 < len(comparison.seeds) < SEEDS_RESAMPLED:
        say("intervals are over the images; how much seeds change is the ± beside each mean")
    left = len(comparison.audit.quarantined)
    if left:
        say(f"{left} file{'s' if left > 1 else ''} could not be used; the report says which and why")
    for line in (verdict.headline, *(f"  cost: {cost}" for cost in verdict.costs), *verdict.notes):
        say(line)


def _metrics(comparison: Comparison) -> dict[str, str]:
    """Columns by metric: the groups that have classes, and the false positives of the rarest of them."""
    scores = next((arm.scores["test"] for arm in comparison.arms if arm.status == "done"), {})
    groups = [g for g in ("many", "medium", "few") if g in scores and scores[g].mean is not None]
    columns: dict[str, str] = {name: name for name in ("accuracy", *groups)}
    if groups and groups[-1] != "many":
        columns[f"{groups[-1]}_false_positives"] = f"{groups[-1]}: false pos."
    return columns


def _row(arm: Arm, gain: Difference | None, metrics: list[str]) -> tuple[str, ...]:
    if arm.status == "failed":
        return (arm.strategy.name, f"failed: {(arm.error or '')[:60]}", *[""] * (len(metrics) + 3))
    val, test = arm.scores["val"], arm.scores["test"]
    shares = [percent(test[name].mean) for name in metrics]
    interval = "" if gain is None else points(gain.estimate)
    if gain is not None:
        interval += " [?]" if gain.low is None or gain.high is None else f" [{points(gain.low)}, {points(gain.high)}]"
    both = (_spread(val["balanced_accuracy"]), _spread(test["balanced_accuracy"]))
    return (arm.strategy.name, *both, interval, *shares, f"{sum(arm.seconds):.0f} s")


def _spread(spread: Spread) -> str:
    return percent(spread.mean) + (f" ± {100 * spread.sd:.1f}" if spread.sd is not None else "")


def _names(text: str) -> list[str]:
    return [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]
