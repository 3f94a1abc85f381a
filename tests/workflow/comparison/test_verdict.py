"""verdict on made-up numbers: one test a case, the sentences checked where a reader would be misled."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from counterpoise import ClassCounts
from counterpoise.core.artifacts import Arm, Difference, Predictions, Spread, Strategy, Verdict
from counterpoise.workflow.comparison.next_step import FinalTraining, next_step
from counterpoise.workflow.comparison.statistics import arm_scores, differences
from counterpoise.workflow.comparison.verdict import verdict
from counterpoise.workflow.evaluation import evaluate

NAMES = np.array(["common", "seldom", "rare"])
COUNTS = {"common": 5000, "seldom": 500, "rare": 9}


def evaluation(split, per_class=100, counts=COUNTS):
    """1,000 others and 100 rare images on test; what is right in it is replaced by the made-up scores."""
    sizes = [5 * per_class, 5 * per_class, per_class]
    labels = np.repeat([0, 1, 2], sizes)
    return evaluate((np.eye(3)[labels], labels), split=split, train_counts=None if counts is None else _named(counts))


def _named(counts):
    return {str(i): n for i, n in enumerate(counts.values())}


def arm(name, *, val, test, seeds=2, per_class=100, counts=COUNTS, **scores):
    """An arm whose balanced accuracies are `val` and `test`; other test scores by name."""
    tests = tuple(evaluation("test", counts=counts) for _ in range(seeds))
    vals = tuple(evaluation("val", per_class, counts) for _ in range(seeds))
    table = {"val": {"balanced_accuracy": _spread(val)}, "test": {"balanced_accuracy": _spread(test)}}
    table["test"] |= {metric: _spread(value) for metric, value in scores.items()}
    return Arm(Strategy(name, ""), "done", tuple(range(seeds)), (), (), vals, tests, table)


def _spread(mean):
    return Spread(mean, None, (mean,))


def failed(name, error="loss is NaN at step 12"):
    return Arm(Strategy(name, ""), "failed", (0, 1), (), (), error=error)


def diff(strategy, other, estimate, low, high, *, split="test", metric="balanced_accuracy"):
    return Difference(strategy, other, split, metric, estimate, low, high, None, "images")


def won(name="logit-adjusted"):
    """Validation and test agree that ``name`` is better by about eleven points."""
    return [
        diff("baseline", name, -0.10, -0.14, -0.06, split="val"),
        diff(name, "baseline", 0.109, 0.098, 0.120),
    ]


def judged(arms, found, **options):
    result = verdict(arms, found, baseline="baseline", **options)
    text = " ".join([result.headline, *result.costs, *result.notes])
    assert isinstance(result, Verdict)
    for broken in ("None", "nan", "undefined", "+-", "+−", "unknown number", "  "):
        assert broken not in text, text
    return result


BASE = arm("baseline", val=0.60, test=0.603)


def test_a_clear_winner():
    v = judged([BASE, arm("logit-adjusted", val=0.70, test=0.712)], won())
    assert (v.kind, v.recommended, v.tied) == ("clear", "logit-adjusted", ())
    assert v.headline == (
        "Use logit-adjusted: balanced accuracy 71.2 % on test against 60.3 % for baseline, +10.9 points [9.8, 12.0]."
    )
    assert v.costs == ()
    assert v.notes == ()


def test_the_choice_is_made_on_validation_and_the_test_only_contradicts():
    arms = [BASE, arm("logit-adjusted", val=0.70, test=0.58), arm("focal", val=0.62, test=0.75)]
    found = [
        diff("baseline", "logit-adjusted", -0.10, -0.14, -0.06, split="val"),
        diff("focal", "logit-adjusted", -0.08, -0.12, -0.04, split="val"),
        diff("logit-adjusted", "baseline", -0.023, -0.035, -0.011),
        diff("focal", "baseline", 0.147, 0.13, 0.16),
    ]
    v = judged(arms, found)
    assert v.recommended == "logit-adjusted"
    assert "−2.3 points [−3.5, −1.1]" in v.headline
    assert any("test contradicts validation" in note for note in v.notes)
    assert any(
        "focal has the highest balanced accuracy on test (75.0 % against 58.0 % for logit-adjusted)" in note
        for note in v.notes
    )
    unclear = [*found[:2], diff("logit-adjusted", "baseline", 0.01, -0.01, 0.03)]
    assert any("is not significant on test" in note for note in judged(arms[:2], unclear).notes)


def test_nothing_differs():
    arms = [BASE, arm("focal", val=0.603, test=0.601), arm("weighted-ce", val=0.598, test=0.604)]
    found = [
        diff("baseline", "focal", -0.003, -0.012, 0.006, split="val"),
        diff("weighted-ce", "focal", -0.005, -0.014, 0.004, split="val"),
        diff("focal", "baseline", -0.002, -0.01, 0.007),
    ]
    v = judged(arms, found)
    assert (v.kind, v.recommended, v.leader) == ("no-difference", "baseline", "focal")
    assert v.tied == ("focal", "weighted-ce")
    assert v.headline == (
        "No difference: baseline, focal and weighted-ce are equal on validation to within two points. "
        "Keep baseline (balanced accuracy 60.3 % on test)."
    )
    assert v.costs == ()


def test_validation_cannot_tell_from_the_baseline():
    """The same estimates as where nothing differs, with intervals that leave room for a large gain."""
    arms = [BASE, arm("focal", val=0.64, test=0.66, per_class=3)]
    found = [diff("baseline", "focal", -0.04, -0.11, 0.03, split="val"), diff("focal", "baseline", 0.057, 0.04, 0.075)]
    v = judged(arms, found)
    assert (v.kind, v.recommended, v.leader, v.tied) == ("undecided", None, "focal", ("baseline",))
    assert v.headline.startswith(
        "No clear winner. focal has the highest validation balanced accuracy (+4 points over baseline)"
    )
    assert (
        "with 33 validation images its lead is within the noise (95 % interval −3 to +11 points)." in v.headline
    )  # an interval of 14 points has no decimals
    assert "+5.7 points [4.0, 7.5]" in v.headline
    assert any("33 validation images are too few to separate focal from baseline" in note for note in v.notes)
    (thin,) = [note for note in v.notes if "wide confidence intervals" in note]
    assert "2 (3), 0 (15), 1 (15)" in thin
    assert "The 95 % interval of the recall of 2 is 44 % to 100 %" in thin


def test_equal_means_that_neither_could_be_much_better():
    """Between them and the baseline on top lies at most a point, but one of them could be five points better."""
    arms = [BASE, arm("focal", val=0.59, test=0.60)]
    kinds = [
        judged(arms, [diff("focal", "baseline", -0.01, low, high, split="val")]).kind
        for low, high in ((-0.019, 0.019), (-0.01, 0.05), (-0.05, 0.01))
    ]
    assert kinds == ["no-difference", "undecided", "undecided"]


def test_validation_cannot_tell_two_strategies_that_both_beat_the_baseline():
    arms = [BASE, arm("logit-adjusted", val=0.70, test=0.712), arm("balanced-softmax", val=0.69, test=0.709)]
    found = [*won(), diff("balanced-softmax", "logit-adjusted", -0.01, -0.03, 0.01, split="val")]
    v = judged(arms, found)
    assert (v.kind, v.recommended, v.tied) == ("tied", "logit-adjusted", ("balanced-softmax",))
    assert v.leader == v.selected == "logit-adjusted"
    assert v.headline.startswith(
        "Use logit-adjusted or balanced-softmax: they do not differ significantly on validation."
    )
    assert "+10.9 points [9.8, 12.0]" in v.headline
    assert any("to separate logit-adjusted from balanced-softmax" in note for note in v.notes)


@pytest.mark.parametrize(("low", "high"), [(-0.14, 0.0), (-0.2, -1e-9), (0.0, 0.01), (0.0, 0.0)])
def test_an_interval_that_ends_at_zero_includes_it(low, high):
    found = [diff("baseline", "logit-adjusted", -0.07, low, high, split="val"), won()[1]]
    v = judged([BASE, arm("logit-adjusted", val=0.70, test=0.712)], found)
    assert (v.kind == "clear") == (high < 0)
    assert ("baseline" in (*v.tied, v.recommended)) == (high >= 0)
    assert v.leader == "logit-adjusted"


def test_the_direction_in_which_a_difference_was_computed_does_not_matter():
    arms = [BASE, arm("logit-adjusted", val=0.70, test=0.712)]
    turned = [diff("logit-adjusted", "baseline", 0.10, 0.06, 0.14, split="val"), won()[1]]
    assert judged(arms, turned) == judged(arms, won())


def test_the_baseline_is_best():
    arms = [BASE, arm("focal", val=0.55, test=0.581), arm("weighted-ce", val=0.50, test=0.52)]
    found = [
        diff("focal", "baseline", -0.05, -0.07, -0.03, split="val"),
        diff("weighted-ce", "baseline", -0.10, -0.12, -0.08, split="val"),
        diff("focal", "baseline", -0.022, -0.031, -0.012),
    ]
    v = judged(arms, found)
    assert (v.kind, v.recommended, v.tied, v.costs) == ("clear", "baseline", (), ())
    assert v.headline == (
        "Keep baseline: balanced accuracy 60.3 % on test. No strategy is better on validation; "
        "the closest is focal (58.1 %, −2.2 points [−3.1, −1.2] on test)."
    )
    wide = [diff("focal", "baseline", -0.05, -0.14, 0.04, split="val"), *found[1:]]
    unsure = judged(arms, wide)
    assert (unsure.kind, unsure.recommended, unsure.leader, unsure.tied) == ("undecided", None, "baseline", ("focal",))
    assert unsure.headline.startswith("No clear winner. Keep baseline")


def bought():
    """Recall of the rare class bought with false positives: +1.63 % of 1,000 others is 163 of 10,000."""
    before = {"few": 0.10, "many": 0.90, "few_false_positives": 0.005, "accuracy": 0.85, "macro_f1": 0.60}
    after = {"few": 0.60, "many": 0.869, "few_false_positives": 0.021, "accuracy": 0.83, "macro_f1": 0.595}
    arms = [
        arm("baseline", val=0.60, test=0.603, expected_calibration_error=0.04, **before),
        arm("weighted-ce", val=0.70, test=0.712, expected_calibration_error=0.101, **after),
    ]
    error = "expected_calibration_error"
    widths = {"few": 0.05, "many": 0.011, "few_false_positives": 0.004, "accuracy": 0.005, "macro_f1": 0.01}
    changes = {m: after[m] - before[m] for m in widths}
    found = [diff("weighted-ce", "baseline", d, d - widths[m], d + widths[m], metric=m) for m, d in changes.items()]
    found.append(diff("weighted-ce", "baseline", 0.061, 0.055, 0.067, metric=error))
    found = won("weighted-ce") + found
    return arms, found


def test_recall_bought_with_false_positives_is_called_a_cost():
    arms, found = bought()
    v = judged(arms, found)
    assert v.recommended == "weighted-ce"
    assert v.costs == (
        "false positives of the few-shot classes (fewer than 20 training images) rise from 0.5 % to 2.1 % of the other "
        "classes' images (+16 images; no more images of these classes are recognized)",
        "the recall of the many-shot classes (more than 100 training images) falls by 3.1 points [2.0, 4.2]",
        "accuracy falls from 85.0 % to 83.0 %, by 2.0 points [1.5, 2.5]",
        "the expected calibration error rises from 4.0 % with baseline to 10.1 %, by 6.1 points [5.5, 6.7]; "
        "`counterpoise evaluate RUN --tune temperature` can reduce it",
    )  # macro F1 fell by 0.5 ± 1.0 points: not shown to have fallen


def test_a_cost_whose_interval_includes_0_is_none():
    arms, found = bought()
    shy = [diff(d.strategy, d.baseline, d.estimate, d.low - 0.2, d.high + 0.2, metric=d.metric) for d in found[2:]]
    assert judged(arms, found[:2] + shy).costs == ()


def test_a_cost_that_would_read_as_nothing_is_left_out():
    arms, found = bought()
    tiny = [diff(d.strategy, d.baseline, 0.0004, 0.0003, 0.0005, metric=d.metric) for d in found[2:]]
    assert judged(arms, found[:2] + tiny).costs == ()


def test_without_few_shot_classes_the_medium_ones_are_the_rare_ones():
    """cifar10-lt: the rarest class has 50 training images."""
    counts = {"common": 5000, "seldom": 500, "rare": 50}
    scores = {"few": None, "few_false_positives": None, "many": 0.9, "medium": 0.4}
    arms = [
        arm("baseline", val=0.6, test=0.603, counts=counts, medium_false_positives=0.002, **scores),
        arm("x", val=0.7, test=0.712, counts=counts, medium_false_positives=0.042, **scores),
    ]
    nothing = diff("x", "baseline", None, None, None, metric="few_false_positives")
    rise = diff("x", "baseline", 0.04, 0.03, 0.05, metric="medium_false_positives")
    (cost,) = judged(arms, [*won("x"), nothing, rise]).costs
    assert cost.startswith("false positives of the medium-shot classes (20 to 100 training images) rise")
    assert "from 0.2 % to 4.2 %" in cost
    assert "+40 images" in cost


def test_without_any_groups_nothing_is_said_about_them():
    none = {"few": None, "medium": None, "many": None, "few_false_positives": None}
    arms = [arm(n, val=v, test=t, counts=None, **none) for n, v, t in (("baseline", 0.6, 0.6), ("x", 0.7, 0.7))]
    undefined = [diff("x", "baseline", None, None, None, metric=m) for m in ("few", "many", "few_false_positives")]
    v = judged(arms, won("x") + undefined)
    assert (v.kind, v.recommended, v.costs) == ("clear", "x", ())


@pytest.mark.fault("C16")
def test_a_failed_arm_is_named_with_its_error():
    v = judged([BASE, failed("focal"), arm("logit-adjusted", val=0.70, test=0.712)], won())
    assert v.recommended == "logit-adjusted"
    assert v.notes == ("focal failed and is not compared: loss is NaN at step 12",)


@pytest.mark.fault("C16")
def test_the_baseline_failed():
    arms = [failed("baseline"), arm("x", val=0.7, test=0.71), arm("y", val=0.6, test=0.6)]
    v = judged(arms, [diff("y", "x", -0.1, -0.13, -0.07, split="val")])
    assert (v.kind, v.recommended, v.costs) == ("clear", "x", ())
    assert "baseline did not finish, so the gain is unknown" in v.headline
    assert any("baseline did not finish" in note for note in v.notes)


@pytest.mark.fault("C16")
def test_everything_failed_or_one_finished():
    v = judged([failed("baseline"), failed("focal", "out of memory")], [])
    assert (v.kind, v.recommended, v.leader) == ("nothing-finished", None, None)
    assert v.notes[1] == "focal failed and is not compared: out of memory"
    alone = judged([BASE, failed("focal")], [])
    assert (alone.kind, alone.recommended, alone.leader, alone.tied) == ("undecided", None, "baseline", ())
    assert alone.headline.startswith("Only baseline finished (balanced accuracy 60.3 % on test)")


def test_a_single_seed_is_said():
    arms = [arm("baseline", val=0.6, test=0.603, seeds=1), arm("x", val=0.7, test=0.712, seeds=1)]
    assert any("only one seed" in note for note in judged(arms, won("x")).notes)
    assert not any("only one seed" in note for note in judged([BASE, arm("x", val=0.7, test=0.712)], won("x")).notes)


def test_without_an_interval_on_validation_nothing_is_told_apart():
    v = judged([BASE, arm("x", val=0.7, test=0.712)], [won("x")[1]])
    assert (v.kind, v.tied) == ("undecided", ("baseline",))


def test_another_metric_can_decide():
    arms = [
        arm("baseline", val=0.6, test=0.6, macro_f1=0.5),
        arm("x", val=0.5, test=0.5, macro_f1=0.7),
    ]
    for a, value in zip(arms, (0.4, 0.6), strict=True):
        a.scores["val"]["macro_f1"] = _spread(value)
    found = [
        diff("baseline", "x", -0.2, -0.25, -0.15, split="val", metric="macro_f1"),
        diff("x", "baseline", 0.2, 0.15, 0.25, metric="macro_f1"),
    ]
    v = judged(arms, found, metric="macro_f1")
    assert v.headline == "Use x: macro F1 70.0 % on test against 50.0 % for baseline, +20 points [15, 25]."


def test_many_classes_and_strategies_make_no_endless_sentence():
    arms = [arm(f"s{i}", val=0.6 - i / 1e4, test=0.6) for i in range(30)]
    arms[0] = BASE
    found = [diff(f"s{i}", "baseline", -0.001, -0.01, 0.01, split="val") for i in range(1, 30)]
    v = judged(arms, found)
    assert len(v.tied) == 29
    assert len(v.headline) < 250
    assert "26 more" in v.headline


def test_no_false_precision_and_no_minus_zero():
    arms = [BASE, arm("x", val=0.7, test=0.9997)]
    found = [won("x")[0], diff("x", "baseline", 0.0000001, -0.0000001, 0.3)]
    headline = judged(arms, found).headline
    assert "99.97 %" in headline
    assert "+0 points [0, 30]" in headline
    assert not re.search(r"\d\.\d{3}", headline)


def test_from_predictions_to_words():
    """No made-up numbers: real differences of two arms, where one trades common for rare images."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [1000, 1000, 200])
    names = np.array(["common", "seldom", "rare"])

    def runs(p_rare, p_false, split):
        made = []
        for _ in range(2):
            said = np.where(labels == 2, np.where(rng.random(2200) < p_rare, 2, 0), labels)
            said = np.where((labels < 2) & (rng.random(2200) < p_false), 2, said)
            paths = np.array([f"{split}/{i}" for i in range(2200)])
            made.append(Predictions(np.eye(3)[said], labels, paths, names))
        return made

    predictions = {s: {"baseline": runs(0.1, 0.005, s), "x": runs(0.6, 0.03, s)} for s in ("val", "test")}
    arms = []
    for name in ("baseline", "x"):
        v, t = ([evaluate(p, split=s, train_counts=COUNTS) for p in predictions[s][name]] for s in ("val", "test"))
        arms.append(Arm(Strategy(name, ""), "done", (0, 1), (), (), tuple(v), tuple(t), arm_scores(v, t)))
    found = differences(arms, predictions, baseline="baseline", train_counts=ClassCounts(COUNTS), resamples=300)
    result = judged(arms, found)
    assert (result.kind, result.recommended) == ("clear", "x")
    false, head = result.costs[:2]
    extra, more = map(int, re.findall(r"\+(\d+) images; (\d+) more", false)[0])
    assert math.isclose(extra, 0.025 * 2000, abs_tol=12)
    assert math.isclose(more, 0.5 * 200, abs_tol=12)
    assert head.startswith("the recall of the many-shot classes (more than 100 training images) falls by 2.")


LOSSES = {
    "balanced_accuracy": "balanced accuracy falls from 60.3 % to 40.0 %, by 20.3 points [19.3, 21.3]",
    "accuracy": "accuracy falls from 80.0 % to 46.6 %, by 33.4 points [32.4, 34.4]",
    "macro_f1": "macro F1 falls from 50.0 % to 40.0 %, by 10.0 points [9.0, 11.0]",
    "geometric_mean": "geometric mean falls from 50.0 % to 40.0 %, by 10.0 points [9.0, 11.0]",
    "worst_recall": "worst recall falls from 50.0 % to 40.0 %, by 10.0 points [9.0, 11.0]",
    "many": "the recall of the many-shot classes (more than 100 training images) falls by 10.0 points [9.0, 11.0]",
    "medium": "the recall of the medium-shot classes (20 to 100 training images) falls by 10.0 points [9.0, 11.0]",
    "few": "the recall of the few-shot classes (fewer than 20 training images) falls by 10.0 points [9.0, 11.0]",
    "expected_calibration_error": "the expected calibration error rises from 2.0 % with baseline to 12.0 %, by 10.0",
    "few_false_positives": "false positives of the few-shot classes (fewer than 20 training images) rise from 2.0 % to",
    "medium_false_positives": "false positives of the medium-shot classes (20 to 100 training images) rise from 2.0 %",
}


@pytest.mark.parametrize("lost", LOSSES)
def test_every_metric_that_falls_by_more_than_its_interval_is_a_cost(lost):
    rises = "error" in lost or "positives" in lost
    before, after = (
        (0.02, 0.12) if rises else {"balanced_accuracy": (0.603, 0.4), "accuracy": (0.8, 0.466)}.get(lost, (0.5, 0.4))
    )
    arms = [arm(name, val=0.6, test=0.603, worst_recall=worst) for name, worst in (("baseline", 0.2), ("x", 0.4))]
    chosen_by = "worst_recall" if lost != "worst_recall" else "balanced_accuracy"
    for one, value, mean in zip(arms, (before, after), (0.3, 0.6), strict=True):
        one.scores["test"][lost] = _spread(value)
        one.scores["val"][chosen_by] = _spread(mean)
    d = after - before
    found = [
        diff("baseline", "x", -0.3, -0.35, -0.25, split="val", metric=chosen_by),
        diff("x", "baseline", d, d - 0.01, d + 0.01, metric=lost),
    ]
    (cost,) = judged(arms, found, metric=chosen_by).costs
    assert cost.startswith(LOSSES[lost])
    unsure = [found[0], diff("x", "baseline", d, d - 0.4, d + 0.4, metric=lost)]
    better = [found[0], diff("x", "baseline", -d, -d - 0.01, -d + 0.01, metric=lost)]
    assert judged(arms, unsure, metric=chosen_by).costs == judged(arms, better, metric=chosen_by).costs == ()


def limited():
    """The leader by balanced accuracy loses 33 points of accuracy, the second gains less and loses 2."""
    arms = [BASE, arm("class-balanced", val=0.75, test=0.74), arm("logit-adjusted", val=0.70, test=0.712)]
    for one, accuracy in zip(arms, (0.80, 0.47, 0.78), strict=True):
        one.scores["val"]["accuracy"] = _spread(accuracy)
    return arms, [*won(), diff("class-balanced", "logit-adjusted", 0.05, 0.02, 0.08, split="val")]


def test_a_strategy_that_loses_too_much_accuracy_is_not_recommended_and_named():
    arms, found = limited()
    v = judged(arms, found, max_accuracy_drop=5)
    assert (v.kind, v.recommended, v.leader, v.tied) == ("clear", "logit-adjusted", "logit-adjusted", ())
    assert (
        "left out, because their validation accuracy is more than 5 points below the 80.0 % of baseline: "
        "class-balanced (47.0 %, −33.0 points); a larger `--max-accuracy-drop` includes them"
    ) in v.notes
    against = [diff(name, "class-balanced", -0.1, -0.12, -0.08, split="val") for name in ("baseline", "logit-adjusted")]
    assert judged(arms, against).recommended == "class-balanced"
    assert not any("left out" in note for note in judged(arms, found, max_accuracy_drop=33.5).notes)


def test_if_every_strategy_loses_too_much_accuracy_the_baseline_is_kept():
    arms, found = limited()
    v = judged(arms, found, max_accuracy_drop=1)
    assert (v.kind, v.recommended, v.leader) == ("clear", "baseline", "baseline")
    assert v.headline == (
        "Keep baseline: balanced accuracy 60.3 % on test. The validation accuracy of every other strategy falls by "
        "more than `--max-accuracy-drop` allows."
    )
    assert any("class-balanced (47.0 %, −33.0 points) and logit-adjusted (78.0 %, −2.0 points)" in n for n in v.notes)


def test_without_a_baseline_the_limit_is_said_not_to_apply():
    arms, found = limited()
    found = [diff("class-balanced", "logit-adjusted", 0.05, 0.02, 0.08, split="val")]
    v = judged([failed("baseline"), *arms[1:]], found, max_accuracy_drop=5)
    assert v.recommended == "class-balanced"
    assert any("`--max-accuracy-drop` was not applied" in note for note in v.notes)


ONNX = "--out model.onnx"
AGAIN = "counterpoise compare photos --epochs 9 --out 'my result'"


@pytest.mark.parametrize(
    ("kind", "recommended", "seeds", "commands"),
    [
        (
            "clear",
            "x",
            3,
            ["counterpoise predict 'my result' IMAGES", "counterpoise export 'my result' --out model.onnx"],
        ),
        ("undecided", None, 3, [AGAIN + " --seeds 5 --resume", "counterpoise predict 'my result' IMAGES --strategy x"]),
        ("undecided", None, 5, ["--folds 5", "--val-fraction", "counterpoise predict 'my result' IMAGES --strategy x"]),
        ("nothing-finished", None, 2, [AGAIN + " --seeds 2 --resume"]),
    ],
)
def test_the_next_step_can_be_typed(kind, recommended, seeds, commands):
    v = Verdict(kind, "", recommended, leader=None if kind == "nothing-finished" else "x")
    text = next_step(v, again=AGAIN, folder="'my result'", seeds=seeds)
    assert re.findall("`(.*?)`", text) == commands


@pytest.mark.parametrize("kind", ["clear", "undecided"])
@pytest.mark.parametrize("final", [None, FinalTraining("counterpoise train photos")])
def test_the_next_step_on_features_of_the_user_is_to_apply_the_head(kind, final):
    v = Verdict(kind, "", "x" if kind == "clear" else None, leader="x")
    text = next_step(v, again=AGAIN, folder="out", seeds=5, final=final, own_features=True)
    head = "out/runs/x-seed…" if final is None else "final"
    assert "counterpoise predict" not in text
    assert "counterpoise export" not in text
    assert (f"apply the head in {head} to them" in text) is (final is None or kind == "clear")
    assert ("counterpoise train photos --strategy x" in text) is (final is not None)
