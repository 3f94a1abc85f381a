"""The report page of a comparison: verdict, table of results, and the sections in reading order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from counterpoise.core.artifacts import Arm, Comparison, Evaluation
from counterpoise.core.counts import MANY
from counterpoise.core.text import plural, points
from counterpoise.workflow.report import collect_classes, collect_strategies, page
from counterpoise.workflow.report import formatting as fmt
from counterpoise.workflow.report.collect_classes import ClassSelection
from counterpoise.workflow.report.collect_single import (
    code_section,
    dataset_section,
    definitions_section,
    imbalance_ratio_cell,
    model_fact,
    settings_section,
    strategy_table,
)
from counterpoise.workflow.report.collect_strategies import has_score, score_cell, score_of
from counterpoise.workflow.report.pictures import Thumbnailer
from counterpoise.workflow.report.theme import series_of

MAX_STRATEGIES = 8
MAX_NAMES = 12
VERDICT_LABELS: dict[str, tuple[str, page.Tone]] = {
    "clear": ("Clear result", "good"),
    "tied": ("Several equally good", "good"),
    "undecided": ("Inconclusive", "neutral"),
    "no-difference": ("Equivalent", "neutral"),
    "nothing-finished": ("Failed", "bad"),
}
GROUP_METRICS = ("many", "medium", "few", "few_false_positives")
BOOTSTRAP_METHODS = {
    "images": "resamples the test images of each class and compares means over the seeds. It does not include the "
    "variation between seeds; from 5 seeds on (`--seeds 5`) it does",
    "images-and-seeds": "resamples the seeds and the test images of each class",
}
OVERFIT = ("overfit", "memorised")
"""The kinds of the finding that a class is overfit; files of version 0.1 have the second one."""
FINDING_NAMES = {
    "never-predicted": "never predicted",
    "absent-class": "no images",
    "constant": "the only predicted class",
}


def comparison_page(
    comparison: Comparison, mistakes: page.Section | None = None, thumbnails: Thumbnailer | None = None
) -> page.Page:
    """The page of a comparison, with the section of mistakes in pictures and thumbnails of the data."""
    series = series_of([arm.strategy.name for arm in comparison.arms], comparison.baseline)
    selected = [series[name] for name in _strategies_in_figures(comparison)]
    audit = comparison.audit
    classes = collect_classes.select_classes([c.name for c in audit.classes], [c.train for c in audit.classes])
    strategies = strategy_table([arm.strategy for arm in comparison.arms])
    sections = (
        _results_section(comparison, series),
        _classes_section(comparison, selected, classes),
        _overfitting_section(comparison, selected, classes),
        _confusion_section(comparison, selected, classes),
        *((mistakes,) if mistakes else ()),
        collect_strategies.tree_section(comparison, series),
        _training_section(comparison, selected, classes),
        dataset_section(audit, thumbnails),
        settings_section(comparison.settings, comparison.environment, strategies, *_chosen_tables(comparison)),
        _code_section(comparison),
        definitions_section(),
    )
    seeds = f"{plural(len(comparison.seeds), 'seed')}{'' if len(comparison.seeds) == 1 else ' each'}"
    trained = "of which only the last layer was trained on frozen features" if _is_frozen(comparison) else "trained"
    subtitle = (
        f"{plural(len(comparison.arms), 'strategy', 'strategies')} with {seeds}, {trained} with the same budget, "
        f"selected on validation images{'' if comparison.folds is None else f' over {comparison.folds} folds'} and "
        f"compared on {plural(audit.splits.get('test', 0), 'test image')}"
    )
    return page.Page(
        kind="Comparison",
        title=fmt.one_line(audit.name, 80),
        subtitle=subtitle,
        intro=(_headline(comparison), page.Facts(_facts(comparison), wide=True)),
        sections=tuple(section for section in sections if section.blocks),
    )


def _is_frozen(comparison: Comparison) -> bool:
    return bool(comparison.settings.get("frozen"))


def _strategies_in_figures(comparison: Comparison) -> list[str]:
    """At most eight finished strategies: the baseline, the selected one, and the best ones on validation."""
    done = [arm for arm in comparison.arms if arm.status == "done" and arm.test]
    always = (comparison.baseline, comparison.verdict.selected)

    def rank(arm: Arm) -> tuple[bool, float]:
        spread = score_of(arm, "val", comparison.metric)
        score = fmt.finite(spread.mean) if spread else None
        return arm.strategy.name not in always, 1.0 if score is None else -score

    kept = {arm.strategy.name for arm in sorted(done, key=rank)[:MAX_STRATEGIES]}
    return [arm.strategy.name for arm in done if arm.strategy.name in kept]


def _headline(comparison: Comparison) -> page.Headline:
    verdict = comparison.verdict
    names = {arm.strategy.name for arm in comparison.arms}

    def whole(text: str) -> str:
        """With a capital, unless it starts with the name of a strategy, and a full stop."""
        line = fmt.clean_message(text)
        line = line if line.split(" ")[0].strip(",:") in names else line[:1].upper() + line[1:]
        return line if line.endswith((".", "!", "?", "…")) else f"{line}."

    label, tone = VERDICT_LABELS[verdict.kind]
    errors = [
        f"the audit found an error in the data: {finding.reason}"
        for finding in comparison.audit.findings
        if finding.severity == "error"
    ]
    steps = [verdict.next_step] if verdict.next_step else []
    texts = (verdict.costs, (*errors, *verdict.notes, *steps))
    trade_offs, notes = (tuple(map(whole, lines)) for lines in texts)
    return page.Headline(label, tone, fmt.clean_message(verdict.headline), trade_offs, notes)


def _facts(comparison: Comparison) -> tuple[tuple[str, page.Cell], ...]:
    audit, settings = comparison.audit, comparison.settings
    seconds = sum(s for arm in comparison.arms for s in arm.seconds if fmt.finite(s) is not None)
    return (
        ("Classes", fmt.number_cell(len(audit.classes))),
        ("Training images", fmt.number_cell(audit.splits.get("train", 0))),
        ("Imbalance ratio", imbalance_ratio_cell(audit)),
        *((model_fact(settings),) if "model" in settings else ()),
        *((("Epochs", fmt.value_cell(settings["epochs"])),) if "epochs" in settings else ()),
        _time_fact(comparison, seconds),
    )


def _chosen_tables(comparison: Comparison) -> list[page.Table]:
    """Learning rate and weight decay of every strategy on frozen features; nothing if they were not chosen."""
    rows = []
    for arm in comparison.arms:
        chosen = dict.fromkeys((run["learning_rate"], run["weight_decay"]) for run in arm.selected)
        if chosen:
            cells = (page.Cell(", ".join(f"{pair[i]:g}" for pair in chosen)) for i in (0, 1))
            rows.append((page.Cell(fmt.one_line(arm.strategy.name)), *cells))
    if not rows:
        return []
    columns = (*page.text_columns("Strategy"), page.Column("Learning rate"), page.Column("Weight decay"))
    over = " Several values are those of the folds." if comparison.folds is not None else ""
    note = f"Every strategy chose from the same pairs, on training images that were held out for this.{over}"
    return [page.Table("Learning rate and weight decay that were chosen", columns, tuple(rows), (note,))]


def _time_fact(comparison: Comparison, training: float) -> tuple[str, page.Cell]:
    """The wall time, with that of all trainings, which may run at the same time; the latter alone if it is unknown."""
    if comparison.seconds is None:
        return "Training time (sum over strategies and seeds)", page.Cell(fmt.duration(training))
    detail = f"all trainings together: {fmt.duration(training)}"
    return "Time in all (wall time)", page.Cell(fmt.duration(comparison.seconds), detail=detail)


def _results_section(comparison: Comparison, series: dict[str, page.Series]) -> page.Section:
    return page.Section.of(
        "results",
        "Results",
        _results_table(comparison, series),
        collect_strategies.differences_figure(comparison, series),
        collect_strategies.selection_figure(comparison, series),
    )


def _results_table(comparison: Comparison, series: dict[str, page.Series]) -> page.Table:
    """One row per strategy, in the order of the arms."""
    title, definition = fmt.METRIC_DEFINITIONS.get(comparison.metric, (fmt.metric_title(comparison.metric), ""))
    metrics = _other_metrics(comparison)
    columns = (
        *page.text_columns("Strategy"),
        page.Column(f"{title} (validation)", definition),
        page.Column(f"{title} (test)", definition),
        page.Column(
            "Difference from baseline", "In percentage points on the test images, with its confidence interval."
        ),
        *(page.Column(*fmt.METRIC_DEFINITIONS[m]) for m in metrics),
        page.Column("Time per seed", "Mean time for training and evaluating one seed.")
        if comparison.folds is None
        else page.Column("Time per training", "Mean time for training and evaluating one seed and fold."),
    )
    selected = comparison.verdict.selected
    rows = tuple(_result_row(comparison, arm, series[arm.strategy.name], metrics) for arm in comparison.arms)
    highlighted = frozenset(i for i, arm in enumerate(comparison.arms) if arm.strategy.name == selected)
    return page.Table("Strategies compared", columns, rows, _result_notes(comparison), highlighted=highlighted)


def _other_metrics(comparison: Comparison) -> list[str]:
    """The metrics besides the main one; only groups that have classes, and false positives of the rarest of them."""

    def is_defined(metric: str) -> bool:
        return any(has_score(arm, metric) for arm in comparison.arms)

    rarest = "few" if is_defined("few_false_positives") or not is_defined("medium_false_positives") else "medium"
    candidates = ["balanced_accuracy", "accuracy", "macro_f1", "many", "medium", "few", f"{rarest}_false_positives"]
    candidates = [m for m in (*candidates, "expected_calibration_error") if m != comparison.metric]
    return [m for m in candidates if m not in GROUP_METRICS or is_defined(m)]


def _result_row(comparison: Comparison, arm: Arm, series: page.Series, metrics: Sequence[str]) -> tuple[page.Cell, ...]:
    name, metric, verdict = arm.strategy.name, comparison.metric, comparison.verdict
    failed = arm.status == "failed"
    reason = f"{name} failed" if failed else collect_strategies.NO_SCORE
    state = "failed" if failed else "baseline" if name == comparison.baseline != "baseline" else ""
    if name == verdict.selected and not failed:
        state = "best on validation" if verdict.kind == "undecided" else "recommended"
    seconds = collect_classes.mean(arm.seconds)
    reasons = {m: "no class is in this group" if m in GROUP_METRICS and not failed else reason for m in metrics}
    return (
        page.Cell(fmt.one_line(name), series=series, detail=state, strong=name == verdict.selected),
        score_cell(score_of(arm, "val", metric), reason),
        score_cell(score_of(arm, "test", metric), reason, strong=True),
        _difference_cell(comparison, arm),
        *(score_cell(score_of(arm, "test", m), reasons[m]) for m in metrics),
        fmt.missing_cell("not recorded") if seconds is None else page.Cell(fmt.duration(seconds)),
    )


def _difference_cell(comparison: Comparison, arm: Arm) -> page.Cell:
    if arm.strategy.name == comparison.baseline:
        return fmt.missing_cell("the baseline itself")
    differences = collect_strategies.differences_from_baseline(comparison)
    found = next((d for d in differences if d.strategy == arm.strategy.name), None)
    if found is None or fmt.finite(found.estimate) is None:
        return fmt.missing_cell("no difference, because one of the two strategies failed")
    return page.Cell(points(found.estimate), detail=collect_strategies.interval_text(found))


def _result_notes(comparison: Comparison) -> tuple[str, ...]:
    over = "± is the standard deviation over the seeds."
    if len(comparison.seeds) == 1:
        over = "The standard deviation over seeds is unknown; use at least 3 seeds (`--seeds 3`)."
    notes = [f"Scores are percentages on the test images, except for the validation column. {over}"]
    if comparison.folds is not None:
        notes.append(
            f"The images of train and val were divided into {comparison.folds} folds, and every strategy was trained "
            f"{comparison.folds} times per seed, each time without one fold. The validation score of a seed is that of "
            "the held-out images of all folds together. A score on test is the mean over the models of all seeds and "
            "folds, and its ± is the standard deviation over these models."
        )
    differences = collect_strategies.differences_from_baseline(comparison)
    for method, level, n in dict.fromkeys((d.method, d.confidence, d.resamples) for d in differences):
        resamples = f" ({n:,} resamples)" if n else ""
        notes.append(
            f"The {100 * level:g}\u00a0% confidence intervals come from a paired bootstrap{resamples} that "
            f"{BOOTSTRAP_METHODS[method]}. For classes with few images the interval is widened."
        )
    for arm in comparison.arms:
        if arm.status == "failed":
            error = fmt.clean_message(arm.error or "no reason was recorded", 400).rstrip(".")
            notes.append(
                f"{fmt.one_line(arm.strategy.name)} failed: {error}. Then run `counterpoise compare` with `--resume`."
            )
    return tuple(notes)


def _evaluations(comparison: Comparison, split: str) -> dict[str, Sequence[Evaluation]]:
    return {arm.strategy.name: arm.test if split == "test" else arm.validation for arm in comparison.arms}


def _classes_section(comparison: Comparison, selected: Sequence[page.Series], classes: ClassSelection) -> page.Section:
    if not selected:
        return page.Section("classes", "Per-class results", ())
    sizes = [c.train for c in comparison.audit.classes]
    omitted = sum(arm.status == "done" for arm in comparison.arms) - len(selected)
    note = (
        f"Figures show {len(selected)} strategies: the baseline, the selected strategy and those with the best "
        f"validation score. {omitted} more are in the table above."
    )
    none = "There is no figure of frequent vs. rare classes, because all classes are in the same group (many-shot, "
    none += "medium-shot or few-shot)."
    return page.Section.of(
        "classes",
        "Per-class results",
        page.Paragraph(note) if omitted > 0 else None,
        collect_classes.recall_figure(_evaluations(comparison, "test"), classes, selected, sizes=sizes),
        collect_strategies.tradeoff_figure(comparison, selected) or page.Paragraph(none),
    )


def _overfitting_section(
    comparison: Comparison, selected: Sequence[page.Series], classes: ClassSelection
) -> page.Section:
    if not selected:
        return page.Section("overfitting", "Overfitting", ())
    note = (
        f"Listed are classes with at most {MANY} training images that have a high training recall and a significantly "
        "lower recall on new images. Against overfitting, use milder class weights or augmentation of rare classes: "
        "`--strategies sqrt-weighted-ce,minority-augment`."
    )
    table = _findings_table(comparison, selected, caption="Overfit classes", overfit=True, note=note)
    sizes = [c.train for c in comparison.audit.classes]
    order = _selected_first(comparison, selected)
    figure = collect_classes.gap_figure(_evaluations(comparison, "val"), classes, order, sizes=sizes)
    return page.Section.of(
        "overfitting",
        "Overfitting",
        table or page.Paragraph(f"No class with at most {MANY} training images is overfit."),
        figure or page.Paragraph("The recall on the training images was not measured."),
    )


def _selected_first(comparison: Comparison, selected: Sequence[page.Series]) -> list[page.Series]:
    return sorted(selected, key=lambda s: s.name != comparison.verdict.selected)


def _confusion_section(
    comparison: Comparison, selected: Sequence[page.Series], classes: ClassSelection
) -> page.Section:
    series = _selected_first(comparison, selected)
    figure = collect_classes.confusion_figure(_evaluations(comparison, "test"), classes, series)
    none = page.Paragraph("The evaluations contain no confusion matrix.") if selected else None
    return page.Section.of("confusions", "Confusion matrix", figure or none)


def _training_section(comparison: Comparison, selected: Sequence[page.Series], classes: ClassSelection) -> page.Section:
    note = (
        "A class that is never predicted has recall 0 and an undefined precision. Strategies that favour rare classes "
        "can help, for example `--strategies logit-adjusted,class-balanced-sampling`."
    )
    return page.Section.of(
        "models",
        "Calibration and training",
        collect_strategies.calibration_figure(
            _evaluations(comparison, "test"), _selected_first(comparison, selected), comparison.baseline
        ),
        collect_strategies.training_figure(comparison, selected),
        *collect_strategies.weight_tables(comparison, classes),
        _findings_table(comparison, selected, caption="Other findings", overfit=False, note=note),
    )


def _findings_table(
    comparison: Comparison, selected: Sequence[page.Series], *, caption: str, overfit: bool, note: str
) -> page.Table | None:
    """The findings of the evaluations, one row per strategy and kind of finding; None if there are none."""
    series = {s.name: s for s in selected}
    rows = []
    for arm in comparison.arms:
        kinds = dict.fromkeys(f.kind for e in (*arm.validation, *arm.test) for f in e.findings)
        for kind in kinds:
            if (kind in OVERFIT) is overfit:
                cells = [page.Cell(fmt.one_line(arm.strategy.name), series=series.get(arm.strategy.name))]
                cells += [] if overfit else [page.Cell(FINDING_NAMES.get(kind, fmt.one_line(kind.replace("-", " "))))]
                cells += [page.Cell(_classes_found(e, kind), is_name=True) for e in (arm.validation, arm.test)]
                rows.append(tuple(cells))
    if not rows:
        return None
    titles = ("Strategy", *(() if overfit else ("Finding",)), "On validation images", "On test images")
    several = any(len(arm.test) > 1 for arm in comparison.arms)
    models = "seeds" if comparison.folds is None else "seeds (on validation) or models (on test)"
    notes = (note, *((f"In brackets: the number of {models} with this finding.",) if several else ()))
    return page.Table(caption, page.text_columns(*titles), tuple(rows), notes)


def _classes_found(evaluations: Sequence[Evaluation], kind: str) -> str:
    """The classes that findings of this kind name, with the number of seeds that name them."""
    found = [f for e in evaluations for f in e.findings if f.kind == kind]
    seeds = Counter(name for f in found for name in dict.fromkeys(f.about or (fmt.clean_message(f.reason, 200),)))
    several = len(evaluations) > 1
    names = [
        fmt.one_line(name) + (f" ({n}/{len(evaluations)})" if several else "")
        for name, n in seeds.most_common(MAX_NAMES)
    ]
    names += [f"{len(seeds) - MAX_NAMES} more"] if len(seeds) > MAX_NAMES else []
    return ", ".join(names) or "none"


def _code_section(comparison: Comparison) -> page.Section:
    read = 'from counterpoise.core.artifacts import Comparison\n\ncomparison = Comparison.load("comparison.json")\n'
    codes = [
        page.Code("Table of results", read + _SCORES.format(metric=comparison.metric)),
        page.Code("Differences with their intervals", read + _DIFFERENCES),
    ]
    done = [arm for arm in comparison.arms if arm.status == "done" and arm.directories]
    done.sort(key=lambda arm: arm.strategy.name != comparison.verdict.selected)
    if done:
        path = f"{_run_folder(done[0].directories[0])}/predictions-test.npz"
        codes.append(page.Code("Scores from the predictions, with scikit-learn", _PREDICTIONS.format(path=path)))
    intro = page.Paragraph(
        "Run this code in the folder of this page. All numbers of the page are in `comparison.json`."
    )
    return code_section(intro, *codes)


def _run_folder(path: str) -> str:
    """The folder of a run relative to the page; of an absolute path the last two components."""
    if fmt.without_absolute_paths(path) == path:
        return path.rstrip("/")
    return "/".join(path.replace("\\", "/").rstrip("/").split("/")[-2:])


_SCORES = """\
for arm in comparison.arms:
    if arm.status == "done":
        score = arm.scores["test"]["{metric}"]
        print(arm.strategy.name, score.mean, score.sd, score.values)
"""
_DIFFERENCES = """\
for d in comparison.differences:
    print(d.strategy, d.split, d.metric, d.estimate, d.low, d.high, d.method)
"""
_PREDICTIONS = """\
import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

saved = np.load({path!r}, allow_pickle=False)
labels, predicted = saved["labels"], saved["logits"].argmax(1)
print(balanced_accuracy_score(labels, predicted), accuracy_score(labels, predicted))
print(f1_score(labels, predicted, labels=np.unique(labels), average="macro"))
print(confusion_matrix(labels, predicted, labels=range(len(saved["classes"]))))
"""
