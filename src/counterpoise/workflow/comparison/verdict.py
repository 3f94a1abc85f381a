"""The verdict of a comparison: which strategy to use, what it gains and what it costs, as text.

The strategy is chosen on validation. The test split measures the gain and the costs of that choice; it never decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from counterpoise.core.artifacts import Arm, Difference, Spread, Verdict
from counterpoise.core.counts import GROUPS
from counterpoise.core.text import metric_name
from counterpoise.metrics import METRICS
from counterpoise.workflow.comparison.statistics import CALIBRATION, RARE_GROUPS, accuracy_drops, best_on_validation
from counterpoise.workflow.comparison.wording import (
    NOTICEABLE,
    joined,
    percent,
    points_of,
    signed_points,
)

NEGLIGIBLE = 0.02
"""Strategies whose difference has an interval within these two points count as equal, not as undecided."""
BETTER_ON_TEST = 0.005
"""The lead on test from which a strategy that was not chosen is named."""
_GROUP_NAMES = {group: f"{group}-shot classes ({held})" for group, held in GROUPS.items()}


def verdict(
    arms: Sequence[Arm],
    differences: Sequence[Difference],
    *,
    baseline: str,
    metric: str = "balanced_accuracy",
    max_accuracy_drop: float | None = None,
    folds: int | None = None,
    min_val_support: int = 20,
) -> Verdict:
    """Choose a strategy by its validation metric and describe gain, costs and uncertainty.

    ``leader`` is the strategy with the highest mean ``metric`` on validation. ``tied`` are the strategies whose
    difference from it on validation has an interval that includes 0. The kinds of a verdict:

    - "clear": no strategy is tied with the leader, which is recommended;
    - "tied": strategies are tied with the leader, but the baseline is not; the leader is recommended;
    - "no-difference": the baseline is tied with the leader, or is it, and the intervals of all tied strategies lie
      within two points of 0; the baseline is recommended, because it is the simplest;
    - "undecided": the baseline is tied with the leader, or is the leader and others are tied with it, and the
      validation split is too small to decide; nothing is recommended. The same if only one strategy finished;
    - "nothing-finished": nothing is recommended.

    Args:
        arms: the strategies with their scores; failed ones are listed with their error.
        differences: as returned by `counterpoise.workflow.comparison.statistics.differences`.
        baseline: name of the strategy that the others are compared with.
        metric: the metric to choose by; higher is better.
        max_accuracy_drop: strategies whose accuracy on validation is more than this many points below the baseline's
            are not recommended; None for no limit.
        folds: the number of folds over which the validation predictions are pooled; None for one validation split.
        min_val_support: classes with fewer validation images are listed, because their recall is uncertain.

    Example:
        >>> verdict([], [], baseline="baseline").headline
        'No strategy finished, so there is nothing to compare. The notes have the error of each run.'
    """
    failed = [failure_note(arm) for arm in arms if arm.status == "failed"]
    dropped = accuracy_drops(arms, baseline=baseline, most=max_accuracy_drop)
    case = _Case.of(arms, differences, baseline=baseline, metric=metric, dropped=dropped, folds=folds)
    if case is None:
        return Verdict(
            "nothing-finished",
            "No strategy finished, so there is nothing to compare. The notes have the error of each run.",
            None,
            notes=tuple(failed),
        )
    return Verdict(
        kind=case.kind,
        headline=_headline(case),
        recommended=None if case.kind == "undecided" else case.chosen,
        tied=case.tied,
        costs=tuple(_costs(case)),
        notes=(*failed, *_excluded(case, max_accuracy_drop), *_notes(case, min_val_support)),
        leader=case.best,
    )


@dataclass(frozen=True)
class _Case:
    """The facts of a verdict: ``best`` leads on validation among those not ``dropped`` for their accuracy."""

    arms: dict[str, Arm]
    differences: dict[tuple[str, str, str, str], Difference]
    baseline: str
    metric: str
    best: str
    chosen: str
    tied: tuple[str, ...]
    kind: Literal["clear", "tied", "undecided", "no-difference"]
    dropped: dict[str, float]
    folds: int | None

    @classmethod
    def of(
        cls,
        arms: Sequence[Arm],
        differences: Sequence[Difference],
        *,
        baseline: str,
        metric: str,
        dropped: dict[str, float],
        folds: int | None,
    ) -> _Case | None:
        best = best_on_validation([arm for arm in arms if arm.strategy.name not in dropped], metric)
        if best is None:
            return None
        done = {arm.strategy.name: arm for arm in arms if arm.status == "done"}
        found = {(d.split, d.metric, d.strategy, d.baseline): d for d in differences}
        draft = cls(done, found, baseline, metric, best, best, (), "clear", dropped, folds)
        tied = tuple(name for name in done if name != best and name not in dropped and draft.is_tied(name))
        return replace(draft, tied=tied)._judged()

    def _judged(self) -> _Case:
        if not self.tied and len(self.arms) > 1:
            return self
        if self.tied and self.baseline not in (self.best, *self.tied):
            return replace(self, kind="tied")
        if self.tied and self._all_equal():
            tied = tuple(name for name in self.arms if name in (self.best, *self.tied) and name != self.baseline)
            return replace(self, chosen=self.baseline, tied=tied, kind="no-difference")
        return replace(self, kind="undecided")

    def _all_equal(self) -> bool:
        """Whether all intervals of the tied strategies lie within two points of 0."""
        pairs = [self.difference("val", self.metric, self.best, name) for name in self.tied]
        ends = [end for d in pairs for end in ((d.low, d.high) if d else (None, None))]
        return all(end is not None and abs(end) <= NEGLIGIBLE for end in ends)

    def is_tied(self, name: str) -> bool:
        """Whether a strategy does not differ significantly from the best on validation."""
        d = self.difference("val", self.metric, self.best, name)
        return d is None or d.low is None or d.high is None or d.low <= 0 <= d.high

    def difference(self, split: str, metric: str, strategy: str, other: str) -> Difference | None:
        """``strategy`` minus ``other``, negated where it was computed the other way round."""
        d = self.differences.get((split, metric, strategy, other))
        if d is not None:
            return d
        d = self.differences.get((split, metric, other, strategy))
        return None if d is None or None in (d.estimate, d.low, d.high) else reversed_difference(d)

    def gain(self, metric: str, name: str | None = None) -> Difference | None:
        """The difference from the baseline on test; None where it is undefined."""
        d = self.difference("test", metric, name or self.chosen, self.baseline)
        return d if d is not None and d.estimate is not None else None

    def mean(self, name: str, metric: str, split: str = "test") -> float | None:
        arm = self.arms.get(name)
        return arm.scores.get(split, {}).get(metric, Spread(None, None, ())).mean if arm else None

    @property
    def word(self) -> str:
        return metric_name(self.metric)

    @property
    def over_folds(self) -> str:
        return "" if self.folds is None else f" over {self.folds} folds"


def reversed_difference(d: Difference) -> Difference:
    """The same difference with the two strategies exchanged."""
    estimate, low, high = (None if value is None else -value for value in (d.estimate, d.high, d.low))
    return replace(d, strategy=d.baseline, baseline=d.strategy, estimate=estimate, low=low, high=high)


def _headline(case: _Case) -> str:
    score = f"{case.word} {percent(case.mean(case.chosen, case.metric))} on test"
    if len(case.arms) == 1:
        return f"Only {case.chosen} finished ({score}), so there is nothing to compare it with."
    if case.kind == "no-difference":
        equal = joined((case.baseline, *case.tied))
        where = f"on validation{case.over_folds}"
        return f"No difference: {equal} are equal {where} to within two points. Keep {case.chosen} ({score})."
    if case.chosen == case.baseline:
        start = "No clear winner. Keep" if case.tied else "Keep"
        return f"{start} {case.chosen}: {score}. {_closest(case)}"
    against = _against_baseline(case, score)
    if not case.tied:
        chosen_over = f", chosen{case.over_folds}" if case.folds else ""
        return f"Use {case.chosen}{chosen_over}: {against}."
    if case.baseline in case.tied:
        return f"No clear winner. {_lead(case)} {case.chosen} has {against}."
    either = joined((case.chosen, *case.tied), "or")
    return (
        f"Use {either}: they do not differ significantly on validation{case.over_folds}. {case.chosen} has {against}."
    )


def _lead(case: _Case) -> str:
    """The best on validation, ahead of a baseline from which it does not differ significantly."""
    first = f"{case.chosen} has the highest validation {case.word}"
    others = [name for name in case.tied if name != case.baseline]
    also = f" The same holds for its lead over {joined(others)}." if others else ""
    d = case.difference("val", case.metric, case.chosen, case.baseline)
    if d is None or d.low is None or d.high is None:
        return f"{first}, but its lead over {case.baseline} has no interval, because too few images differ.{also}"
    lead, interval = (
        points_of(d).partition(" [")[0],
        f"95 % interval {signed_points(d.low)} to {signed_points(d.high)} points",
    )
    return (
        f"{first} ({lead} over {case.baseline}), but with {_validation_images(case)} validation images"
        f"{case.over_folds} its lead is within the noise ({interval}).{also}"
    )


def _validation_images(case: _Case) -> int:
    return next((evaluation.num_images for evaluation in case.arms[case.best].validation), 0)


def _against_baseline(case: _Case, score: str) -> str:
    before, gain = case.mean(case.baseline, case.metric), case.gain(case.metric)
    if before is None:
        return f"{score}; {case.baseline} did not finish, so the gain is unknown"
    by = f", {points_of(gain)}" if gain else ""
    return f"{score} against {percent(before)} for {case.baseline}{by}"


def _closest(case: _Case) -> str:
    """The runner-up on validation, where the baseline is the best."""
    names = [name for name in case.arms if name != case.chosen and name not in case.dropped]
    others = {name: m for name in names if (m := case.mean(name, case.metric, "val")) is not None}
    if not others and case.dropped:
        return "The validation accuracy of every other strategy falls by more than `--max-accuracy-drop` allows."
    if not others:
        return "No other strategy has a score."
    second = max(others, key=lambda name: others[name])
    gain = case.gain(case.metric, second)
    number = f"{percent(case.mean(second, case.metric))}{f', {points_of(gain)}' if gain else ''}"
    if case.tied:
        nearest = f"; the closest is {second}" if len(case.tied) > 1 else ""
        others_tied = f"{joined(case.tied)} on validation{case.over_folds}"
        return f"It does not differ significantly from {others_tied}{nearest} ({number} on test)."
    return f"No strategy is better on validation{case.over_folds}; the closest is {second} ({number} on test)."


def _costs(case: _Case) -> Iterable[str]:
    """Metrics that are worse than the baseline's on test, with intervals that exclude 0."""
    if case.chosen == case.baseline or case.baseline not in case.arms:
        return
    for rare in RARE_GROUPS:
        if line := _false_positives(case, rare):
            yield line
    for group in GROUPS:
        if lost := _significant(case.gain(group), -1):
            yield f"the recall of the {_GROUP_NAMES[group]} falls by {points_of(lost, flip=True)}"
    yield from _lower_averages(case)
    if more := _significant(case.gain(CALIBRATION), +1):
        yield (
            f"the expected calibration error rises from {percent(case.mean(case.baseline, CALIBRATION))} with "
            f"{case.baseline} to {percent(case.mean(case.chosen, CALIBRATION))}, by {points_of(more).lstrip('+')}; "
            "`counterpoise evaluate RUN --tune temperature` can reduce it"
        )


def _lower_averages(case: _Case) -> Iterable[str]:
    for metric in METRICS:
        if metric != case.metric and (lost := _significant(case.gain(metric), -1)):
            yield (
                f"{metric_name(metric)} falls from {percent(case.mean(case.baseline, metric))} to "
                f"{percent(case.mean(case.chosen, metric))}, by {points_of(lost, flip=True)}"
            )


def _false_positives(case: _Case, rare: str) -> str | None:
    metric = f"{rare}_false_positives"
    more = _significant(case.gain(metric), +1)
    if more is None or more.estimate is None:
        return None
    first = case.arms[case.chosen].test[:1]
    others = sum(c.support for e in first for c in e.classes if c.group != rare)
    images, found = round(more.estimate * others), _more_found(case, rare)
    return (
        f"false positives of the {_GROUP_NAMES[rare]} rise from {percent(case.mean(case.baseline, metric))} to "
        f"{percent(case.mean(case.chosen, metric))} of the other classes' images (+{images} images{found})"
    )


def _more_found(case: _Case, rare: str) -> str:
    """How many more images of the rare classes are recognized, in the mean over the seeds."""

    def right(name: str) -> float:
        runs = case.arms[name].test
        return sum(c.true_positives for e in runs for c in e.classes if c.group == rare) / max(1, len(runs))

    more = round(right(case.chosen) - right(case.baseline))
    return f"; {max(0, more) or 'no'} more images of these classes are recognized"


def _significant(d: Difference | None, sign: int) -> Difference | None:
    """The difference if it is noticeable, has this sign, and its interval excludes 0."""
    if d is None or d.estimate is None or sign * d.estimate < NOTICEABLE:
        return None
    end = d.low if sign > 0 else d.high
    return d if end is not None and sign * end > 0 else None


def _excluded(case: _Case, most: float | None) -> Iterable[str]:
    """Which strategies are not recommended because of their accuracy on validation."""
    if most is None:
        return
    if case.mean(case.baseline, "accuracy", "val") is None:
        yield f"`--max-accuracy-drop` was not applied, because {case.baseline} has no accuracy on validation"
    elif case.dropped:
        named = [
            f"{name} ({percent(case.mean(name, 'accuracy', 'val'))}, −{100 * drop:.1f} points)"
            for name, drop in case.dropped.items()
        ]
        yield (
            f"left out, because their validation accuracy is more than {most:g} points below the "
            f"{percent(case.mean(case.baseline, 'accuracy', 'val'))} of {case.baseline}: {joined(named)}; a larger "
            "`--max-accuracy-drop` includes them"
        )


def _notes(case: _Case, min_val_support: int) -> Iterable[str]:
    if case.baseline not in case.arms:
        yield f"{case.baseline} did not finish, so no gain could be computed; fix its error and rerun with `--resume`"
    if case.kind in ("undecided", "tied") and case.tied:
        more = "add validation images, for example with a larger `--val-fraction`, or rerun with `--folds 5` or"
        yield (
            f"{_validation_images(case)} validation images{case.over_folds} are too few to separate {case.best} from "
            f"{joined(case.tied)}; {'add images or rerun with' if case.folds else more} more `--seeds`"
        )
    yield from _contradiction(case)
    if case.folds:
        yield (
            f"every score on test is a mean over the models of {case.folds} folds, each trained without one of them; "
            "a model that is trained on all of these images can be slightly better"
        )
    if max(len(arm.validation) for arm in case.arms.values()) == 1:
        yield (
            "only one seed was run, so the intervals do not include the variation between seeds; rerun with "
            "`--seeds 3` or more"
        )
    yield from _thin_classes(case, min_val_support)


def _contradiction(case: _Case) -> Iterable[str]:
    """Where test and validation disagree. The choice stays, because choosing on test would bias the result."""
    gain = case.gain(case.metric) if case.chosen != case.baseline else None
    if gain and gain.high is not None and gain.high < 0:
        yield (
            f"test contradicts validation: on test {case.chosen} is worse than {case.baseline}, {points_of(gain)}; add "
            "validation images before relying on this choice"
        )
    elif gain and gain.low is not None and gain.low <= 0 and case.baseline not in case.tied:
        yield (
            f"the lead of {case.chosen} over {case.baseline} is not significant on test: {points_of(gain)}; rerun with "
            "more `--seeds` before relying on it"
        )
    means = {name: m for name in case.arms if (m := case.mean(name, case.metric)) is not None}
    top = max(means, key=lambda name: means[name], default=case.chosen)
    if top not in (case.chosen, *case.tied) and means[top] - means.get(case.chosen, 0.0) > BETTER_ON_TEST:
        yield (
            f"{top} has the highest {case.word} on test ({percent(means[top])} against "
            f"{percent(means.get(case.chosen))} for {case.chosen}); the choice stays, because choosing on test would "
            "make the test result too optimistic"
        )


def _thin_classes(case: _Case, min_val_support: int) -> Iterable[str]:
    first = next(iter(case.arms[case.chosen].validation), None)
    if first is None:
        return
    thin = sorted((c for c in first.classes if c.support < min_val_support), key=lambda c: c.support)
    if case.folds:  # a class that is never held out has a note of its own
        thin = [c for c in thin if c.support]
    if not thin:
        return
    named = ", ".join(f"{c.name} ({c.support})" for c in thin[:5]) + (f" and {len(thin) - 5} more" * (len(thin) > 5))
    line = f"wide confidence intervals: classes with fewer than {min_val_support} validation images: {named}"
    one = next((c for c in thin if c.recall_low is not None and c.recall_high is not None), None)
    if one:
        line += (
            f". The 95 % interval of the recall of {one.name} is {100 * (one.recall_low or 0.0):.0f} % to "
            f"{100 * (one.recall_high or 0.0):.0f} %"
        )
    yield f"{line}. Add {'' if case.folds else 'validation '}images of these classes"


def failure_note(arm: Arm) -> str:
    """That a strategy failed, and why."""
    return f"{arm.strategy.name} failed and is not compared: {arm.error or 'no error was recorded'}"
