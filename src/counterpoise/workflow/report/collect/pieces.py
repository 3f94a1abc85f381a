"""Sections that several kinds of page share: the data, settings, definitions; and which classes are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from counterpoise.core.artifacts import AuditResult, Finding, Strategy
from counterpoise.workflow.report.collect.metrics import definitions
from counterpoise.workflow.report.figures import classes as drawn
from counterpoise.workflow.report.page import (
    Block,
    Cell,
    Choice,
    Column,
    Definitions,
    Fact,
    Facts,
    Figure,
    Findings,
    Mark,
    Section,
    Table,
)
from counterpoise.workflow.report.text import (
    count,
    labels,
    missing,
    name_cell,
    number,
    percent,
    shown,
    spaced,
    value_cell,
    without_roots,
)

__all__ = [
    "ShownClasses",
    "class_counts",
    "data_section",
    "definition_section",
    "findings",
    "interval",
    "rate",
    "settings_section",
    "shown_classes",
    "strategy_table",
    "unit",
]

RAREST, LARGEST = 30, 10
LABEL = 26
LISTED = 50
ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class ShownClasses:
    """The classes that per-class figures show, the largest first, with labels short enough for an axis."""

    ids: tuple[int, ...]
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    left_out: int

    @property
    def note(self) -> str:
        """What is left out and where it is; empty if nothing is."""
        if not self.left_out:
            return ""
        return (
            f"Shown are the {LARGEST} largest and the {RAREST} rarest classes; {count(self.left_out)} between them are "
            "left out here and are in the JSON file beside this page."
        )


def shown_classes(names: Sequence[str], sizes: Sequence[int]) -> ShownClasses:
    """Every class where there are at most 40, else the rarest 30 and the largest 10; by size, the largest first."""
    order = sorted(range(len(names)), key=lambda i: (-sizes[i], i))
    ids = order if len(order) <= RAREST + LARGEST else [*order[:LARGEST], *order[-RAREST:]]
    picked = [names[i] for i in ids]
    short = labels(picked, LABEL)
    cells = [replace(name_cell(name, limit=LABEL), text=label) for name, label in zip(picked, short, strict=True)]
    return ShownClasses(tuple(ids), tuple(short), tuple(cells), len(order) - len(ids))


def rate(value: float | None, reason: str, *, detail: str = "") -> Cell:
    """A percentage, or a dash with the reason."""
    return missing(reason) if number(value) is None else Cell(percent(value), detail=detail)


def interval(value: float | None, low: float | None, high: float | None, reason: str) -> Cell:
    """A percentage with its interval beside it."""
    bounds = "" if number(low) is None or number(high) is None else f"{percent(low, 0)}–{percent(high, 0)}"
    return rate(value, reason, detail=bounds)


def findings(items: Iterable[Finding], *, empty: str) -> Findings:
    """The worst first, each once, at most fifty; paths that lead outside are cut."""
    unique = list(dict.fromkeys(items))
    unique.sort(key=lambda f: ORDER[f.severity])
    clean = tuple(_clean(item) for item in unique[:LISTED])
    return Findings(clean, empty, left_out=max(0, len(unique) - LISTED))


def _clean(item: Finding) -> Finding:
    about = tuple(shown(without_roots(name)) for name in item.about[:8])
    more = (f"{len(item.about) - 8} more",) if len(item.about) > 8 else ()
    reason = spaced(shown(without_roots(item.reason), 600))
    about = tuple(name for name in about if name not in reason)  # most reasons name what they are about
    return replace(item, reason=reason, about=(*about, *more) if about else ())


def class_counts(audit: AuditResult) -> tuple[Figure, ...]:
    """Images per class and split, on a logarithmic scale or a linear one."""
    if not audit.classes:
        return ()
    kept = shown_classes([c.name for c in audit.classes], [c.train for c in audit.classes])
    picked = [(audit.classes[i], label) for i, label in zip(kept.ids, kept.labels, strict=True)]
    splits = [split for split in ("train", "val", "test") if audit.splits.get(split)]
    rows = [
        {"class": label, "split": split, "n": getattr(c, split), "group": c.group}
        for c, label in picked
        for split in splits
    ]
    words = f"Images per class in {len(picked)} classes; the largest has {count(picked[0][0].train)} training images, "
    words += f"the smallest {count(picked[-1][0].train)}."
    choices = tuple(
        Choice(label, partial(drawn.counts, rows, kept.labels, words, log=log))
        for label, log in (("Logarithmic", True), ("Linear", False))
    )
    columns = (Column("Class", numeric=False), Column("Group", numeric=False), *(Column(s) for s in splits))
    table = Table(
        "Images per class",
        (*columns, Column("Share of training, %")),
        tuple(
            (cell, Cell(c.group), *(Cell(count(getattr(c, s))) for s in splits), rate(c.share, "no training images"))
            for (c, _), cell in zip(picked, kept.cells, strict=True)
        ),
        folded=True,
    )
    caption = f"Classes from the most training images to the fewest. {kept.note}".strip()
    legend = tuple(Mark(*_SPLIT_MARKS[split]) for split in splits)
    return (Figure("counts", "Images per class", caption, words, choices, "Scale", legend=legend, table=table),)


_SPLIT_MARKS = {
    split: (label, drawn.SPLIT_COLOURS[split], dict(drawn.SPLITS)[split])
    for split, label in (("train", "training"), ("val", "validation"), ("test", "test"))
}


def data_section(audit: AuditResult, *, more: Sequence[Block] = ()) -> Section:
    """The dataset: how much of what, what was found, what was left out."""
    blocks: list[Block] = [Facts(_data_facts(audit)), *class_counts(audit), *more]
    blocks.append(findings(audit.findings, empty="The audit found nothing to report."))
    if audit.quarantined:
        blocks.append(_quarantine(audit))
    return Section("data", "The data", tuple(blocks))


def _data_facts(audit: AuditResult) -> tuple[Fact, ...]:
    where = f"on the {audit.reference_split} images"
    nothing = f"no images in the {audit.reference_split} split"
    ratio = number(audit.imbalance_ratio)
    splits = ", ".join(f"{count(n)} {split}" for split, n in audit.splits.items())
    groups = ", ".join(f"{len(names)} {group}" for group, names in audit.groups.items())
    return (
        Fact("Source", name_cell(without_roots(audit.source), limit=120)),
        Fact("Images", Cell(count(audit.num_images), detail=splits)),
        Fact("Classes", Cell(count(len(audit.classes)), detail=groups)),
        Fact("Imbalance ratio", missing("no training images") if ratio is None else Cell(f"{ratio:.1f} : 1")),
        Fact("Largest class", name_cell(audit.constant_class)),
        Fact("Accuracy of always predicting it", unit(rate(audit.constant_accuracy, nothing, detail=where))),
        Fact("Balanced accuracy of that", unit(rate(audit.constant_balanced_accuracy, nothing, detail=where))),
        Fact("Files", Cell(count(audit.num_files), detail=_file_fate(audit))),
    )


def unit(cell: Cell) -> Cell:
    """The percentage with its sign, where no heading says it."""
    return cell if cell.missing else replace(cell, text=f"{cell.text}\u00a0%")


def _file_fate(audit: AuditResult) -> str:
    parts = [f"{count(len(audit.quarantined))} quarantined", f"{count(audit.num_ignored)} ignored"]
    return ", ".join(parts) + (", audit interrupted: the counts are partial" if audit.partial else "")


def _quarantine(audit: AuditResult) -> Table:
    none = "not known"
    rows = tuple(
        (
            name_cell(without_roots(q.path), limit=80),
            name_cell(q.label) if q.label is not None else missing(none),
            Cell(q.split) if q.split else missing(none),
            Cell(shown(without_roots(q.reason), 200)),
        )
        for q in audit.quarantined[:LISTED]
    )
    more = len(audit.quarantined) - len(rows)
    notes = (f"{count(more)} more are in the JSON file beside this page.",) if more > 0 else ()
    columns = [Column(title, numeric=False) for title in ("File", "Class", "Split", "Why it was left out")]
    return Table(f"Files left out: {count(len(audit.quarantined))}", tuple(columns), rows, notes)


def strategy_table(strategies: Sequence[Strategy], *, caption: str = "What each strategy does") -> Table:
    """Each strategy as one line; reasons where `plan` gave them."""
    reasons = any(s.reason for s in strategies)
    titles = ["Strategy", "What it does", "Settings", *(["Why"] if reasons else []), "Reference"]
    rows = []
    for s in strategies:
        cells = [name_cell(s.name), Cell(shown(s.summary, 400)), name_cell(str(s).partition(": ")[2], limit=200)]
        cells += [Cell(shown(s.reason, 400)) if s.reason else missing("no reason given")] if reasons else []
        rows.append((*cells, Cell(shown(s.reference, 200)) if s.reference else missing("none named")))
    return Table(caption, tuple(Column(title, numeric=False) for title in titles), tuple(rows))


def settings_section(settings: Mapping[str, Any], environment: Mapping[str, str], *more: Block) -> Section:
    """How it was made: settings, versions, machine."""
    blocks: list[Block] = [*more]
    for caption, values in (("Settings", settings), ("Versions and machine", environment)):
        facts = tuple(Fact(shown(key).replace("_", " "), value_cell(value)) for key, value in values.items())
        blocks += [Facts(facts, caption)] if facts else []
    return Section("settings", "Settings and versions", tuple(blocks))


def definition_section() -> Section:
    """What the words mean."""
    return Section("definitions", "Definitions", (Definitions(definitions()),))
