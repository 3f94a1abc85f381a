"""The report pages of a dataset's audit, a run, an evaluation and a list of strategies, and their shared sections."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from counterpoise.core.artifacts import AuditResult, Evaluation, Finding, Run, Strategy
from counterpoise.core.images import LabeledImages
from counterpoise.core.text import percent, plural, ratio
from counterpoise.workflow.report.collect_classes import (
    confusion_figure,
    counts_figure,
    gap_figure,
    recall_figure,
    select_classes,
)
from counterpoise.workflow.report.collect_strategies import calibration_figure
from counterpoise.workflow.report.formatting import (
    GLOSSARY,
    METRICS,
    SPLIT_NAMES,
    duration,
    finite,
    interval_cell,
    missing_cell,
    name_cell,
    number_cell,
    one_line,
    percent_cell,
    sentence,
    value_cell,
    without_absolute_paths,
)
from counterpoise.workflow.report.page import (
    Block,
    Cell,
    Code,
    Column,
    Definitions,
    Facts,
    Findings,
    Headline,
    Images,
    Page,
    Paragraph,
    Section,
    Series,
    Table,
    Tone,
    text_columns,
)

THUMBNAIL_SIZE = 64
MAX_LISTED = 50
SEVERITIES = ("error", "warning", "info")


def audit_page(audit: AuditResult, *, data: LabeledImages | None = None) -> Page:
    """The page of an audit, with thumbnails if the dataset is given."""
    serious = [f for f in audit.findings if f.severity != "info"]
    tone: Tone = "bad" if any(f.severity == "error" for f in serious) else "neutral" if serious else "good"
    verb = "needs" if len(serious) == 1 else "need"
    label = f"{plural(len(serious), 'finding')} {verb} attention" if serious else "No findings need attention"
    notes = ("The audit was interrupted, so the counts are incomplete. Run `counterpoise audit` again.",)
    facts = (
        ("Images", number_cell(audit.num_images)),
        ("Classes", number_cell(len(audit.classes))),
        ("Imbalance ratio", imbalance_ratio_cell(audit)),
        ("Quarantined files", number_cell(len(audit.quarantined))),
    )
    headline = Headline(label, tone, _imbalance_text(audit), notes=notes if audit.partial else ())
    return Page(
        "Audit",
        one_line(audit.name, 80),
        f"{plural(audit.num_files, 'file')} found",
        (headline, Facts(facts, wide=True)),
        (dataset_section(audit, data=data), _load_section("audit", "AuditResult", _AUDIT)),
    )


def imbalance_ratio_cell(audit: AuditResult) -> Cell:
    """The imbalance ratio as 100:1."""
    value = finite(audit.imbalance_ratio)
    return missing_cell("no training images") if value is None else Cell(ratio(value))


def _imbalance_text(audit: AuditResult) -> str:
    if finite(audit.imbalance_ratio) is None:
        return "No class has a training image. Add a folder `train/` or, in a manifest, rows with the split train."
    share = percent(audit.constant_accuracy).replace(" ", "\u00a0")
    return (
        f"A model that always predicts {one_line(audit.constant_class)}, the largest class, has an accuracy of {share} "
        f"on the {SPLIT_NAMES.get(audit.reference_split, audit.reference_split)} images. Judge models by balanced "
        "accuracy."
    )


def dataset_section(audit: AuditResult, *, data: LabeledImages | None = None) -> Section:
    """The size of the dataset, its classes, thumbnails, findings and quarantined files."""
    return Section.of(
        "data",
        "Dataset",
        Facts(_dataset_facts(audit)),
        counts_figure(audit),
        None if data is None else _thumbnails(data),
        _findings(audit.findings, empty="The audit has no findings."),
        _quarantine_table(audit) if audit.quarantined else None,
    )


def _dataset_facts(audit: AuditResult) -> tuple[tuple[str, Cell], ...]:
    split = SPLIT_NAMES.get(audit.reference_split, audit.reference_split)
    where, nothing = f"on the {split} images", f"there are no {split} images"
    splits = ", ".join(f"{n:,} {SPLIT_NAMES.get(name, name)}" for name, n in audit.splits.items())
    groups = ", ".join(f"{len(names):,} {group}-shot" for group, names in audit.groups.items())
    files = f"{len(audit.quarantined):,} quarantined, {audit.num_ignored:,} ignored"
    files += ", counts incomplete because the audit was interrupted" if audit.partial else ""
    always = {
        "Accuracy of always predicting it": audit.constant_accuracy,
        "Balanced accuracy of always predicting it": audit.constant_balanced_accuracy,
    }
    return (
        ("Source", name_cell(without_absolute_paths(audit.source), limit=120)),
        ("Images", replace(number_cell(audit.num_images), detail=splits)),
        ("Classes", replace(number_cell(len(audit.classes)), detail=groups)),
        ("Imbalance ratio", imbalance_ratio_cell(audit)),
        ("Largest class", name_cell(audit.constant_class)),
        *((name, percent_cell(share, nothing, detail=where, sign=True)) for name, share in always.items()),
        ("Files", replace(number_cell(audit.num_files), detail=files)),
    )


def _thumbnails(data: LabeledImages) -> Images | None:
    """The first training image of every class shown, unless it cannot be read."""
    classes = select_classes(data.classes, data.counts("train").counts.tolist())
    training = np.flatnonzero(data.splits == "train")
    thumbnails = []
    for index, cell in zip(classes.ids, classes.cells, strict=True):
        images = training[data.labels[training] == index]
        source = _data_url(data, int(images[0])) if images.size else None
        if source is not None:
            thumbnails.append((cell, source))
    return Images("First training image of each class", tuple(thumbnails)) if thumbnails else None


def _data_url(data: LabeledImages, index: int) -> str | None:
    """The pixels, encoded again, so that no metadata of the file is in the report."""
    from PIL import Image

    try:
        pixels: Any = data[index]
    except Exception:  # a reader may raise anything for a broken file; the audit reports it
        return None
    picture = Image.fromarray(np.asarray(pixels, dtype=np.uint8)).convert("RGB")
    picture.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _findings(items: Iterable[Finding], *, empty: str) -> Findings:
    """Each finding once, sorted by severity, at most fifty."""
    unique = sorted(dict.fromkeys(items), key=lambda f: SEVERITIES.index(f.severity))
    return Findings(tuple(map(_shortened, unique[:MAX_LISTED])), empty, omitted=max(0, len(unique) - MAX_LISTED))


def _shortened(item: Finding) -> Finding:
    """At most eight of the names that the reason does not mention."""
    reason = sentence(item.reason)
    names = (one_line(without_absolute_paths(name)) for name in item.about[:8])
    about = tuple(name for name in names if name not in reason)
    more = (f"{len(item.about) - 8} more",) if about and len(item.about) > 8 else ()
    return replace(item, reason=reason, about=(*about, *more))


def _quarantine_table(audit: AuditResult) -> Table:
    unknown = missing_cell("not known")
    rows = tuple(
        (
            name_cell(without_absolute_paths(q.path), limit=80),
            unknown if q.label is None else name_cell(q.label),
            Cell(SPLIT_NAMES.get(q.split, q.split)) if q.split else unknown,
            Cell(sentence(q.reason, 200)),
        )
        for q in audit.quarantined[:MAX_LISTED]
    )
    more = len(audit.quarantined) - len(rows)
    notes = ["These files are not used. Repair or delete them, then run `counterpoise audit` again."]
    notes += [f"{more:,} more files are in the JSON file beside this page."] if more > 0 else []
    columns = text_columns("File", "Class", "Split", "Reason")
    return Table(f"Quarantined files: {len(audit.quarantined):,}", columns, rows, tuple(notes))


def strategy_table(strategies: Sequence[Strategy], *, caption: str = "Strategies") -> Table:
    """One row per strategy, with the reasons that `plan` gives."""
    reasons = any(s.reason for s in strategies)
    titles = ("Strategy", "Summary", "Configuration", *(("Reason",) if reasons else ()), "Reference")
    rows = []
    for s in strategies:
        cells = [name_cell(s.name), Cell(one_line(s.summary, 400)), name_cell(str(s).partition(": ")[2], limit=200)]
        if reasons:
            cells.append(Cell(one_line(s.reason, 400)) if s.reason else missing_cell("no reason given"))
        rows.append((*cells, Cell(one_line(s.reference, 200)) if s.reference else missing_cell("no reference")))
    return Table(caption, text_columns(*titles), tuple(rows))


def settings_section(settings: Mapping[str, Any], environment: Mapping[str, str], *more: Block) -> Section:
    """Settings, versions and machine."""
    blocks: list[Block] = [*more]
    for caption, values in (("Settings", settings), ("Versions and machine", environment)):
        facts = tuple((one_line(key).replace("_", " "), value_cell(value)) for key, value in values.items())
        blocks += [Facts(facts, caption)] if facts else []
    return Section("settings", "Settings and versions", tuple(blocks))


def definitions_section() -> Section:
    """Metrics and terms with their definitions."""
    return Section("definitions", "Definitions", (Definitions((*METRICS.values(), *GLOSSARY.items())),))


def code_section(*blocks: Paragraph | Code) -> Section:
    """How to read the numbers of the page in Python."""
    return Section("python", "These numbers in Python", blocks)


def _load_section(kind: str, artifact: str, body: str) -> Section:
    load = f'from counterpoise.core.artifacts import {artifact}\n\n{kind} = {artifact}.load("{kind}.json")\n'
    return code_section(Code(f"Read the {kind}", load + body))


_AUDIT = "for c in audit.classes:\n    print(c.name, c.train, c.val, c.test, c.group)\n"
_RUN = "print(run.strategy, run.seed, run.status, run.settings)\n"
_EVALUATION = "for c in evaluation.classes:\n    print(c.name, c.support, c.recall, c.recall_low, c.recall_high)\n"


def run_page(run: Run) -> Page:
    """The page of one training run."""
    tone: Tone = {"done": "good", "failed": "bad", "running": "neutral"}[run.status]  # type: ignore[assignment]
    notes = tuple(map(sentence, run.notes))
    if run.status == "failed":
        notes = ("Fix the cause, then run `counterpoise train` again with `--resume`.", *notes)
    facts = (
        ("Model", value_cell(run.model)),
        ("Seed", Cell(str(run.seed))),
        ("Steps", number_cell(run.steps)),
        ("Training time", Cell(duration(run.seconds))),
        ("Started at step", value_cell(list(run.starts)) if run.starts else missing_cell("never started")),
    )
    settings = {**run.settings, **{f"data: {key}": value for key, value in run.data.items()}}
    sections = (
        Section("classes", "Per-class results", (_train_recall_table(run),) if run.classes else ()),
        settings_section(settings, run.environment, strategy_table([run.strategy], caption="Strategy")),
        _load_section("run", "Run", _RUN),
    )
    text = sentence(run.error) if run.error else one_line(run.strategy.summary, 400)
    return Page(
        "Run",
        f"{one_line(run.strategy.name)}, seed {run.seed}",
        f"{plural(len(run.classes), 'class', 'classes')}, {plural(sum(run.train_counts), 'training image')}",
        (Headline(run.status.capitalize(), tone, text, notes=notes), Facts(facts, wide=True)),
        tuple(section for section in sections if section.blocks),
    )


def _train_recall_table(run: Run) -> Table:
    classes = select_classes(run.classes, run.train_counts)
    recall = dict(enumerate(run.train_recall))
    rows = tuple(
        (cell, number_cell(run.train_counts[i]), percent_cell(recall.get(i), "not measured, or no training image"))
        for i, cell in zip(classes.ids, classes.cells, strict=True)
    )
    columns = (*text_columns("Class"), Column("Training images"), Column("Training recall (%)"))
    return Table("Training images and training recall", columns, rows, classes.notes)


def evaluation_page(evaluation: Evaluation) -> Page:
    """The page of the evaluation of one set of predictions."""
    reason = "not defined for these images"
    metrics = ("balanced_accuracy", "accuracy", "macro_f1", "geometric_mean", "expected_calibration_error")
    shares = {METRICS[metric][0]: getattr(evaluation, metric) for metric in metrics}
    for g in evaluation.groups:
        shares[f"{METRICS[g.group][0]} ({plural(len(g.classes), 'class', 'classes')})"] = g.accuracy
    facts = [("Images", number_cell(evaluation.num_images))]
    facts += [(name, percent_cell(share, reason, sign=True)) for name, share in shares.items()]
    sections = (
        _classes_section(evaluation),
        Section("findings", "Findings", (_findings(evaluation.findings, empty="There are no findings."),)),
        _load_section("evaluation", "Evaluation", _EVALUATION),
        definitions_section(),
    )
    return Page(
        "Evaluation",
        f"Evaluation on {_split_name(evaluation)} images",
        plural(len(evaluation.classes), "class", "classes"),
        (Facts(tuple(facts), wide=True),),
        sections,
    )


def _split_name(evaluation: Evaluation) -> str:
    return SPLIT_NAMES.get(evaluation.split, one_line(evaluation.split))


def _classes_section(evaluation: Evaluation) -> Section:
    if not evaluation.classes:
        return Section("classes", "Per-class results", ())
    scores, series, split = evaluation.classes, [Series("predictions", 1)], _split_name(evaluation)
    sizes = [score.train_count for score in scores]
    order = [score.support if size is None else size for score, size in zip(scores, sizes, strict=True)]
    classes = select_classes([score.name for score in scores], order)
    evaluations = {"predictions": [evaluation]}
    reason = "no image is predicted as this class"
    rows = tuple(
        (cell, interval_cell(s.precision, s.precision_low, s.precision_high, reason), number_cell(s.false_positives))
        for cell, s in ((cell, scores[i]) for i, cell in zip(classes.ids, classes.cells, strict=True))
    )
    columns = (*text_columns("Class"), Column("Precision (%)"), Column("False positives"))
    return Section.of(
        "classes",
        "Per-class results",
        recall_figure(evaluations, classes, series, sizes=sizes, split=split),
        gap_figure(evaluations, classes, series, sizes=sizes, split=split),
        confusion_figure(evaluations, classes, series),
        calibration_figure(evaluations, series),
        Table("Precision per class", columns, rows, classes.notes, folded=True),
    )


def strategies_page(strategies: Sequence[Strategy]) -> Page:
    """The page of strategies, for example those that `plan` advises."""
    subtitle = plural(len(strategies), "strategy", "strategies")
    subtitle += f", {one_line(strategies[0].name)} first" if strategies else ""
    section = Section("strategies", "Strategies and their configuration", (strategy_table(strategies),))
    return Page("Strategies", "Strategies", subtitle, (), (section,))
