"""Figures and tables with one mark or row per strategy: differences, trade-off, calibration, training, class tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from counterpoise.core.artifacts import Arm, Comparison, Difference, Spread, TreeScore
from counterpoise.core.text import plural, points
from counterpoise.hierarchy import ClassTree
from counterpoise.workflow.report import charts, page
from counterpoise.workflow.report import formatting as fmt
from counterpoise.workflow.report.collect_classes import ClassSelection, Evaluations, calibration_sum

NO_SCORE = "the strategy failed or this score is not defined"
MAX_DIFFERENCES = 300
WEIGHT_COLUMNS = 6
BOOTSTRAP_OVER = {"images": "images", "images-and-seeds": "images and seeds"}
TRAINING_CURVES = (
    ("val_balanced_accuracy", "Validation balanced accuracy", True),
    ("val_accuracy", "Validation accuracy", True),
    ("loss", "Training loss", False),
    ("val_loss", "Validation loss", False),
    ("learning_rate", "Learning rate", False),
)


def score_of(arm: Arm, split: str, metric: str) -> Spread | None:
    """The score of a strategy over seeds; None if there is none."""
    return arm.scores.get(split, {}).get(metric)


def has_score(arm: Arm, metric: str) -> bool:
    """Whether the strategy has a defined mean score on the test images."""
    spread = score_of(arm, "test", metric)
    return spread is not None and fmt.finite(spread.mean) is not None


def score_cell(spread: Spread | None, reason: str = NO_SCORE, *, strong: bool = False) -> page.Cell:
    """Mean and standard deviation over seeds."""
    if spread is None or fmt.finite(spread.mean) is None:
        return fmt.missing_cell(reason)
    detail = "" if fmt.finite(spread.sd) is None else f"± {fmt.percent_number(spread.sd)}"
    return page.Cell(fmt.percent_number(spread.mean), detail=detail, strong=strong)


def run_names(arm: Arm, runs: int) -> list[str]:
    """The seed of each of the runs of a strategy, with the fold if there are several per seed."""
    folds = max(1, runs // max(1, len(arm.seeds)))
    return [str(seed) if folds == 1 else f"{seed}, fold {fold}" for seed in arm.seeds for fold in range(folds)]


def differences_from_baseline(comparison: Comparison) -> list[Difference]:
    """The differences from the baseline in the main metric on the test images."""
    keys = (comparison.metric, "test", comparison.baseline)
    return [d for d in comparison.differences if (d.metric, d.split, d.baseline) == keys]


def interval_text(d: Difference) -> str:
    """The interval in percentage points, or nothing if there is none."""
    return (
        f"[{points(d.low)}, {points(d.high)}]"
        if fmt.finite(d.low) is not None and fmt.finite(d.high) is not None
        else ""
    )


def _strategy_cell(series: page.Series) -> page.Cell:
    return page.Cell(fmt.one_line(series.name), series=series)


def differences_figure(comparison: Comparison, series: dict[str, page.Series]) -> page.Figure | None:
    """A forest plot of the differences from the baseline on the test images; None if there is none."""
    caption = "Each strategy minus the baseline on the test images, which were not used for the selection. If the "
    caption += "interval includes 0, the difference is within the noise."
    figure = _forest_plot(differences_from_baseline(comparison), series, id="differences", caption=caption)
    return figure and replace(
        figure, title="Difference from the baseline (test)", table=_differences_table(comparison, series)
    )


def selection_figure(comparison: Comparison, series: dict[str, page.Series]) -> page.Figure | None:
    """A forest plot of the differences from the leader on the validation images; None if there is none."""
    leader = comparison.verdict.leader or comparison.verdict.selected or comparison.baseline
    keys = (comparison.metric, "val", leader)
    found = [d for d in comparison.differences if (d.metric, d.split, d.baseline) == keys]
    caption = (
        f"Each strategy minus {fmt.one_line(leader)}, the best on the validation images, which select the strategy. "
        "If the interval includes 0, the difference is within the noise. "
    )
    if comparison.folds is None:
        caption += (
            "More validation images (`--val-fraction` or `--folds`) or more seeds (`--seeds`) narrow the intervals."
        )
    else:
        caption += f"The validation images are those of {comparison.folds} folds. More images narrow the intervals."
    figure = _forest_plot(found, series, id="selection", caption=caption, dashed=True)
    return figure and replace(figure, title="Difference from the best strategy on validation")


def _forest_plot(
    differences: Sequence[Difference], series: dict[str, page.Series], *, id: str, caption: str, dashed: bool = False
) -> page.Figure | None:
    found = [d for d in differences if fmt.finite(d.estimate) is not None and d.strategy in series]
    if not found:
        return None
    rows = [
        {
            "strategy": d.strategy,
            "estimate": d.estimate,
            "low": d.estimate if fmt.finite(d.low) is None else d.low,
            "high": d.estimate if fmt.finite(d.high) is None else d.high,
            "formatted": f"{points(d.estimate)} {interval_text(d)}".strip(),
            "method": BOOTSTRAP_OVER[d.method],
        }
        for d in found
    ]
    metric, other = fmt.metric_title(found[0].metric), fmt.one_line(found[0].baseline)
    values = "; ".join(f"{row['strategy']} {row['formatted']}" for row in rows)
    text = fmt.one_line(f"{metric} minus that of {other}, in percentage points: {values}.", 1200)
    present = [series[d.strategy] for d in found]
    title = f"{metric} (points)"  # short enough for a narrow screen
    chart = partial(charts.differences_chart, rows, present, text, title=title, dashed=dashed)
    return page.Figure(id, "", caption, text, (page.Variant("", chart),))


def _differences_table(comparison: Comparison, series: dict[str, page.Series]) -> page.Table:
    none = "not defined for one of the two"
    rows = tuple(
        (
            page.Cell(fmt.one_line(d.strategy), series=series.get(d.strategy)),
            page.Cell(fmt.one_line(d.baseline)),
            page.Cell(fmt.metric_title(d.metric)),
            page.Cell(fmt.SPLIT_NAMES.get(d.split, d.split)),
            fmt.missing_cell(none) if fmt.finite(d.estimate) is None else page.Cell(points(d.estimate)),
            page.Cell(interval_text(d)) if interval_text(d) else fmt.missing_cell(none),
            fmt.missing_cell("one seed, or not defined")
            if fmt.finite(d.seed_sd) is None
            else page.Cell(fmt.percent_number(d.seed_sd)),
            page.Cell(BOOTSTRAP_OVER[d.method]),
        )
        for d in comparison.differences[:MAX_DIFFERENCES]
    )
    numbers = map(page.Column, ("Difference", "Interval", "Standard deviation over seeds"))
    columns = (
        *page.text_columns("Strategy", "Minus", "Metric", "Split"),
        *numbers,
        *page.text_columns("Bootstrap over"),
    )
    more = len(comparison.differences) - len(rows)
    notes = (f"{more:,} more differences are {fmt.JSON_EXPORT}.",) if more > 0 else ()
    return page.Table("All differences (percentage points)", columns, rows, notes, folded=True)


def tradeoff_figure(comparison: Comparison, series: Sequence[page.Series]) -> page.Figure | None:
    """Recall of frequent vs. rare classes; None unless at least two groups have classes."""
    arms = {arm.strategy.name: arm for arm in comparison.arms}
    groups = [g for g in ("many", "medium", "few") if any(has_score(arms[s.name], g) for s in series)]
    if len(groups) < 2:
        return None
    frequent, rare = groups[0], groups[-1]
    rows: list[page.Row] = []
    means, body = [], []
    for s in series:
        arm = arms[s.name]
        x, y = score_of(arm, "test", frequent), score_of(arm, "test", rare)
        if x is None or y is None or not (has_score(arm, frequent) and has_score(arm, rare)):
            continue
        means.append({"strategy": s.name, "seed": "mean", "frequent": x.mean, "rare": y.mean})
        seeds = zip(run_names(arm, len(x.values)), x.values, y.values, strict=False)
        rows += [{"strategy": s.name, "seed": str(seed), "frequent": a, "rare": b} for seed, a, b in seeds]
        body.append((_strategy_cell(s), score_cell(x), score_cell(y)))
    titles = [fmt.metric_title(frequent), fmt.metric_title(rare)]
    text = f"{titles[1]} against {titles[0].lower()} of every strategy and seed."
    chart = partial(charts.tradeoff_chart, rows, means, series, text, frequent=titles[0], rare=titles[1])
    caption = "Up: better on rare classes; left: worse on frequent ones. Large marks are means over seeds, small marks "
    caption += "single seeds."
    columns = (
        *page.text_columns("Strategy"),
        *(page.Column(*fmt.METRIC_DEFINITIONS[group]) for group in (frequent, rare)),
    )
    return page.Figure(
        "tradeoff",
        "Recall of frequent classes vs. recall of rare classes",
        caption,
        text,
        (page.Variant("", chart),),
        series=tuple(series),
        table=page.Table("Mean recall on the test images (%)", columns, tuple(body), folded=True),
    )


def calibration_figure(
    evaluations: Evaluations, series: Sequence[page.Series], baseline: str | None = None
) -> page.Figure | None:
    """A reliability diagram of the first strategy and the baseline, and of others on request; None without bins."""
    rows, body = [], []
    for s in series:
        bins = calibration_sum(evaluations[s.name])
        total = sum(b.count for b in bins)
        for b in bins:
            if not b.count:
                continue
            span = f"{fmt.percent_number(b.low, 0)} to {fmt.percent_number(b.high, 0)}\u00a0%"
            row = {"strategy": s.name, "confidence": b.confidence, "accuracy": b.accuracy, "count": b.count}
            rows.append({**row, "share": b.count / total, "range": span})
            cells = (
                page.Cell(span),
                fmt.number_cell(b.count),
                fmt.percent_cell(b.confidence, ""),
                fmt.percent_cell(b.accuracy, ""),
            )
            body.append((_strategy_cell(s), *cells))
    if not rows:
        return None
    text = "Accuracy against confidence (the highest predicted probability). On the diagonal the two are equal."
    titles = ("Confidence bin", "Predictions", "Mean confidence (%)", "Accuracy (%)")
    return page.Figure(
        "calibration",
        "Calibration (reliability diagram)",
        "Below the diagonal the model is overconfident: its confidence is higher than its accuracy. Large marks stand "
        "for many predictions. To correct the confidence, use `counterpoise evaluate RUN --tune temperature`.",
        text,
        tuple(_calibration_variants(rows, series, baseline, text)),
        "Strategies",
        series=tuple(series) if len(series) > 1 else (),
        table=page.Table(
            "Confidence bins (all seeds)",
            (*page.text_columns("Strategy"), *map(page.Column, titles)),
            tuple(body),
            folded=True,
        ),
    )


def _calibration_variants(
    rows: Sequence[page.Row], series: Sequence[page.Series], baseline: str | None, text: str
) -> list[page.Variant]:
    """Each strategy with the baseline, the first strategy first, and all; one variant if there are at most two."""
    reference = [s for s in series if s.name == baseline]
    others = [s for s in series if s.name != baseline]
    if not reference or len(series) <= 2:
        return [page.Variant("", partial(charts.calibration_chart, rows, series, text))]
    variants = []
    for s in others:
        pair = (s, *reference)
        names = {one.name for one in pair}
        shown = [row for row in rows if row["strategy"] in names]
        chart = partial(charts.calibration_chart, shown, pair, text)
        variants.append(page.Variant(f"{fmt.one_line(s.name)} and {fmt.one_line(reference[0].name)}", chart, pair))
    return [*variants, page.Variant("all strategies", partial(charts.calibration_chart, rows, series, text))]


def training_figure(comparison: Comparison, series: Sequence[page.Series]) -> page.Figure | None:
    """Training curves, a variant per recorded quantity; None if nothing was recorded."""
    arms = {arm.strategy.name: arm for arm in comparison.arms}
    trained = tuple(s for s in series if arms[s.name].history and not arms[s.name].strategy.reuses)
    variants = []
    for key, title, is_share in TRAINING_CURVES:
        rows = [row for s in trained for row in _training_rows(arms[s.name], key)]
        if rows:
            text = f"{title} by epoch, one line per strategy and seed."
            chart = partial(charts.training_chart, rows, trained, text, title=title, is_share=is_share)
            variants.append(page.Variant(title, chart))
    if not variants:
        return None
    caption = "One line per seed; the mark is the last epoch. Strategies that reuse the model of another strategy are "
    caption += "not trained and have no curve."
    text = "Training curves of every strategy and seed."
    return page.Figure("training", "Training curves", caption, text, tuple(variants), "Quantity", series=trained)


def _training_rows(arm: Arm, key: str) -> list[page.Row]:
    rows: list[page.Row] = []
    for seed, epochs in zip(run_names(arm, len(arm.history)), arm.history, strict=False):
        defined = [e for e in epochs if fmt.finite(e.get("epoch")) is not None and fmt.finite(e.get(key)) is not None]
        shared = {"strategy": arm.strategy.name, "seed": str(seed)}
        rows += [{**shared, "epoch": e["epoch"], "value": e[key], "last": e is defined[-1]} for e in defined]
    return rows


def weight_tables(comparison: Comparison, classes: ClassSelection) -> list[page.Table]:
    """The class weights in some epochs of every strategy that changes them during training."""
    return [_weight_table(arm, classes) for arm in comparison.arms if arm.weights and all(arm.weights)]


def _weight_table(arm: Arm, classes: ClassSelection) -> page.Table:
    shortest = min(map(len, arm.weights))  # with early stopping the seeds differ
    mean = np.mean(np.array([epochs[:shortest] for epochs in arm.weights]), axis=0)  # (epochs, C)
    epochs = np.unique(np.linspace(0, len(mean) - 1, num=WEIGHT_COLUMNS).round().astype(int))
    selected = zip(classes.ids, classes.cells, strict=True)
    rows = tuple((cell, *(page.Cell(f"{mean[epoch, c]:.2f}") for epoch in epochs)) for c, cell in selected)
    columns = (*page.text_columns("Class"), *(page.Column(f"Epoch {epoch + 1}") for epoch in epochs))
    note = f"Mean over {plural(len(arm.weights), 'training')}. The weights average 1 over all classes."
    return page.Table(f"Class weights of {fmt.one_line(arm.strategy.name)} during training", columns, rows, (note,))


NOT_REACHED = "no test image reaches it"


def tree_section(comparison: Comparison, series: Mapping[str, page.Series]) -> page.Section:
    """Errors by level and node of the class tree, of the hierarchical, baseline and selected strategies."""
    always = (comparison.baseline, comparison.verdict.selected)
    scores = [
        (series[arm.strategy.name], arm, arm.by_tree)
        for arm in comparison.arms
        if arm.by_tree is not None and (arm.strategy.name in always or arm.strategy.head == "hierarchical")
    ]
    if not scores:
        return page.Section("tree", "Class tree", ())
    text = (
        "A class tree replaces one classification among many classes by a small classification at each inner node. An "
        "error is counted at the node where the prediction leaves the path of the true class, and not below it."
    )
    return page.Section(
        "tree", "Class tree", (page.Paragraph(text), _level_table(scores), _node_table(scores, comparison))
    )


_Scores = Sequence[tuple[page.Series, Arm, TreeScore]]


def _level_table(scores: _Scores) -> page.Table:
    levels = range(1, 1 + max(len(score.level_error) for _, _, score in scores))
    columns = (
        *page.text_columns("Strategy"),
        page.Column(
            "Hierarchical F1", "Common ancestors of labels and predictions, relative to all of their ancestors."
        ),
        *(
            page.Column(f"Error at level {i}", "Of the images that are correct down to the level above.")
            for i in levels
        ),
        *(page.Column(f"Correct to level {i}") for i in levels),
        page.Column("Tree distance of errors", "Mean number of edges between label and prediction, over the errors."),
    )
    rows = []
    for s, _, score in scores:
        shares = (
            fmt.percent_cell(value, NOT_REACHED) for value in (score.f1, *score.level_error, *score.level_accuracy)
        )
        edges = fmt.finite(score.tree_distance)
        distance = fmt.missing_cell("no errors") if edges is None else page.Cell(f"{edges:.2f}")
        rows.append((_strategy_cell(s), *shares, distance))
    note = (
        "Percentages of the test images of all seeds whose class reaches the level. An error at a level is relative to "
        "the images that are correct so far; the tree distance is measured over errors only."
    )
    return page.Table("Errors by level", columns, tuple(rows), (note,))


def _node_table(scores: _Scores, comparison: Comparison) -> page.Table:
    tree = ClassTree.from_dict(comparison.tree)
    nodes = {node.name: i for i, node in enumerate(scores[0][2].nodes)}
    train = {c.name: c.train for c in comparison.audit.classes}
    members: dict[int, list[str]] = {}
    for name, leaf in zip(tree.classes, tree.leaves.tolist(), strict=True):
        for node in tree.ancestors(leaf).tolist():
            members.setdefault(node, []).append(name)
    rows, stack = [], [0]
    while stack:  # depth first
        node = stack.pop()
        stack += reversed(tree.children(node).tolist())
        name = tree.names[node]
        if name in nodes:
            i = nodes[name]
            label = ", ".join(members.get(node, ())) if name.startswith("#") else name or "all classes"
            images = scores[0][2].nodes[i].train
            errors = [(score.nodes[i].wrong, score.nodes[i].reached) for _, _, score in scores]
        else:
            label, images = name, train[name]
            errors = [_class_errors(arm, name) for _, arm, _ in scores]
        cell = fmt.name_cell(label)
        shares = (
            fmt.percent_cell(wrong / reached if reached else None, NOT_REACHED, detail=f"{wrong:,} of {reached:,}")
            for wrong, reached in errors
        )
        indent = "\u2003" * int(tree.depth[node])
        rows.append((replace(cell, text=indent + cell.text), fmt.number_cell(images), *shares))
    columns = (
        *page.text_columns("Node"),
        page.Column("Training images"),
        *(page.Column(f"Errors: {s.name}", "Of the test images that reach it correctly.") for s, _, _ in scores),
    )
    note = (
        "Nodes are indented below their parent; each inner node is a classification among its children, and one "
        "without a name is listed by its classes. The row of a class counts all of its test images that are "
        "misclassified, at whichever node."
    )
    return page.Table("Errors by node (%)", columns, tuple(rows), (note,))


def _class_errors(arm: Arm, name: str) -> tuple[int, int]:
    """Misclassified and all test images of a class, over all seeds."""
    scores = [c for evaluation in arm.test for c in evaluation.classes if c.name == name]
    return sum(c.support - c.true_positives for c in scores), sum(c.support for c in scores)
