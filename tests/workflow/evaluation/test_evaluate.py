"""evaluate: each number again with scikit-learn, the fixed cases by hand, the findings, the errors."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from counterpoise import ClassCounts
from counterpoise.core.artifacts import Evaluation, Predictions
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError
from counterpoise.workflow.evaluation import evaluate

from .recompute import recompute_evaluation

NAMES = ("owl", "</script>", "007", "NA", "1e5", "ghost")
TRAIN = {"ghost": 3, "owl": 900, "</script>": 101, "007": 100, "NA": 20, "1e5": 19}


def made_up(seed=0, n=400, scale=2.0, excluded=False, dtype=np.float32):
    """Five classes with images and a sixth that is only ever predicted."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(5, size=n, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    logits = rng.normal(size=(n, 6)) * scale
    logits[np.arange(n), labels] += 2.0
    if excluded:
        logits[:, 5] = -np.inf
        logits[:, 1] = np.where(labels == 1, logits[:, 1], -np.inf)
    paths = np.array([f"test/{i}.png" for i in range(n)])
    return Predictions(logits.astype(dtype), labels, paths, np.array(NAMES))


def from_rows(rows, names=None, **options):
    """An evaluation of rows (label, prediction, how often)."""
    labels = np.repeat([r[0] for r in rows], [r[2] for r in rows])
    said = np.repeat([r[1] for r in rows], [r[2] for r in rows])
    names = names or [str(i) for i in range(1 + max(labels.max(), said.max()))]
    logits = np.eye(len(names))[said] * 5
    given = Predictions(logits, labels, np.arange(len(labels)).astype(str), np.array(names))
    return evaluate(given, **options)


@pytest.mark.parametrize(
    ("made", "options"),
    [
        ({}, {}),
        ({"scale": 1e4, "dtype": np.float64}, {}),
        ({"excluded": True}, {"train_counts": TRAIN}),
        ({"n": 3, "seed": 4}, {"train_counts": TRAIN, "confidence": 0.8, "bins": 1}),
        ({"seed": 2}, {"train_counts": TRAIN, "train_recall": [1.0, 1.0, 0.5, 1.0, 1.0, None], "bins": 7}),
    ],
    ids=["plain", "huge-logits", "excluded-classes", "three-images", "everything"],
)
def test_scikit_learn_recomputes_every_number(tmp_path, made, options):
    path = tmp_path / "predictions-test.npz"
    made_up(**made).save(path)
    result = evaluate(path, **options)
    recompute_evaluation(path, result.to_dict())
    result.save(tmp_path / "evaluation.json")
    recompute_evaluation(path, json.loads((tmp_path / "evaluation.json").read_text()))
    assert Evaluation.load(tmp_path / "evaluation.json") == result


def test_the_recomputation_notices_a_number_that_is_off(tmp_path):
    path = tmp_path / "p.npz"
    made_up().save(path)
    right = evaluate(path, train_counts=TRAIN, train_recall=[0.9] * 5 + [None]).to_dict()
    numbers = list(_numbers(right))
    assert len(numbers) > 100
    for place in numbers[::3]:
        wrong = json.loads(json.dumps(right))
        inside = wrong
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] += 1e-6 if isinstance(inside[place[-1]], float) else 1
        # The confidence of the intervals moves the intervals; the recall in training moves the gap.
        with pytest.raises((AssertionError, StopIteration)):
            recompute_evaluation(path, wrong)


def _numbers(value, place=()):
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            # A training count that stays in its group is not known to the predictions.
            if key not in ("train_count", "findings", "version"):
                yield from _numbers(item, (*place, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place


def test_a_hand_computed_example():
    e = from_rows(
        [(0, 0, 9), (0, 1, 1), (1, 1, 3), (1, 0, 2), (2, 2, 1), (2, 0, 3)],
        names=["a", "b", "c"],
        train_counts={"c": 5, "b": 50, "a": 500},
        train_recall={"b": 0.8, "a": 1.0, "c": 1.0},
    )
    assert e.accuracy == pytest.approx(13 / 19)
    assert e.balanced_accuracy == pytest.approx((0.9 + 0.6 + 0.25) / 3)
    assert e.geometric_mean == pytest.approx((0.9 * 0.6 * 0.25) ** (1 / 3))
    assert e.macro_f1 == pytest.approx((18 / 24 + 6 / 9 + 2 / 5) / 3)
    assert e.confusion == ((9, 1, 0), (2, 3, 0), (3, 0, 1))
    assert [g.accuracy for g in e.groups] == pytest.approx([0.9, 0.6, 0.25])
    assert [(c.group, c.train_count) for c in e.classes] == [("many", 500), ("medium", 50), ("few", 5)]
    assert [c.gap for c in e.classes] == pytest.approx([0.1, 0.2, 0.75])
    assert (e.classes[0].predicted, e.classes[0].false_positives) == (14, 5)


@pytest.mark.fault("C14")
def test_an_absent_class_counts_in_no_average_and_is_named():
    e = from_rows(
        [(0, 0, 8), (0, 2, 2), (1, 1, 5)], names=["a", "b", "ghost"], train_counts={"a": 9, "b": 9, "ghost": 9}
    )
    ghost = e.classes[2]
    assert (ghost.support, ghost.predicted, ghost.precision) == (0, 2, 0.0)
    assert ghost.recall is ghost.recall_low is ghost.f1 is ghost.gap is None
    assert e.balanced_accuracy == pytest.approx(0.9)
    assert e.groups[2].accuracy == pytest.approx(0.9)
    assert e.groups[0].accuracy is None
    (finding,) = [f for f in e.findings if f.kind == "absent-class"]
    assert finding.about == ("ghost",)
    assert "2 times" in finding.reason


@pytest.mark.fault("C14")
def test_one_answer_for_every_image_is_named():
    e = from_rows([(0, 1, 5), (1, 1, 5), (2, 1, 5)])
    assert e.balanced_accuracy == pytest.approx(1 / 3)
    assert e.geometric_mean == 0.0
    assert e.classes[0].precision is None
    assert e.classes[0].f1 == 0.0
    kinds = {f.kind: f.about for f in e.findings}
    assert kinds == {"constant": ("1",), "never-predicted": ("0", "2")}


@pytest.mark.parametrize(
    ("train_count", "train_recall", "hits", "found"),
    [
        (15, 1.0, 20, True),  # few, 20 of 100
        (60, 0.95, 60, True),  # medium
        (500, 1.0, 20, False),  # many: not a rare class
        (15, 0.85, 20, False),  # not learned by heart
        (15, 1.0, 85, False),  # the gap is small
        (15, None, 20, False),
    ],
)
def test_memorised_rare_classes_are_found(train_count, train_recall, hits, found):
    e = from_rows(
        [(0, 0, 90), (0, 1, 10), (1, 1, hits), (1, 0, 100 - hits)],
        names=["common", "rare"],
        train_counts={"common": 5000, "rare": train_count},
        train_recall={"common": 1.0, "rare": train_recall},
    )
    findings = [f for f in e.findings if f.kind == "overfit"]
    assert [f.about for f in findings] == ([("rare",)] if found else [])
    if found:
        assert f"{hits} % in test" in findings[0].reason


def test_too_few_images_do_not_make_a_class_memorised():
    def kinds(images):
        e = from_rows(
            [(0, 0, 90), (1, 1, images), (1, 0, images)],
            train_counts={"0": 500, "1": 9},
            train_recall=[1.0, 0.9],
        )
        return {f.kind for f in e.findings}

    assert "overfit" not in kinds(1)  # 1 of 2: the interval reaches 0.905
    assert "overfit" in kinds(2)  # 2 of 4: it ends at 0.85


def test_no_images_at_all():
    empty = Predictions(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros(0, "U1"), np.array(["a", "b"]))
    e = evaluate(empty, train_counts={"a": 5, "b": 6})
    assert e.accuracy is e.balanced_accuracy is e.balanced_error is e.expected_calibration_error is None
    assert [b.count for b in e.calibration] == [0] * 15
    assert [f.kind for f in e.findings] == ["no-images"]
    assert Evaluation.from_dict(json.loads(json.dumps(e.to_dict(), allow_nan=False))) == e


@pytest.mark.fault("W4")
def test_training_counts_are_matched_by_name():
    given = made_up()
    shuffled = ClassCounts({name: TRAIN[name] for name in sorted(TRAIN)})
    assert [c.train_count for c in evaluate(given, train_counts=shuffled).classes] == [TRAIN[n] for n in NAMES]
    with pytest.raises(ArgumentError, match=r"missing from `train_counts`: 'ghost'; only in `train_counts`: 'wolf'"):
        evaluate(given, train_counts={("wolf" if k == "ghost" else k): v for k, v in TRAIN.items()})
    with pytest.raises(ArgumentError, match=r"missing from `train_recall`: .*'owl'"):
        evaluate(given, train_recall={"x": 1.0})
    with pytest.raises(ArgumentError, match="one number per class, 6; got 2"):
        evaluate(given, train_recall=[1.0, 0.5])


def test_a_pair_of_arrays_will_do():
    given = made_up()
    by_pair, by_name = evaluate((given.logits, given.labels)), evaluate(given)
    assert by_pair.confusion == by_name.confusion
    assert [c.name for c in by_pair.classes] == list("012345")
    assert evaluate(([[3, 1], [1, 2]], [0, 1])).accuracy == 1.0


@pytest.mark.fault("C9")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_without_a_prediction_are_refused_by_name(bad):
    given = made_up()
    given.logits[7, 2] = bad
    with pytest.raises(ArgumentError, match=r"test/7\.png.*row 7; 1 of 400 images"):
        evaluate(given)


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ArtifactError, match="does not exist"):
        evaluate(tmp_path / "none.npz")
    with pytest.raises(ArgumentTypeError, match=r"`predictions` must be .*got int"):
        evaluate(5)
    with pytest.raises(ArgumentTypeError, match="labels of whole numbers"):
        evaluate(([[0.1, 0.2]], [0.5]))
    with pytest.raises(ArgumentError, match="row 0 is 2, outside the 2 classes"):
        evaluate(([[0.1, 0.2]], [2]))
    with pytest.raises(ArgumentError, match="`bins` must be at least 1; got 0"):
        evaluate(made_up(), bins=0)
    with pytest.raises(ArgumentError, match=r"`confidence` must be above 0 and below 1.*got 95"):
        evaluate(made_up(), confidence=95)


def test_evaluating_loads_no_torch_and_no_scikit_learn():
    code = (
        "import sys, counterpoise as cp\n"
        "cp.evaluate(([[1.0, 0.0]], [0]))\n"
        "print(sorted({'torch', 'sklearn', 'scipy', 'polars', 'PIL', 'altair'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_folder_is_evaluated_on_the_split_that_is_asked_for(tmp_path):
    classes, images = np.array(["a", "b"]), np.array(["x", "y"])
    for split, labels in (("val", [0, 1]), ("test", [1, 0])):
        Predictions(np.eye(2), np.array(labels), images, classes).save(tmp_path / f"predictions-{split}.npz")
    assert evaluate(tmp_path, split="val").accuracy == 1.0
    assert evaluate(tmp_path).accuracy == 0.0
    with pytest.raises(ArtifactError, match=r"predictions-train\.npz does not exist"):
        evaluate(tmp_path, split="train")
    with pytest.raises(ArgumentError, match="`split` must be one of 'train', 'val', 'test'; got 'valid'"):
        evaluate(tmp_path, split="valid")
