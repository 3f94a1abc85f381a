"""Finetuning after a comparison on frozen features: what is trained further, and what the verdict says about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

from counterpoise.core.artifacts import Arm, Comparison, Difference, Strategy, Verdict
from counterpoise.core.errors import ArgumentError
from counterpoise.core.text import metric_name
from counterpoise.workflow.comparison.runs import Experiment
from counterpoise.workflow.comparison.verdict import failure_note, reversed_difference, verdict
from counterpoise.workflow.comparison.wording import percent, points_of
from counterpoise.workflow.training import ProgressReport, Settings
from counterpoise.workflow.training.frozen.finetune import SUFFIX, finetune_settings, finetuned


def further_settings(settings: Settings, folds: int | None, *, finetune: bool, epochs: int | None) -> Settings | None:
    """The settings of the finetuning after a comparison; None for none."""
    if not finetune and epochs is not None:
        raise ArgumentError("`finetune_epochs` needs `finetune` (--finetune); leave it out")
    if not finetune:
        return None
    if folds is not None:
        raise ArgumentError(
            "`finetune` and `folds` exclude each other, because every fold would be finetuned by itself; compare with "
            "`folds` to choose, and train the strategy that was chosen with `train`"
        )
    return finetune_settings(settings, epochs)


def finetune_best(
    comparison: Comparison, experiment: Experiment, jobs: int | None, report: ProgressReport
) -> Comparison:
    """The comparison with the selected strategy and the baseline trained further, if the experiment asks for it."""
    strategies = [] if experiment.further is None else _strategies(comparison)
    if not strategies:
        return comparison
    tuning, results = experiment.finetuning(strategies), experiment.results
    baseline, metric, most = comparison.baseline, comparison.metric, comparison.max_accuracy_drop
    runs = tuning.run_all(jobs, report, metric)
    arms = (*comparison.arms, *(results.arm(strategy, runs[strategy.name]) for strategy in strategies))
    found = [*comparison.differences, *results.differences(arms, baseline=baseline, metric=metric, most=most)]
    candidates = _candidates(comparison, arms)
    for part in (candidates, *(combinations(candidates, 2) if len(candidates) > 2 else ())):
        found += results.differences(part, baseline=part[-1].strategy.name, metric=metric, most=most)
    unique = {(d.split, d.metric, d.strategy, d.baseline): d for d in found}
    differences = tuple(unique.values())
    judged = finetuned_verdict(
        comparison.verdict, candidates, differences, baseline=baseline, metric=metric, max_accuracy_drop=most
    )
    return replace(comparison, arms=arms, differences=differences, verdict=judged)


def _strategies(comparison: Comparison) -> list[Strategy]:
    """The baseline as a control and the selected strategy, after the one whose model it reuses; by their new names."""
    done = {arm.strategy.name: arm.strategy for arm in comparison.arms if arm.status == "done"}
    selected = done.get(str(comparison.verdict.selected))
    if selected is None:
        return []
    names = dict.fromkeys((comparison.baseline, str(selected.reuses), selected.name))
    return [finetuned(done[name]) for name in names if name in done]


def _candidates(comparison: Comparison, arms: Sequence[Arm]) -> list[Arm]:
    """Those of all arms among which finetuning decides: the selected one, its finetuned model, the finetuned baseline.

    The finetuned baseline is the last, and the control of the others.
    """
    selected = str(comparison.verdict.selected)
    by_name = {arm.strategy.name: arm for arm in arms}
    names = dict.fromkeys((selected, selected + SUFFIX, comparison.baseline + SUFFIX))
    return [by_name[name] for name in names if name in by_name]


def finetuned_verdict(
    frozen: Verdict,
    arms: Sequence[Arm],
    differences: Sequence[Difference],
    *,
    baseline: str,
    metric: str,
    max_accuracy_drop: float | None,
) -> Verdict:
    """Extend the verdict on frozen features by what finetuning has changed on validation.

    The best on validation among the strategy that was selected, its finetuned model and the finetuned baseline is
    recommended; of equal ones the first. If that is the model with the frozen backbone, only sentences are added.

    Args:
        frozen: the verdict on frozen features.
        arms: the selected strategy and the finetuned ones.
        differences: those between them.
        baseline: the name of the baseline on frozen features.
        metric: the metric to choose by.
        max_accuracy_drop: as in `compare`, against the finetuned baseline.
    """
    selected, control = str(frozen.selected), baseline + SUFFIX
    failures = tuple(failure_note(arm) for arm in arms if arm.status == "failed")
    done = {arm.strategy.name: arm for arm in arms if arm.status == "done"}
    extended = replace(frozen, notes=(*frozen.notes, *failures))
    if len(done) == 1:
        return extended
    judged = verdict(arms, differences, baseline=control, metric=metric, max_accuracy_drop=max_accuracy_drop)
    best = str(judged.leader)
    parts = [_against(selected + SUFFIX, other, done, differences, metric) for other in (selected, control)]
    found = ", and it ".join(part for part in parts if part)
    use = f"The model to use is that of {best}, the best of them on validation"
    use = use if best != selected else "Finetuning has not given a better model"
    compared = [f"On validation, {selected}{SUFFIX} {found}."] if found else []
    headline = " ".join([frozen.headline, *compared, f"{use}."])
    if best == selected:
        return replace(extended, headline=headline)
    tied = tuple(name for name in done if name != best and name in (*judged.tied, judged.recommended))
    kind: Literal["tied", "clear"] = "tied" if tied else "clear"
    return replace(extended, kind=kind, headline=headline, recommended=best, leader=best, tied=tied, costs=judged.costs)


def _against(name: str, other: str, done: dict[str, Arm], differences: Sequence[Difference], metric: str) -> str | None:
    """Whether a finetuned model is better than another one on validation; None where they cannot be compared."""
    if name == other or name not in done or other not in done:
        return None
    found = [d for d in differences if (d.split, d.metric) == ("val", metric)]
    both = (*found, *map(reversed_difference, found))
    d = next((d for d in both if (d.strategy, d.baseline) == (name, other)), None)
    means = [done[key].scores["val"][metric].mean for key in (name, other)]
    change = "does not differ significantly from"
    if d is not None and d.low is not None and d.high is not None and not d.low <= 0 <= d.high:
        change = "is better than" if d.low > 0 else "is worse than"
    by = "" if d is None or d.estimate is None else f", {points_of(d)}"
    score = f"{metric_name(metric)} {percent(means[0])} against {percent(means[1])}{by}"
    return f"{change} {other} ({score})"
