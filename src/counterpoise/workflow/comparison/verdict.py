"""verdict: the comparison in plain words. A function of numbers; nothing is measured here.

The choice is made on validation. The test split says what it brought and what it cost, and is never chosen by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from counterpoise.core.artifacts import Arm, Difference, Spread, Verdict
from counterpoise.workflow.comparison.statistics import best_on_validation

__all__ = ["verdict"]

NEGLIGIBLE = 0.02
"""Two points: strategies whose difference is surely smaller count as equal, not as undecided."""
NOTICEABLE = 0.0005
"""Costs that would read as 0.0 points are left out."""
WORSE_CALIBRATION = 0.005
GROUPS = {
    "many": "many-shot classes (more than 100 training images)",
    "medium": "medium-shot classes (20 to 100 training images)",
    "few": "few-shot classes (fewer than 20 training images)",
}


def verdict(
    arms: Sequence[Arm],
    differences: Sequence[Difference],
    *,
    baseline: str,
    metric: str = "balanced_accuracy",
    min_val_support: int = 20,
) -> Verdict:
    """Say which strategy to use, what it brings on test, what it costs, and how sure that is.

    ``recommended`` has the highest mean ``metric`` on validation. ``tied`` are the strategies whose difference from it
    on validation has an interval that includes 0. The kinds:

    - "clear": none is tied with it;
    - "no-difference": the baseline is tied with it (or is it), and all intervals of what is tied lie within two
      points of 0; then the baseline is recommended, being the simplest;
    - "undecided": some are tied with it, and validation is too small to say more;
    - "nothing-finished".

    Args:
        arms: with their scores; those that failed are named with their error.
        differences: what `counterpoise.workflow.comparison.statistics.differences` gives.
        baseline: name of the arm that the others are measured against.
        metric: the one to choose by; higher is better.
        min_val_support: classes with fewer validation images are named: their recall is known only roughly.

    Example:
        >>> verdict([], [], baseline="baseline").headline
        'No strategy finished, so there is nothing to compare.'
    """
    failed = [_failure(arm) for arm in arms if arm.status == "failed"]
    case = _Case.of(arms, differences, baseline=baseline, metric=metric)
    if case is None:
        return Verdict(
            "nothing-finished", "No strategy finished, so there is nothing to compare.", None, notes=tuple(failed)
        )
    return Verdict(
        kind=case.kind,
        headline=_headline(case),
        recommended=case.chosen,
        tied=case.tied,
        costs=tuple(_costs(case)),
        notes=(*failed, *_notes(case, min_val_support)),
    )


@dataclass(frozen=True)
class _Case:
    """What the sentences are about. ``best`` has the highest validation mean; ``chosen`` is recommended."""

    arms: dict[str, Arm]
    differences: dict[tuple[str, str, str, str], Difference]
    baseline: str
    metric: str
    best: str
    chosen: str
    tied: tuple[str, ...]
    kind: Literal["clear", "undecided", "no-difference"]

    @classmethod
    def of(cls, arms: Sequence[Arm], differences: Sequence[Difference], *, baseline: str, metric: str) -> _Case | None:
        best = best_on_validation(arms, metric)
        if best is None:
            return None
        done = {arm.strategy.name: arm for arm in arms if arm.status == "done"}
        found = {(d.split, d.metric, d.strategy, d.baseline): d for d in differences}
        draft = cls(done, found, baseline, metric, best, best, (), "clear")
        tied = tuple(name for name in done if name != best and draft.is_tied(name))
        return replace(draft, tied=tied)._judged()

    def _judged(self) -> _Case:
        if not self.tied and len(self.arms) > 1:
            return self
        if self.baseline in (self.best, *self.tied) and self.tied and self._all_equal():
            tied = tuple(name for name in self.arms if name in (self.best, *self.tied) and name != self.baseline)
            return replace(self, chosen=self.baseline, tied=tied, kind="no-difference")
        return replace(self, kind="undecided")

    def _all_equal(self) -> bool:
        """The best and what is tied with it surely differ by less than two points."""
        pairs = [self.difference("val", self.metric, self.best, name) for name in self.tied]
        ends = [end for d in pairs for end in ((d.low, d.high) if d else (None, None))]
        return all(end is not None and abs(end) <= NEGLIGIBLE for end in ends)

    def is_tied(self, name: str) -> bool:
        """Validation does not tell it from the best: the interval includes 0, or there is none."""
        d = self.difference("val", self.metric, self.best, name)
        return d is None or d.low is None or d.high is None or d.low <= 0 <= d.high

    def difference(self, split: str, metric: str, strategy: str, other: str) -> Difference | None:
        """``strategy`` minus ``other``, whichever way round it was computed."""
        d = self.differences.get((split, metric, strategy, other))
        if d is not None:
            return d
        d = self.differences.get((split, metric, other, strategy))
        if d is None or d.estimate is None or d.low is None or d.high is None:
            return None
        return replace(d, strategy=strategy, baseline=other, estimate=-d.estimate, low=-d.high, high=-d.low)

    def gain(self, metric: str, name: str | None = None) -> Difference | None:
        """On test, against the baseline; None where there is no number."""
        d = self.difference("test", metric, name or self.chosen, self.baseline)
        return d if d is not None and d.estimate is not None else None

    def mean(self, name: str, metric: str, split: str = "test") -> float | None:
        arm = self.arms.get(name)
        return arm.scores.get(split, {}).get(metric, Spread(None, None, ())).mean if arm else None

    @property
    def word(self) -> str:
        return {"macro_f1": "macro F1"}.get(self.metric, self.metric.replace("_", " "))


def _headline(case: _Case) -> str:
    here = f"{case.word} {_percent(case.mean(case.chosen, case.metric))} on test"
    if len(case.arms) == 1:
        return f"Only {case.chosen} finished ({here}), so there is nothing to compare it with."
    if case.kind == "no-difference":
        equal = f"{_list((case.baseline, *case.tied))} are equal on validation"
        return f"No difference: {equal}, to within two points; keep {case.chosen} ({here})."
    if case.chosen == case.baseline:
        start = "Undecided, keep" if case.tied else "Keep"
        return f"{start} {case.chosen}: {here}; {_closest(case)}."
    against = _against_baseline(case, here)
    if not case.tied:
        return f"Use {case.chosen}: {against}."
    if case.baseline in case.tied:
        d = case.difference("val", case.metric, case.chosen, case.baseline)
        lead = f"; its lead on {case.baseline} there is {_points(d)}" if d else ""
        return (
            f"Undecided: {case.chosen} is ahead on validation, but validation cannot tell it from {_list(case.tied)}"
            f"{lead}. It has {against}."
        )
    either = _list((case.chosen, *case.tied), "or")
    return f"Use {either}, which validation cannot tell apart. {case.chosen}: {against}."


def _against_baseline(case: _Case, here: str) -> str:
    before, gain = case.mean(case.baseline, case.metric), case.gain(case.metric)
    if before is None:
        return f"{here}; there is no finished {case.baseline} to measure it against"
    by = f", {_points(gain)}" if gain else ""
    return f"{here} against {_percent(before)} for {case.baseline}{by}"


def _closest(case: _Case) -> str:
    """About the runner-up on validation, where the baseline is the best."""
    others = {n: m for n in case.arms if n != case.chosen and (m := case.mean(n, case.metric, "val")) is not None}
    if not others:
        return "no other strategy has a score"
    second = max(others, key=lambda name: others[name])
    gain = case.gain(case.metric, second)
    number = f"{_percent(case.mean(second, case.metric))}{f', {_points(gain)}' if gain else ''}"
    if case.tied:
        nearest = f", the nearest of them {second}" if len(case.tied) > 1 else ""
        return f"validation cannot tell it from {_list(case.tied)}{nearest} ({number} on test)"
    return f"no strategy is better on validation, the nearest is {second} ({number} on test)"


def _costs(case: _Case) -> Iterable[str]:
    """What the recommended strategy makes worse on test than the baseline, where the interval excludes 0."""
    if case.chosen == case.baseline or case.baseline not in case.arms:
        return
    rare = next((g for g in ("few", "medium") if case.mean(case.chosen, g) is not None), None)
    head = next((g for g in ("many", "medium") if case.mean(case.chosen, g) is not None and g != rare), None)
    if rare and (line := _false_positives(case, rare)):
        yield line
    if head and (lost := _surely(case.gain(head), -1)):
        yield f"recall of the {GROUPS[head]} falls by {_points(lost, flip=True)}"
    for metric, word in (("accuracy", "accuracy"), ("macro_f1", "macro F1")):
        if metric != case.metric and (lost := _surely(case.gain(metric), -1)):
            yield (
                f"{word} falls from {_percent(case.mean(case.baseline, metric))} to "
                f"{_percent(case.mean(case.chosen, metric))}, by {_points(lost, flip=True)}"
            )
    error = "expected_calibration_error"
    before, after = case.mean(case.baseline, error), case.mean(case.chosen, error)
    if before is not None and after is not None and after - before > WORSE_CALIBRATION:
        yield (
            "calibration is worse: how sure it is differs from how often it is right by "
            f"{_percent(after)} on average, {_percent(before)} with {case.baseline}"
        )


def _false_positives(case: _Case, rare: str) -> str | None:
    metric = f"{rare}_false_positives"
    more = _surely(case.gain(metric), +1)
    if more is None or more.estimate is None:
        return None
    first = case.arms[case.chosen].test[:1]
    others = sum(c.support for e in first for c in e.classes if c.group != rare)
    images, found = round(more.estimate * others), _more_found(case, rare)
    return (
        f"false positives on the {GROUPS[rare]} rise from {_percent(case.mean(case.baseline, metric))} to "
        f"{_percent(case.mean(case.chosen, metric))} of the other classes' images (+{images} images{found})"
    )


def _more_found(case: _Case, rare: str) -> str:
    """How many more rare images are recognised in return, in the mean over seeds."""

    def right(name: str) -> float:
        runs = case.arms[name].test
        return sum(c.true_positives for e in runs for c in e.classes if c.group == rare) / max(1, len(runs))

    more = round(right(case.chosen) - right(case.baseline))
    return f"; {more} more of their own images are found" if more > 0 else "; no more of their own images are found"


def _surely(d: Difference | None, sign: int) -> Difference | None:
    """The difference where it is noticeable, of this sign, and its interval agrees."""
    if d is None or d.estimate is None or sign * d.estimate < NOTICEABLE:
        return None
    end = d.low if sign > 0 else d.high
    return d if end is not None and sign * end > 0 else None


def _notes(case: _Case, min_val_support: int) -> Iterable[str]:
    if case.baseline not in case.arms:
        yield f"{case.baseline} did not finish, so nothing is measured against it"
    if case.kind == "undecided" and case.tied:
        images = next((e.num_images for e in case.arms[case.best].validation), 0)
        yield (
            f"validation ({images} images) is too small to tell {case.best} from {_list(case.tied)}; "
            "more validation images or more seeds would narrow the intervals"
        )
    yield from _contradiction(case)
    if max(len(arm.test) for arm in case.arms.values()) == 1:
        yield "only one seed was run: the change from seed to seed is not measured, and the intervals leave it out"
    yield from _thin_classes(case, min_val_support)


def _contradiction(case: _Case) -> Iterable[str]:
    """Where the test split does not bear out what was chosen on validation. The choice stays: test is not chosen by."""
    gain = case.gain(case.metric) if case.chosen != case.baseline else None
    if gain and gain.high is not None and gain.high < 0:
        yield f"the test contradicts validation: there {case.chosen} is worse than {case.baseline}, {_points(gain)}"
    elif gain and gain.low is not None and gain.low <= 0 and case.baseline not in case.tied:
        yield f"the test does not confirm that {case.chosen} is better than {case.baseline}: {_points(gain)}"
    means = {name: m for name in case.arms if (m := case.mean(name, case.metric)) is not None}
    top = max(means, key=lambda name: means[name], default=case.chosen)
    if top not in (case.chosen, *case.tied) and means[top] - means.get(case.chosen, 0.0) > WORSE_CALIBRATION:
        yield (
            f"on test {top} is ahead ({_percent(means[top])} against {_percent(means.get(case.chosen))} for "
            f"{case.chosen}); the choice was made on validation and stays"
        )


def _thin_classes(case: _Case, min_val_support: int) -> Iterable[str]:
    first = next(iter(case.arms[case.chosen].validation), None)
    if first is None:
        return
    thin = sorted((c for c in first.classes if c.support < min_val_support), key=lambda c: c.support)
    if not thin:
        return
    named = ", ".join(f"{c.name} ({c.support})" for c in thin[:5]) + (f" and {len(thin) - 5} more" * (len(thin) > 5))
    line = f"fewer than {min_val_support} validation images, so the recall is known only roughly: {named}"
    one = next((c for c in thin if c.recall_low is not None and c.recall_high is not None), None)
    if one:
        line += (
            f"; for {one.name} it can be anything from {100 * (one.recall_low or 0.0):.0f} % "
            f"to {100 * (one.recall_high or 0.0):.0f} %"
        )
    yield line


def _failure(arm: Arm) -> str:
    return f"{arm.strategy.name} failed and is not compared: {arm.error or 'no reason was recorded'}"


def _percent(rate: float | None) -> str:
    """71.2 %; with a second digit where one would read as 0.0 or 100.0."""
    if rate is None:
        return "undefined"
    digits = 2 if 0 < rate < NOTICEABLE or 1 - NOTICEABLE < rate < 1 else 1
    return f"{100 * rate:.{digits}f} %"


def _points(d: Difference, *, flip: bool = False) -> str:
    """+10.9 points [9.8, 12.0], or with ``flip`` the size of a loss; whole points where the interval is ten wide."""
    size, low, high = (None if x is None else 100 * (-x if flip else x) for x in (d.estimate, d.low, d.high))
    low, high = (high, low) if flip else (low, high)
    digits = 0 if low is not None and high is not None and high - low >= 10 else 1
    number = _fixed(size or 0.0, digits)
    plus = "" if flip or number.startswith("−") else "+"
    ends = "" if low is None or high is None else f" [{_fixed(low, digits)}, {_fixed(high, digits)}]"
    return f"{plus}{number} points{ends}"


def _fixed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    text = text.lstrip("-") if float(text) == 0 else text
    return text.replace("-", "−")


def _list(names: Sequence[str], word: str = "and") -> str:
    shown = [*names[:4], f"{len(names) - 4} more"] if len(names) > 5 else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {word} {shown[-1]}"
