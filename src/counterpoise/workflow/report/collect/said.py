"""What the evaluations of a comparison found, put together over seeds: one row a strategy and kind of finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from counterpoise.core.artifacts import Arm, Evaluation, Finding
from counterpoise.workflow.report.page import Cell, Column, Series, Table
from counterpoise.workflow.report.text import shown, without_roots

__all__ = ["MEMORISED", "said_table"]

MEMORISED = "memorised"
KINDS = {
    MEMORISED: "known from training, not recognised",
    "never-predicted": "never predicted",
    "absent-class": "no image there",
    "constant": "the only answer",
}
NAMES = 12


def said_table(
    arms: Sequence[Arm], series: dict[str, Series], *, caption: str, memorised: bool, note: str
) -> Table | None:
    """The findings of one sort, or of all others; None where there are none."""
    rows = [
        (
            Cell(shown(arm.strategy.name), series=series.get(arm.strategy.name)),
            Cell(KINDS.get(kind, shown(kind.replace("-", " ")))),
            Cell(_classes(arm.validation, kind), name=True),
            Cell(_classes(arm.test, kind), name=True),
        )
        for arm in arms
        for kind in _kinds(arm)
        if (kind == MEMORISED) is memorised
    ]
    if not rows:
        return None
    several = any(len(arm.seeds) > 1 for arm in arms)
    seeds = ("In brackets: how many of the seeds show it.",) if several else ()
    columns = [Column(title, numeric=False) for title in ("Strategy", "Finding", "On validation", "On test")]
    skip = 1 if memorised else None
    kept = [tuple(cell for i, cell in enumerate(row) if i != skip) for row in rows]
    return Table(caption, tuple(c for i, c in enumerate(columns) if i != skip), tuple(kept), (note, *seeds))


def _kinds(arm: Arm) -> list[str]:
    return list(dict.fromkeys(f.kind for e in (*arm.validation, *arm.test) for f in e.findings))


def _classes(evaluations: Sequence[Evaluation], kind: str) -> str:
    """The classes that findings of this kind name, with the number of seeds that name them."""
    found = [f for e in evaluations for f in e.findings if f.kind == kind]
    seen = Counter(name for f in found for name in dict.fromkeys(f.about or _reason(f)))
    parts = [f"{shown(name)} ({n}/{len(evaluations)})" for name, n in seen.most_common(NAMES)]
    if len(evaluations) == 1:
        parts = [shown(name) for name, _ in seen.most_common(NAMES)]
    parts += [f"{len(seen) - NAMES} more"] if len(seen) > NAMES else []
    return ", ".join(parts) or "none"


def _reason(finding: Finding) -> tuple[str, ...]:
    return (shown(without_roots(finding.reason), 200),)
