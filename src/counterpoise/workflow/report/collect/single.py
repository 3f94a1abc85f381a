"""The smaller pages: a dataset's audit, one run, one evaluation, a list of strategies."""

from __future__ import annotations

from collections.abc import Sequence

from counterpoise.core.artifacts import AuditResult, Evaluation, Run, Strategy
from counterpoise.workflow.report.collect import classes as per_class
from counterpoise.workflow.report.collect import strategies as per_strategy
from counterpoise.workflow.report.collect.metrics import METRICS
from counterpoise.workflow.report.collect.pieces import (
    data_section,
    definition_section,
    findings,
    interval,
    rate,
    settings_section,
    shown_classes,
    strategy_table,
    unit,
)
from counterpoise.workflow.report.collect.python import artifact_section
from counterpoise.workflow.report.page import (
    Block,
    Cell,
    Column,
    Fact,
    Facts,
    Headline,
    Page,
    Section,
    Series,
    Table,
)
from counterpoise.workflow.report.text import (
    count,
    duration,
    missing,
    name_cell,
    number,
    shown,
    value_cell,
    without_roots,
)

__all__ = ["audit_page", "evaluation_page", "run_page", "strategies_page"]


def audit_page(audit: AuditResult, *, images: Sequence[Block] = ()) -> Page:
    """Facts about a dataset."""
    worst = [f for f in audit.findings if f.severity != "info"]
    words = f"{len(worst)} finding{'' if len(worst) == 1 else 's'} to look at" if worst else "Nothing to look at"
    tone = "bad" if any(f.severity == "error" for f in worst) else "neutral" if worst else "good"
    ratio = number(audit.imbalance_ratio)
    facts = (
        Fact("Images", Cell(count(audit.num_images))),
        Fact("Classes", Cell(count(len(audit.classes)))),
        Fact("Imbalance", missing("no training images") if ratio is None else Cell(f"{ratio:.1f} : 1")),
        Fact("Files left out", Cell(count(len(audit.quarantined)))),
    )
    partial = (
        ("The audit was interrupted; the counts are those of the files seen until then.",) if audit.partial else ()
    )
    text = _imbalance_in_words(audit)
    code = artifact_section("audit", _AUDIT)
    return Page(
        "Audit",
        shown(audit.name, 80),
        f"{count(audit.num_files)} files found",
        (Headline(words, tone, text, notes=partial), Facts(facts, wide=True)),  # type: ignore[arg-type]
        (data_section(audit, more=images), code),
    )


def _imbalance_in_words(audit: AuditResult) -> str:
    if number(audit.imbalance_ratio) is None:
        return "No class has a training image."
    always = rate(audit.constant_accuracy, "").text
    name = shown(audit.constant_class)
    return f"Always answering {name} is right for {always}\u00a0% of the {audit.reference_split} images."


def run_page(run: Run) -> Page:
    """One training of one strategy."""
    tone = {"done": "good", "failed": "bad", "running": "neutral"}[run.status]
    text = shown(without_roots(run.error), 600) if run.error else shown(run.strategy.summary, 400)
    facts = (
        Fact("Model", value_cell(run.model)),
        Fact("Seed", Cell(str(run.seed))),
        Fact("Steps", Cell(count(run.steps))),
        Fact("Time", Cell(duration(run.seconds))),
        Fact("Starts", value_cell([str(step) for step in run.starts]) if run.starts else missing("never started")),
    )
    sections = (
        Section("classes", "Class by class", (_train_recall(run),) if run.classes else ()),
        settings_section(
            {**run.settings, **{f"data: {key}": value for key, value in run.data.items()}},
            run.environment,
            strategy_table([run.strategy], caption="The strategy"),
        ),
        artifact_section("run", _RUN),
    )
    return Page(
        "Run",
        f"{shown(run.strategy.name)}, seed {run.seed}",
        f"{len(run.classes)} classes, {count(sum(run.train_counts))} training images",
        (Headline(run.status.capitalize(), tone, text), Facts(facts, wide=True)),  # type: ignore[arg-type]
        tuple(section for section in sections if section.blocks),
    )


def _train_recall(run: Run) -> Table:
    kept = shown_classes(run.classes, run.train_counts)
    rows = tuple(
        (
            cell,
            Cell(count(run.train_counts[i])),
            rate(run.train_recall[i] if i < len(run.train_recall) else None, "not measured, or no training image"),
        )
        for i, cell in zip(kept.ids, kept.cells, strict=True)
    )
    columns = (Column("Class", numeric=False), Column("Training images"), Column("Recall on them, %"))
    return Table("Training images and recall on them", columns, rows, (kept.note,) if kept.note else ())


def evaluation_page(evaluation: Evaluation) -> Page:
    """Every number about one set of predictions."""
    none = "not defined for these images"
    facts = [Fact("Images", Cell(count(evaluation.num_images)))]
    for metric in ("balanced_accuracy", "accuracy", "macro_f1", "geometric_mean", "expected_calibration_error"):
        title, about = METRICS[metric]
        facts.append(Fact(title, unit(rate(getattr(evaluation, metric), none)), about))
    facts += [
        Fact(f"{g.group.capitalize()} ({len(g.classes)} classes)", unit(rate(g.accuracy, none)))
        for g in evaluation.groups
    ]
    sections = (
        Section("classes", "Class by class", _evaluated(evaluation)),
        Section("findings", "Findings", (findings(evaluation.findings, empty="Nothing to report."),)),
        artifact_section("evaluation", _EVALUATION),
        definition_section(),
    )
    title = f"Evaluation on {shown(evaluation.split)}"
    return Page("Evaluation", title, f"{len(evaluation.classes)} classes", (Facts(tuple(facts), wide=True),), sections)


def _evaluated(evaluation: Evaluation) -> tuple[Block, ...]:
    if not evaluation.classes:
        return ()
    one = Series("predictions", 1)
    sizes = [score.train_count for score in evaluation.classes]
    by = [score.support if size is None else size for score, size in zip(evaluation.classes, sizes, strict=True)]
    kept = shown_classes([score.name for score in evaluation.classes], by)
    mine = {one.name: [evaluation]}
    split = {"val": "validation"}.get(evaluation.split, shown(evaluation.split))
    figures = (
        per_class.recall_figure(mine, kept, [one], sizes=sizes, split=split),
        per_class.gap_figure(mine, kept, [one], sizes=sizes, split=split),
        per_class.confusion_figure(mine, kept, [one]),
        per_strategy.calibration_figure(mine, [one]),
    )
    none = "no image was given to this class"
    rows = tuple(
        (cell, interval(s.precision, s.precision_low, s.precision_high, none), Cell(count(s.false_positives)))
        for cell, s in ((c, evaluation.classes[i]) for i, c in zip(kept.ids, kept.cells, strict=True))
    )
    columns = (Column("Class", numeric=False), Column("Precision"), Column("False positives"))
    table = Table("Precision per class, %", columns, rows, (kept.note,) if kept.note else (), folded=True)
    return (*(figure for figure in figures if figure is not None), table)


def strategies_page(strategies: Sequence[Strategy]) -> Page:
    """Strategies as a table, with the reasons of `plan` where it gave them."""
    table = strategy_table(strategies)
    first = name_cell(strategies[0].name).text if strategies else ""
    subtitle = f"{len(strategies)} in all, {first} first" if strategies else "None"
    return Page("Strategies", "Strategies", subtitle, (), (Section("strategies", "What each does", (table,)),))


_AUDIT = """\
from counterpoise.core.artifacts import AuditResult

audit = AuditResult.load("audit.json")
for c in audit.classes:
    print(c.name, c.train, c.val, c.test, c.group)
"""
_RUN = """\
from counterpoise.core.artifacts import Run

run = Run.load("run.json")
print(run.strategy, run.seed, run.status, run.settings)
"""
_EVALUATION = """\
from counterpoise.core.artifacts import Evaluation

evaluation = Evaluation.load("evaluation.json")
for c in evaluation.classes:
    print(c.name, c.support, c.recall, c.recall_low, c.recall_high)
"""
