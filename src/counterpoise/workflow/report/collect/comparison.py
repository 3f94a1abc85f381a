"""The main page: strategies compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from counterpoise.core.artifacts import Arm, Comparison
from counterpoise.workflow.report.collect import classes as per_class
from counterpoise.workflow.report.collect import strategies as per_strategy
from counterpoise.workflow.report.collect.by_tree import tree_section
from counterpoise.workflow.report.collect.differences import difference_figure, selection_figure
from counterpoise.workflow.report.collect.pieces import (
    ShownClasses,
    data_section,
    definition_section,
    settings_section,
    shown_classes,
    strategy_table,
)
from counterpoise.workflow.report.collect.python import comparison_section
from counterpoise.workflow.report.collect.said import said_table
from counterpoise.workflow.report.collect.weights import weight_tables
from counterpoise.workflow.report.page import (
    Block,
    Cell,
    Fact,
    Facts,
    Figure,
    Headline,
    Page,
    Prose,
    Section,
    Series,
)
from counterpoise.workflow.report.text import count, duration, missing, number, shown, spaced, value_cell
from counterpoise.workflow.report.theme import series_of

__all__ = ["comparison_page"]

DRAWN = 8
LABELS = {
    "clear": ("Clear", "good"),
    "undecided": ("Undecided", "neutral"),
    "no-difference": ("No difference", "neutral"),
    "nothing-finished": ("Nothing finished", "bad"),
}


def comparison_page(comparison: Comparison, *, images: Sequence[Block] = ()) -> Page:
    """Everything the report of a comparison says, in the order a reader needs it."""
    series = series_of([arm.strategy.name for arm in comparison.arms], comparison.baseline)
    drawn = [series[name] for name in _drawn(comparison)]
    audit = comparison.audit
    classes = shown_classes([c.name for c in audit.classes], [c.train for c in audit.classes])
    sections = [
        _results(comparison, series),
        _per_class(comparison, drawn, classes),
        _memorised(comparison, drawn, classes),
        _confusion(comparison, drawn, classes),
        tree_section(comparison, series),
        _behaviour(comparison, drawn, classes),
        data_section(audit, more=images),
        settings_section(
            comparison.settings, comparison.environment, strategy_table([a.strategy for a in comparison.arms])
        ),
        comparison_section(comparison),
        definition_section(),
    ]
    return Page(
        kind="Comparison",
        title=shown(audit.name, 80),
        subtitle=_subtitle(comparison),
        headline=(_headline(comparison), Facts(_facts(comparison), wide=True)),
        sections=tuple(section for section in sections if section.blocks),
    )


def _drawn(comparison: Comparison) -> list[str]:
    """Finished strategies, at most eight: the baseline, the recommended one, then by their score on validation."""
    done = [arm for arm in comparison.arms if arm.status == "done" and arm.test]
    first = (comparison.baseline, comparison.verdict.recommended)

    def place(arm: Arm) -> tuple[bool, float]:
        spread = arm.scores.get("val", {}).get(comparison.metric)
        score = number(spread.mean) if spread else None
        return arm.strategy.name not in first, -(score if score is not None else -1.0)

    kept = {arm.strategy.name for arm in sorted(done, key=place)[:DRAWN]}
    return [arm.strategy.name for arm in done if arm.strategy.name in kept]


def _subtitle(comparison: Comparison) -> str:
    n, k = len(comparison.arms), len(comparison.seeds)
    images = comparison.audit.splits.get("test", 0)
    return (
        f"{n} strateg{'y' if n == 1 else 'ies'} × {k} seed{'' if k == 1 else 's'} at equal budget; "
        f"chosen on validation, compared on {count(images)} test images"
    )


def _headline(comparison: Comparison) -> Headline:
    verdict = comparison.verdict
    label, tone = LABELS[verdict.kind]
    names = {arm.strategy.name for arm in comparison.arms}
    costs, notes = (tuple(_sentence(t, names) for t in texts) for texts in (verdict.costs, verdict.notes))
    return Headline(label, tone, spaced(shown(verdict.headline, 600)), costs, notes)  # type: ignore[arg-type]


def _sentence(text: str, names: Collection[str]) -> str:
    """With a capital, unless it begins with a strategy's name, and a full stop."""
    line = spaced(shown(text, 600))
    line = line if line.split(" ")[0].strip(",:") in names else line[:1].upper() + line[1:]
    return line if line.endswith((".", "!", "?", "…")) else f"{line}."


def _facts(comparison: Comparison) -> tuple[Fact, ...]:
    audit = comparison.audit
    ratio = number(audit.imbalance_ratio)
    facts = [
        Fact("Classes", Cell(count(len(audit.classes)))),
        Fact("Training images", Cell(count(audit.splits.get("train", 0)))),
        Fact("Imbalance", missing("no training images") if ratio is None else Cell(f"{ratio:.1f} : 1")),
    ]
    for key in ("model", "epochs"):
        if key in comparison.settings:
            facts.append(Fact(key.capitalize(), value_cell(comparison.settings[key])))
    seconds = sum(sum(s for s in arm.seconds if number(s) is not None) for arm in comparison.arms)
    return (*facts, Fact("Time in all", Cell(duration(seconds))))


def _results(comparison: Comparison, series: dict[str, Series]) -> Section:
    figures = (difference_figure(comparison, series), selection_figure(comparison, series))
    blocks: list[Block] = [per_strategy.result_table(comparison, series)]
    blocks += [figure for figure in figures if figure is not None]
    return Section("results", "Results", tuple(blocks))


def _drawn_or_not(figure: Figure | None, otherwise: str) -> list[Block]:
    if figure is not None:
        return [figure]
    return [Prose(otherwise)] if otherwise else []


def _sizes(comparison: Comparison) -> list[int | None]:
    return [c.train for c in comparison.audit.classes]


def _arms(comparison: Comparison) -> dict[str, Arm]:
    return {arm.strategy.name: arm for arm in comparison.arms}


def _per_class(comparison: Comparison, drawn: Sequence[Series], classes: ShownClasses) -> Section:
    blocks: list[Block] = []
    if drawn:
        left = sum(arm.status == "done" for arm in comparison.arms) - len(drawn)
        if left > 0:
            blocks.append(
                Prose(
                    f"Figures show {len(drawn)} strategies: the baseline, the recommended one and those with the best "
                    f"validation score. {left} more are in the table above."
                )
            )
        tests = {name: arm.test for name, arm in _arms(comparison).items()}
        blocks.append(per_class.recall_figure(tests, classes, drawn, sizes=_sizes(comparison)))
        none = "There is no trade-off to draw: all classes are in one group of many, medium or few images."
        blocks += _drawn_or_not(per_strategy.tradeoff_figure(comparison, drawn), none)
    return Section("classes", "Class by class", tuple(blocks))


def _memorised(comparison: Comparison, drawn: Sequence[Series], classes: ShownClasses) -> Section:
    vals = {name: arm.validation for name, arm in _arms(comparison).items()}
    blocks: list[Block] = []
    if drawn:
        series = {s.name: s for s in drawn}
        note = "Classes of up to 100 training images with a high recall on those, whose recall here is surely lower."
        found = said_table(comparison.arms, series, caption="Classes memorised", memorised=True, note=note)
        blocks.append(found or Prose("No class of up to 100 training images was found to be memorised."))
        figure = per_class.gap_figure(vals, classes, _recommended_first(comparison, drawn), sizes=_sizes(comparison))
        blocks += _drawn_or_not(figure, "Recall on the training images was not measured.")
    return Section("memorisation", "Memorised or learned", tuple(blocks))


def _recommended_first(comparison: Comparison, drawn: Sequence[Series]) -> list[Series]:
    return sorted(drawn, key=lambda one: one.name != comparison.verdict.recommended)


def _confusion(comparison: Comparison, drawn: Sequence[Series], classes: ShownClasses) -> Section:
    tests = {name: arm.test for name, arm in _arms(comparison).items()}
    figure = per_class.confusion_figure(tests, classes, _recommended_first(comparison, drawn))
    none = "The evaluations keep no confusion matrix." if drawn else ""
    return Section("confusions", "What is taken for what", tuple(_drawn_or_not(figure, none)))


def _behaviour(comparison: Comparison, drawn: Sequence[Series], classes: ShownClasses) -> Section:
    tests = {name: arm.test for name, arm in _arms(comparison).items()}
    blocks: list[Block] = [
        *_drawn_or_not(per_strategy.calibration_figure(tests, drawn), ""),
        *_drawn_or_not(per_strategy.curve_figure(comparison, drawn), ""),
        *weight_tables(comparison, classes),
    ]
    series, note = {s.name: s for s in drawn}, "A class that is never predicted has recall 0 and no precision."
    other = said_table(comparison.arms, series, caption="What else stands out", memorised=False, note=note)
    blocks += [other] if other is not None else []
    return Section("models", "Calibration and training", tuple(blocks))
