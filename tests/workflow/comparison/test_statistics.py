"""Spreads and differences of arms, against NumPy and scikit-learn on the saved scores."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from counterpoise import ClassCounts
from counterpoise.core.artifacts import Arm, Predictions, Strategy
from counterpoise.core.errors import ArgumentError
from counterpoise.metrics import (
    METRICS,
    bootstrap_calibration,
    bootstrap_differences,
    expected_calibration_error,
    paired_bootstrap,
)
from counterpoise.workflow.comparison.statistics import (
    SCORES,
    accuracy_drops,
    arm_scores,
    best_on_validation,
    differences,
    paired_differences,
    spread,
)
from counterpoise.workflow.evaluation import evaluate

NAMES = ["a", "b", "c", "d", "e"]
COUNTS = ClassCounts([3, 900, 50, 300, 12], ["e", "a", "c", "b", "d"])  # not in the order of the predictions
RARE, MEDIUM = np.array([0, 0, 0, 1, 1], bool), np.array([0, 0, 1, 0, 0], bool)
TALLIED = [name for name in SCORES if name != "expected_calibration_error"]


def runs(quality, seeds=2, n=40, split="test", data_seed=0):
    """One `Predictions` a seed; all arms see the same images."""
    labels = np.repeat(np.arange(5), n)
    paths = np.array([f"{split}/{i}.png" for i in range(len(labels))])
    hard = np.random.default_rng(data_seed).random(len(labels))
    made = []
    for seed in range(seeds):
        rng = np.random.default_rng((seed, round(1000 * quality)))
        wrong = rng.integers(5, size=len(labels))
        said = np.where(hard + rng.normal(0, 0.2, len(labels)) < quality, labels, wrong)
        logits = np.eye(5)[said] * 3 + rng.random((len(labels), 5))
        made.append(Predictions(logits, labels, paths, np.array(NAMES)))
    return made


def arm(name, validation, test, status="done"):
    v, t = ([evaluate(p, split=s, train_counts=COUNTS) for p in ps] for s, ps in (("val", validation), ("test", test)))
    return Arm(Strategy(name, ""), status, (0, 1), (), (), tuple(v), tuple(t), arm_scores(v, t))


def by_sklearn(p):
    y, said = p.labels, p.logits.argmax(1)
    recalls = recall_score(y, said, average=None)
    confusion = confusion_matrix(y, said)
    return {
        "accuracy": accuracy_score(y, said),
        "balanced_accuracy": recalls.mean(),
        "macro_f1": f1_score(y, said, average="macro"),
        "geometric_mean": recalls.prod() ** 0.2,
        "worst_recall": recalls.min(),
        "many": recalls[:2].mean(),
        "medium": recalls[2],
        "few": recalls[3:].mean(),
        "few_false_positives": confusion[np.ix_(~RARE, RARE)].sum() / confusion[~RARE].sum(),
        "medium_false_positives": confusion[np.ix_(~MEDIUM, MEDIUM)].sum() / confusion[~MEDIUM].sum(),
    }


def test_scores_of_an_arm_are_those_of_scikit_learn():
    predictions = runs(0.7, seeds=3)
    found = arm("x", predictions, predictions).scores["test"]
    wanted = [by_sklearn(p) for p in predictions]
    assert found.keys() == SCORES.keys() == {*wanted[0], "expected_calibration_error"}
    for metric in TALLIED:
        values = [w[metric] for w in wanted]
        assert found[metric].values == pytest.approx(values, abs=1e-12)
        assert found[metric].mean == pytest.approx(np.mean(values), abs=1e-12)
        assert found[metric].sd == pytest.approx(np.std(values, ddof=1), abs=1e-12)


def test_one_seed_has_no_sd_and_an_empty_group_no_mean():
    counts = ClassCounts([500] * 5, NAMES)
    evaluations = [evaluate(p, train_counts=counts) for p in runs(0.7, seeds=1)]
    assert spread(evaluations, "accuracy").sd is None
    for metric in ("few", "medium", "few_false_positives", "medium_false_positives"):
        assert spread(evaluations, metric).mean is None
        assert spread(evaluations, metric).values == (None,)
    assert spread([], "accuracy").mean is None
    bare = [evaluate(p) for p in runs(0.7, seeds=1)]  # without training counts
    assert spread(bare, "many").mean is spread(bare, "few_false_positives").mean is None


def test_differences_are_the_differences_of_the_spreads():
    """The numbers beside the interval and the numbers in the table are one: computed in two ways."""
    better, worse = runs(0.8), runs(0.6)
    found = paired_differences(better, worse, metrics=list(SCORES), train_counts=COUNTS, resamples=200)
    a, b = arm("a", better, better), arm("b", worse, worse)
    assert list(found) == list(SCORES)
    for metric, d in found.items():
        x, y = a.scores["test"][metric], b.scores["test"][metric]
        assert d.estimate == pytest.approx(x.mean - y.mean, abs=1e-12)
        assert d.seed_sd == pytest.approx(np.std(np.subtract(x.values, y.values), ddof=1), abs=1e-12)
        assert d.low < d.high
        assert d.low <= d.estimate <= d.high or metric == "expected_calibration_error"  # resamples have larger errors
    said = [np.stack([p.logits.argmax(1) for p in ps]) for ps in (better, worse)]
    metric = METRICS["macro_f1"]
    bare = paired_bootstrap(*said, better[0].labels, metric=metric, resamples=200)
    assert found["macro_f1"] == bare  # no mean of recalls: as it is
    bare = paired_bootstrap(*said, better[0].labels, resamples=200)
    wide = found["balanced_accuracy"]
    assert bare.low - 0.02 < wide.low < bare.low < bare.high < wide.high < bare.high + 0.02


def test_all_arms_against_the_baseline_on_test_and_against_the_best_on_validation():
    names = {"baseline": 0.6, "x": 0.8, "y": 0.7}
    predictions = {s: {n: runs(q, split=s) for n, q in names.items()} for s in ("val", "test")}
    arms = [arm(n, predictions["val"][n], predictions["test"][n]) for n in names]
    broken = Arm(Strategy("z", ""), "failed", (0, 1), (), (), error="out of memory")
    found = differences([*arms, broken], predictions, baseline="baseline", train_counts=COUNTS, resamples=100)
    on_test = [(d.strategy, d.baseline, d.metric) for d in found if d.split == "test"]
    assert on_test == [(n, "baseline", m) for n in ("x", "y") for m in SCORES]
    assert best_on_validation(arms, "balanced_accuracy") == "x"
    on_val = {(d.strategy, d.baseline, d.metric): d for d in found if d.split == "val"}
    assert list(on_val) == [("baseline", "x", "balanced_accuracy"), ("y", "x", "balanced_accuracy")]
    assert on_val["baseline", "x", "balanced_accuracy"].high < 0
    assert {d.method for d in found} == {"images"}
    assert {(d.resamples, d.confidence) for d in found} == {(100, 0.95)}
    again = differences([*arms, broken], predictions, baseline="baseline", train_counts=COUNTS, resamples=100)
    assert again == found


@pytest.mark.fault("C16")
def test_without_a_baseline_or_without_any_arm_there_are_fewer_differences():
    predictions = {s: {n: runs(q, split=s) for n, q in (("x", 0.8), ("y", 0.7))} for s in ("val", "test")}
    arms = [arm(n, predictions["val"][n], predictions["test"][n]) for n in ("x", "y")]
    arms.append(Arm(Strategy("baseline", ""), "failed", (0, 1), (), (), error="diverged"))
    found = differences(arms, predictions, baseline="baseline", train_counts=COUNTS, resamples=50)
    assert [(d.split, d.strategy, d.baseline) for d in found] == [("val", "y", "x")]
    nothing = {"val": {}, "test": {}}
    assert differences(arms[-1:], nothing, baseline="baseline", train_counts=COUNTS) == []
    assert best_on_validation(arms[-1:], "balanced_accuracy") is None


def test_five_seeds_are_resampled_too():
    found = paired_differences(
        runs(0.8, seeds=5), runs(0.7, seeds=5), metrics=["accuracy"], train_counts=COUNTS, resamples=50
    )
    assert found["accuracy"].method == "images-and-seeds"


def test_a_group_without_classes_gives_none_and_not_nan():
    counts = ClassCounts([500] * 5, NAMES)
    predictions = {s: {"baseline": runs(0.6), "x": runs(0.7)} for s in ("val", "test")}
    arms = [arm(n, predictions["val"][n], predictions["test"][n]) for n in ("baseline", "x")]
    found = {d.metric: d for d in differences(arms, predictions, baseline="baseline", train_counts=counts, resamples=9)}
    assert found["few"].estimate is found["few"].low is found["few"].high is found["few"].seed_sd is None
    assert found["few_false_positives"].estimate is None


def changed(p, **parts):
    return Predictions(**{"logits": p.logits, "labels": p.labels, "paths": p.paths, "classes": p.classes, **parts})


def test_an_interval_without_width_is_left_out_unless_the_answers_are_the_same():
    truth, names = np.repeat([0, 1], [9, 1]), np.array(["a", "b"])
    paths, counts = np.arange(10).astype(str), ClassCounts([90, 10], ["a", "b"])
    right, wrong = (Predictions(np.eye(2)[said], truth, paths, names) for said in (truth, 0 * truth))
    options = {"metrics": ["balanced_accuracy", "accuracy"], "train_counts": counts, "resamples": 50}
    found = paired_differences([right], [wrong], **options)
    assert found["accuracy"].estimate == pytest.approx(0.1)  # one image decides: every resample has it
    assert np.isnan([found["accuracy"].low, found["accuracy"].high]).all()
    recalls = found["balanced_accuracy"]
    assert (recalls.estimate, recalls.high) == (0.5, 1.0)
    assert recalls.low < 0
    same = paired_differences([right], [right], **options)
    assert (same["accuracy"].estimate, same["accuracy"].low, same["accuracy"].high) == (0, 0, 0)
    recalls = same["balanced_accuracy"]  # one image of a class says little about the others
    assert recalls.low < -0.3 < 0 == recalls.estimate < 0.3 < recalls.high


@pytest.mark.parametrize("sizes", [(1,) * 6, (2,) * 6, (40, 20, 10, 3, 1, 1), (60,) * 6])
def test_intervals_of_thin_classes_hold_what_they_promise(sizes):
    """Two models right for 80 % and 60 % of each class: the bootstrap alone holds 20 points in 0, 79, 61 and 94 %."""
    rng, names = np.random.default_rng(0), np.array(list("abcdef"))
    labels = np.repeat(np.arange(6), sizes)
    paths, counts = np.arange(len(labels)).astype(str), ClassCounts([100] * 6, names.tolist())
    held = 0
    for seed in range(120):
        luck = rng.random(len(labels))
        other = np.where(rng.random(len(labels)) < 0.7, luck, rng.random(len(labels)))  # mostly the same images
        good, bad = (
            Predictions(np.eye(6)[np.where(x < right, labels, (labels + 1) % 6)], labels, paths, names)
            for x, right in ((luck, 0.8), (other, 0.6))
        )
        options = {"metrics": ["balanced_accuracy"], "train_counts": counts, "resamples": 200, "seed": seed}
        found = paired_differences([good], [bad], **options)["balanced_accuracy"]
        held += found.low <= 0.2 <= found.high
    assert held >= 0.91 * 120


def test_images_are_paired_by_path_whatever_their_order():
    a, b = runs(0.8), runs(0.7)
    order = np.random.default_rng(0).permutation(len(b[0].labels))
    mixed = [changed(p, logits=p.logits[order], labels=p.labels[order], paths=p.paths[order]) for p in b]
    options = {"metrics": ["accuracy", "few"], "train_counts": COUNTS, "resamples": 50}
    assert paired_differences(a, mixed, **options) == paired_differences(a, b, **options)


def test_runs_about_other_images_are_refused_by_name():
    (a,), (b,) = runs(0.8, seeds=1), runs(0.7, seeds=1)

    def pair(other, counts=COUNTS):
        paired_differences([a], [other], metrics=["accuracy"], train_counts=counts)

    paths, labels = b.paths.astype("U20"), b.labels.copy()
    paths[7], labels[3] = "test/other.png", 4
    with pytest.raises(ArgumentError, match=r"cannot be paired: 'test/7\.png' is in only one of them"):
        pair(changed(b, paths=paths))
    with pytest.raises(ArgumentError, match=r"different labels for 'test/3\.png', 4 and 0"):
        pair(changed(b, labels=labels))
    with pytest.raises(ArgumentError, match="two runs have different classes"):
        pair(changed(b, classes=b.classes[::-1]))
    with pytest.raises(ArgumentError, match=r"`train_counts` has the classes"):
        pair(b, counts=ClassCounts([1, 2, 3, 4, 5]))
    with pytest.raises(ArgumentError, match=r"'test/1\.png' is in only one of them"):
        pair(changed(b, paths=np.where(b.paths == "test/1.png", "test/0.png", b.paths), labels=b.labels))


def test_the_interval_of_the_calibration_error_is_that_of_drawing_images():
    a, b = runs(0.8), runs(0.6)
    labels, rng, drawn = a[0].labels, np.random.default_rng(1), []
    for _ in range(600):
        images = np.concatenate([rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in range(5)])
        errors = [expected_calibration_error(labels[images], p.logits[images]) for p in (*a, *b)]
        drawn.append(np.mean(errors[:2]) - np.mean(errors[2:]))
    metric = "expected_calibration_error"
    found = paired_differences(a, b, metrics=[metric], train_counts=COUNTS, resamples=4000)[metric]
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)
    assert found.high - found.low > 0.03


def test_the_order_of_the_images_does_not_change_the_interval_of_the_calibration_error():
    a, b = runs(0.8, seeds=1), runs(0.6, seeds=1)
    order = np.argsort(np.tile(np.arange(40), 5), kind="stable")  # class by class, and one image of each in turn
    found = [
        bootstrap_calibration([x.logits[rows]], [y.logits[rows]], x.labels[rows], resamples=50)
        for x, y in zip(a, b, strict=True)
        for rows in (np.arange(200), order)
    ]
    assert [found[1].low, found[1].high] == pytest.approx([found[0].low, found[0].high], abs=1e-12)


def test_a_strategy_that_is_excluded_is_compared_but_is_not_the_best():
    names = {"baseline": 0.6, "x": 0.8, "y": 0.7}
    predictions = {s: {n: runs(q, split=s) for n, q in names.items()} for s in ("val", "test")}
    arms = [arm(n, predictions["val"][n], predictions["test"][n]) for n in names]
    options = {"baseline": "baseline", "train_counts": COUNTS, "resamples": 50}
    found = differences(arms, predictions, excluded={"x"}, **options)
    assert {(d.strategy, d.baseline) for d in found if d.split == "val"} == {("baseline", "y"), ("x", "y")}


def test_a_drop_of_the_accuracy_is_left_out_from_more_than_the_limit_on():
    arms = [arm("baseline", runs(0.8), runs(0.8)), arm("x", runs(0.6), runs(0.6)), arm("y", runs(0.9), runs(0.9))]
    means = {a.strategy.name: a.scores["val"]["accuracy"].mean for a in arms}
    drop = means["baseline"] - means["x"]
    assert drop > 0.05
    assert accuracy_drops(arms, baseline="baseline", most=100 * drop - 0.01) == {"x": pytest.approx(drop)}
    for most in (100 * drop, None):
        assert accuracy_drops(arms, baseline="baseline", most=most) == {}
    assert accuracy_drops(arms[1:], baseline="baseline", most=0.0) == {}  # the baseline did not finish


def scored(labels, luck, right, names, paths):
    """Predictions that are right where ``luck`` is below ``right``, and otherwise the next class."""
    classes = len(names)
    return Predictions(np.eye(classes)[np.where(luck < right, labels, (labels + 1) % classes)], labels, paths, names)


@pytest.mark.parametrize("copies", [1, 4])
def test_intervals_over_folds_hold_what_they_promise(copies):
    """Five folds have models of different quality, and images come in units of one or of four that are alike.

    The true difference is 15 points. A bootstrap of single images holds it in far fewer cases if units have four.
    """
    rng, names, sizes = np.random.default_rng(3), np.array(list("abc")), (40, 12, 6)
    labels = np.repeat(np.repeat(np.arange(3), sizes), copies)
    units = np.repeat(np.arange(sum(sizes)), copies)
    paths, fold = np.arange(len(labels)).astype(str), (rng.permutation(sum(sizes)) % 5)[units]
    by_path = dict(zip(paths.tolist(), units.tolist(), strict=True))
    counts, held, alone = ClassCounts([40, 12, 6], names.tolist()), 0, 0
    for seed in range(150):
        luck, arms = rng.random(sum(sizes)), {}
        for name, mean in (("good", 0.8), ("bad", 0.65)):
            quality = mean + rng.normal(0, 0.03, (2, 5))  # a model per seed and fold
            own = np.where(rng.random(sum(sizes)) < 0.6, luck, rng.random(sum(sizes)))[units]
            arms[name] = [scored(labels, own, right[fold], names, paths) for right in quality]
        options = {"metrics": ["balanced_accuracy"], "train_counts": counts, "resamples": 200, "seed": seed}
        found, single = (
            paired_differences(arms["good"], arms["bad"], units=u, **options)["balanced_accuracy"]
            for u in (by_path, None)
        )
        held += found.low <= 0.15 <= found.high
        alone += single.low <= 0.15 <= single.high
    assert held >= 0.91 * 150
    assert alone == held if copies == 1 else alone < 0.8 * 150


def test_intervals_of_a_real_cross_validation_hold_what_they_promise():
    """Nearest centroids in five folds of 120 data sets: the models of the folds share most of their training images."""
    rng, names, truths, found = np.random.default_rng(0), np.array(["a", "b"]), [], []
    labels, new = np.repeat([0, 1], [60, 15]), np.repeat([0, 1], 1000)
    paths, counts = np.arange(75).astype(str), ClassCounts([60, 15], ["a", "b"])

    def draw(y):
        return rng.normal(0, 1, (len(y), 4)) + 0.9 * y[:, None]

    def logits_of(x, means, bias):
        distances = [-((x - mean) ** 2).sum(1) for mean in means]
        return np.stack(distances, axis=1) + np.array([bias, 0.0])  # a bias towards the frequent class, as of a prior

    for seed in range(120):
        x, fresh = draw(labels), draw(new)
        fold = np.concatenate([rng.permutation(60) % 5, rng.permutation(15) % 5])
        arms, recalls = {}, {}
        for name, bias in (("balanced", 0.0), ("biased", 4.0)):
            logits, recalls[name] = np.empty((75, 2)), []
            for k in range(5):
                means = [x[(fold != k) & (labels == c)].mean(0) for c in (0, 1)]
                logits[fold == k] = logits_of(x[fold == k], means, bias)
                right = logits_of(fresh, means, bias).argmax(1) == new
                recalls[name].append(right.mean())
            arms[name] = [Predictions(logits, labels, paths, names)]
        options = {"metrics": ["balanced_accuracy"], "train_counts": counts, "resamples": 200, "seed": seed}
        found.append(paired_differences(arms["balanced"], arms["biased"], **options)["balanced_accuracy"])
        truths.append(np.mean(recalls["balanced"]) - np.mean(recalls["biased"]))
    expected = np.mean(truths)  # of models that are trained on four fifths of such a data set
    assert expected > 0.05
    assert sum(one.low <= expected <= one.high for one in found) >= 0.91 * len(found)
    assert np.mean([one.high - one.low for one in found]) < 0.4


def test_units_are_drawn_together_and_the_models_of_a_seed_are_averaged():
    labels, rng = np.repeat([0, 1], 20), np.random.default_rng(0)
    right = rng.random((2, 6, 40)) < np.array([0.8, 0.6])[:, None, None]
    ours, theirs = np.where(right, labels, 1 - labels)
    options = {"metrics": {"accuracy": METRICS["accuracy"]}, "num_classes": 2, "resamples": 4000}
    alone = bootstrap_differences(ours, theirs, labels, units=np.arange(40), **options)["accuracy"]
    assert alone == bootstrap_differences(ours, theirs, labels, **options)["accuracy"]
    assert alone.method == "images-and-seeds"
    averaged = bootstrap_differences(ours, theirs, labels, models_per_seed=3, **options)["accuracy"]
    assert averaged.estimate == pytest.approx(alone.estimate)
    assert averaged.method == "images"  # two seeds of three models each, and not six seeds
    gains = (ours == labels).mean(1) - (theirs == labels).mean(1)
    assert averaged.seed_sd == pytest.approx(np.std(gains.reshape(2, 3).mean(1), ddof=1))
    with pytest.raises(ArgumentError, match="`models_per_seed` must divide"):
        bootstrap_differences(ours, theirs, labels, models_per_seed=4, **options)
    units, drawn = np.arange(40) // 5, []
    gain = (ours[:4] == labels).mean(0) - (theirs[:4] == labels).mean(0)
    for _ in range(4000):
        chosen = [u for first in (0, 4) for u in rng.integers(first, first + 4, 4)]  # four units of each class
        drawn.append(np.concatenate([gain[units == u] for u in chosen]).mean())
    found = bootstrap_differences(ours[:4], theirs[:4], labels, units=units, **options)["accuracy"]
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.015)
