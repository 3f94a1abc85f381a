"""The report pages of a dataset's audit, an evaluation and a list of strategies, and their shared sections."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from counterpoise.core.artifacts import AuditResult, Evaluation, Finding, Strategy
from counterpoise.core.text import BALANCED, constant_prediction, imbalance_headline, plural, ratio
from counterpoise.workflow.report import formatting as fmt
from counterpoise.workflow.report import page
from counterpoise.workflow.report.collect_classes import (
    confusion_figure,
    counts_figure,
    gap_figure,
    recall_figure,
    select_classes,
)
from counterpoise.workflow.report.collect_pictures import class_pictures, copies
from counterpoise.workflow.report.collect_strategies import calibration_figure
from counterpoise.workflow.report.pictures import Thumbnailer

MAX_LISTED = 50
MAX_PICTURES = 24
SEVERITIES = ("error", "warning", "info")


def audit_page(audit: AuditResult, thumbnails: Thumbnailer | None = None) -> page.Page:
    """The page of an audit, with pictures if there are thumbnails."""
    serious = [f for f in audit.findings if f.severity != "info"]
    is_imbalanced = not (audit.imbalance_ratio or math.inf) < BALANCED
    tone: page.Tone = "neutral" if serious or is_imbalanced else "good"
    tone = "bad" if any(f.severity == "error" for f in serious) else tone
    notes = ("The audit was interrupted, so the counts are incomplete. Run `counterpoise audit` again.",)
    facts = (
        ("Images", fmt.number_cell(audit.num_images)),
        ("Classes", fmt.number_cell(len(audit.classes))),
        ("Imbalance ratio", imbalance_ratio_cell(audit)),
        ("Quarantined files", fmt.number_cell(len(audit.quarantined))),
    )
    label = imbalance_headline(audit.imbalance_ratio)
    headline = page.Headline(label, tone, _imbalance_text(audit, serious), notes=notes if audit.partial else ())
    return page.Page(
        "Audit",
        fmt.one_line(audit.name, 80),
        f"{plural(audit.num_files, 'file')} found",
        (headline, page.Facts(facts, wide=True)),
        (dataset_section(audit, thumbnails), load_section("audit", "AuditResult", _AUDIT)),
    )


def imbalance_ratio_cell(audit: AuditResult) -> page.Cell:
    """The imbalance ratio as 100:1."""
    value = fmt.finite(audit.imbalance_ratio)
    return fmt.missing_cell("no training images") if value is None else page.Cell(ratio(value))


def _imbalance_text(audit: AuditResult, serious: Sequence[Finding]) -> str:
    """What the imbalance means for the accuracy, and the number of findings that need attention."""
    verb = "needs" if len(serious) == 1 else "need"
    findings = f"{plural(len(serious), 'finding')} {verb} attention" if serious else "No findings need attention"
    if fmt.finite(audit.imbalance_ratio) is None:
        advice = "No class has a training image. Add a folder `train/` or, in a manifest, rows with the split train"
        return f"{advice}. {findings}."
    split = fmt.SPLIT_NAMES.get(audit.reference_split, audit.reference_split)
    scores = (audit.constant_accuracy, audit.constant_balanced_accuracy)
    text = constant_prediction(fmt.one_line(audit.constant_class), *scores, split)
    text = f"{text[0].upper()}{text[1:]}".replace(" %", "\u00a0%")
    return f"{text}. Judge models by balanced accuracy. {findings}."


def dataset_section(audit: AuditResult, thumbnails: Thumbnailer | None = None) -> page.Section:
    """The size of the dataset, its classes, pictures, findings and quarantined files."""
    return page.Section.of(
        "data",
        "Dataset",
        page.Facts(_dataset_facts(audit)),
        counts_figure(audit),
        None if thumbnails is None else class_pictures(audit, thumbnails),
        _findings(audit.findings, fallback="The audit has no findings."),
        None if thumbnails is None else copies(audit, thumbnails),
        _quarantine_table(audit, thumbnails) if audit.quarantined else None,
        None if thumbnails is None else thumbnails.note(),
    )


def _dataset_facts(audit: AuditResult) -> tuple[tuple[str, page.Cell], ...]:
    split = fmt.SPLIT_NAMES.get(audit.reference_split, audit.reference_split)
    where, nothing = f"on the {split} images", f"there are no {split} images"
    splits = ", ".join(f"{n:,} {fmt.SPLIT_NAMES.get(name, name)}" for name, n in audit.splits.items())
    groups = ", ".join(f"{len(names):,} {group}-shot" for group, names in audit.groups.items())
    files = f"{len(audit.quarantined):,} quarantined, {audit.num_ignored:,} ignored"
    files += ", counts incomplete because the audit was interrupted" if audit.partial else ""
    always = {
        "Accuracy of always predicting it": audit.constant_accuracy,
        "Balanced accuracy of always predicting it": audit.constant_balanced_accuracy,
    }
    return (
        ("Source", fmt.name_cell(fmt.without_absolute_paths(audit.source), limit=120)),
        ("Images", replace(fmt.number_cell(audit.num_images), detail=splits)),
        ("Classes", replace(fmt.number_cell(len(audit.classes)), detail=groups)),
        ("Imbalance ratio", imbalance_ratio_cell(audit)),
        ("Largest class", fmt.name_cell(audit.constant_class)),
        *((name, fmt.percent_cell(share, nothing, detail=where, sign=True)) for name, share in always.items()),
        ("Files", replace(fmt.number_cell(audit.num_files), detail=files)),
    )


def _findings(items: Iterable[Finding], *, fallback: str) -> page.Findings:
    """Each finding once, sorted by severity, at most fifty."""
    unique = sorted(dict.fromkeys(items), key=lambda f: SEVERITIES.index(f.severity))
    return page.Findings(
        tuple(map(_shortened, unique[:MAX_LISTED])), fallback, omitted=max(0, len(unique) - MAX_LISTED)
    )


def _shortened(item: Finding) -> Finding:
    """At most eight of the names that the reason does not mention."""
    reason = fmt.clean_message(item.reason)
    subjects = tuple(dict.fromkeys(item.about))
    names = (fmt.one_line(fmt.without_absolute_paths(name)) for name in subjects[:8])
    about = tuple(name for name in names if name not in reason)
    more = (f"{len(subjects) - 8} more",) if about and len(subjects) > 8 else ()
    return replace(item, reason=reason, about=(*about, *more))


def _quarantine_table(audit: AuditResult, thumbnails: Thumbnailer | None) -> page.Table:
    unknown = fmt.missing_cell("not known")
    rows = tuple(
        (
            _quarantined_cell(q.path, thumbnails if i < MAX_PICTURES else None),
            unknown if q.label is None else fmt.name_cell(q.label),
            page.Cell(fmt.SPLIT_NAMES.get(q.split, q.split)) if q.split else unknown,
            page.Cell(fmt.clean_message(q.reason, 200)),
        )
        for i, q in enumerate(audit.quarantined[:MAX_LISTED])
    )
    more = len(audit.quarantined) - len(rows)
    notes = ["These files are not used. Repair or delete them, then run `counterpoise audit` again."]
    notes += [f"{more:,} more files are {fmt.JSON_EXPORT}."] if more > 0 else []
    columns = page.text_columns("File", "Class", "Split", "Reason")
    return page.Table(f"Quarantined files: {len(audit.quarantined):,}", columns, rows, tuple(notes))


def _quarantined_cell(path: str, thumbnails: Thumbnailer | None) -> page.Cell:
    """The path of a quarantined file, with the image if it can be decoded all the same."""
    cell = fmt.path_cell(path, limit=80)
    picture = thumbnails and thumbnails.picture(path, (), f"the image {fmt.one_line(cell.text)}", expected=False)
    return replace(cell, picture=picture) if picture and picture.source else cell


def strategy_table(strategies: Sequence[Strategy], *, caption: str = "Strategies") -> page.Table:
    """One row per strategy, with the reasons that `plan` gives."""
    reasons = any(s.reason for s in strategies)
    titles = ("Strategy", "Summary", "Configuration", *(("Reason",) if reasons else ()), "Reference")
    rows = []
    for s in strategies:
        cells = [
            fmt.name_cell(s.name),
            page.Cell(fmt.one_line(s.summary, 400)),
            fmt.name_cell(str(s).partition(": ")[2], limit=200),
        ]
        if reasons:
            cells.append(page.Cell(fmt.one_line(s.reason, 400)) if s.reason else fmt.missing_cell("no reason given"))
        rows.append(
            (*cells, page.Cell(fmt.one_line(s.reference, 200)) if s.reference else fmt.missing_cell("no reference"))
        )
    return page.Table(caption, page.text_columns(*titles), tuple(rows))


def settings_section(settings: Mapping[str, Any], environment: Mapping[str, str], *more: page.Block) -> page.Section:
    """Settings, versions and machine."""
    blocks: list[page.Block] = [*more]
    for caption, values in (("Settings", _shown_settings(settings)), ("Versions and machine", environment)):
        facts = tuple((fmt.one_line(key).replace("_", " "), fmt.value_cell(value)) for key, value in values.items())
        blocks += [page.Facts(facts, caption)] if facts else []
    return page.Section("settings", "Settings and versions", tuple(blocks))


_OF_NETWORK = ("model", "image_size", "resize", "augment", "pretrained", "precision", "views", "weights")
"""Settings that have no influence on features that were computed elsewhere."""


def _shown_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with a row for each value of the features, and without those that have no influence."""
    features, pairs = settings.get("features"), settings.get("pairs")
    if not isinstance(features, dict):
        return dict(settings)
    omitted = {"features", "pairs", *(_OF_NETWORK if "file" in features else ())}
    shown = {name: value for name, value in settings.items() if name not in omitted}
    if pairs:
        shown["learning rate and weight decay"] = "; ".join(f"{rate:g} and {decay:g}" for rate, decay in pairs)
    return {**shown, **{f"features: {name}": value for name, value in features.items() if name not in shown}}


def model_fact(settings: Mapping[str, Any]) -> tuple[str, page.Cell]:
    """The row of the model in the facts of a page, with whether it is frozen; of features of the user their file."""
    features = settings.get("features")
    if isinstance(features, dict) and "file" in features:
        return "Features (computed elsewhere)", fmt.value_cell(features["file"])
    title = "Model (frozen; only the last layer is trained)" if settings.get("frozen") else "Model"
    return title, fmt.value_cell(settings.get("model"))


def definitions_section() -> page.Section:
    """Metrics and terms with their definitions."""
    return page.Section(
        "definitions", "Definitions", (page.Definitions((*fmt.METRIC_DEFINITIONS.values(), *fmt.GLOSSARY.items())),)
    )


def code_section(*blocks: page.Paragraph | page.Code) -> page.Section:
    """How to read the numbers of the page in Python."""
    return page.Section("python", "These numbers in Python", blocks)


def load_section(kind: str, artifact: str, body: str) -> page.Section:
    """How to read an artifact in Python."""
    load = f'from counterpoise.core.artifacts import {artifact}\n\n{kind} = {artifact}.load("{kind}.json")\n'
    return code_section(page.Code(f"Read the {kind}", load + body))


_AUDIT = "for c in audit.classes:\n    print(c.name, c.train, c.val, c.test, c.group)\n"
_EVALUATION = "for c in evaluation.classes:\n    print(c.name, c.support, c.recall, c.recall_low, c.recall_high)\n"


def evaluation_page(evaluation: Evaluation) -> page.Page:
    """The page of the evaluation of one set of predictions."""
    reason = "not defined for these images"
    names = "balanced_accuracy accuracy macro_f1 geometric_mean worst_recall expected_calibration_error"
    metrics = names.split()
    shares = {fmt.METRIC_DEFINITIONS[metric][0]: getattr(evaluation, metric) for metric in metrics}
    for g in evaluation.groups:
        shares[f"{fmt.METRIC_DEFINITIONS[g.group][0]} ({plural(len(g.classes), 'class', 'classes')})"] = g.accuracy
    facts = [("Images", fmt.number_cell(evaluation.num_images))]
    facts += [(name, fmt.percent_cell(share, reason, sign=True)) for name, share in shares.items()]
    sections = (
        _classes_section(evaluation),
        page.Section("findings", "Findings", (_findings(evaluation.findings, fallback="There are no findings."),)),
        load_section("evaluation", "Evaluation", _EVALUATION),
        definitions_section(),
    )
    return page.Page(
        "Evaluation",
        f"Evaluation on {_split_name(evaluation)} images",
        plural(len(evaluation.classes), "class", "classes"),
        (page.Facts(tuple(facts), wide=True),),
        sections,
    )


def _split_name(evaluation: Evaluation) -> str:
    return fmt.SPLIT_NAMES.get(evaluation.split, fmt.one_line(evaluation.split))


def _classes_section(evaluation: Evaluation) -> page.Section:
    if not evaluation.classes:
        return page.Section("classes", "Per-class results", ())
    scores, series, split = evaluation.classes, [page.Series("predictions", 1)], _split_name(evaluation)
    sizes = [score.train_count for score in scores]
    order = [score.support if size is None else size for score, size in zip(scores, sizes, strict=True)]
    classes = select_classes([score.name for score in scores], order)
    evaluations = {"predictions": [evaluation]}
    reason = "no image is predicted as this class"
    rows = tuple(
        (
            cell,
            fmt.interval_cell(s.precision, s.precision_low, s.precision_high, reason),
            fmt.number_cell(s.false_positives),
        )
        for cell, s in ((cell, scores[i]) for i, cell in zip(classes.ids, classes.cells, strict=True))
    )
    columns = (*page.text_columns("Class"), page.Column("Precision (%)"), page.Column("False positives"))
    return page.Section.of(
        "classes",
        "Per-class results",
        recall_figure(evaluations, classes, series, sizes=sizes, split=split),
        gap_figure(evaluations, classes, series, sizes=sizes, split=split),
        confusion_figure(evaluations, classes, series),
        calibration_figure(evaluations, series),
        page.Table("Precision per class", columns, rows, classes.notes, folded=True),
    )


def strategies_page(strategies: Sequence[Strategy]) -> page.Page:
    """The page of strategies, for example those that `plan` advises."""
    subtitle = plural(len(strategies), "strategy", "strategies")
    subtitle += f", {fmt.one_line(strategies[0].name)} first" if strategies else ""
    section = page.Section("strategies", "Strategies and their configuration", (strategy_table(strategies),))
    return page.Page("Strategies", "Strategies", subtitle, (), (section,))
