"""Every number of an evaluation and of a comparison, again, from the saved predictions with scikit-learn and SciPy.

Nothing of ours is used but the files: a reader who doubts a number can do the same. Each function raises AssertionError
at the first number that is off by more than 1e-9, and at a field it does not know.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import binomtest, gmean
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
)

GROUPS = {"many": lambda n: n > 100, "medium": lambda n: 20 <= n <= 100, "few": lambda n: n < 20}


def recompute_evaluation(npz: Path, evaluation: dict[str, Any]) -> None:
    """Check an Evaluation (as plain JSON) against the predictions it was made from."""
    with np.load(npz, allow_pickle=False) as file:
        logits, labels, classes = file["logits"], file["labels"], file["classes"]
    e = dict(evaluation)
    predictions = logits.argmax(axis=1)
    present = np.unique(labels)
    assert e.pop("artifact", "Evaluation") == "Evaluation"
    assert e.pop("version", 1) == 1
    assert e.pop("split") in ("train", "val", "test")
    assert e.pop("num_images") == len(labels)
    recalls = recall_score(labels, predictions, labels=present, average=None, zero_division=0)
    balanced = recalls.mean()
    if set(predictions) <= set(labels):  # scikit-learn warns otherwise
        same(balanced_accuracy_score(labels, predictions), balanced, "balanced_accuracy_score")
    same(e.pop("accuracy"), accuracy_score(labels, predictions), "accuracy")
    same(e.pop("balanced_accuracy"), balanced, "balanced_accuracy")
    same(e.pop("balanced_error"), 1 - balanced, "balanced_error")
    macro = f1_score(labels, predictions, labels=present, average="macro", zero_division=0)
    same(e.pop("macro_f1"), macro, "macro_f1")
    same(e.pop("geometric_mean"), gmean(recalls) if recalls.all() else 0.0, "geometric_mean")
    same(e.pop("worst_recall"), recalls.min(), "worst_recall")
    everything = np.arange(len(classes))
    assert e.pop("confusion") == confusion_matrix(labels, predictions, labels=everything).tolist()
    scores = e.pop("classes")
    _classes(scores, labels, predictions, [str(c) for c in classes], e.pop("confidence"))
    _groups(e.pop("groups"), scores)
    _calibration(e.pop("calibration"), e.pop("expected_calibration_error"), logits, labels)
    for finding in e.pop("findings"):
        assert set(finding["about"]) <= {str(c) for c in classes}, finding
    assert not e, f"not recomputed: {sorted(e)}"


def recompute_comparison(directory: Path) -> int:
    """Check a folder's ``comparison.json`` against the predictions under it; returns the number of evaluations."""
    comparison = json.loads((directory / "comparison.json").read_text(encoding="utf-8"))
    done = {arm["strategy"]["name"]: arm for arm in comparison["arms"] if arm["status"] == "done"}
    values: dict[tuple[str, str, str], list[float]] = {}
    checked = 0
    for name, arm in done.items():
        for split, key in (("val", "validation"), ("test", "test")):
            assert len(arm[key]) == len(arm["directories"]), (name, split)
            for folder, evaluation in zip(arm["directories"], arm[key], strict=True):
                recompute_evaluation(directory / folder / f"predictions-{split}.npz", evaluation)
                checked += 1
            for metric, spread in arm["scores"][split].items():
                numbers = [score(evaluation, metric) for evaluation in arm[key]]
                values[name, split, metric] = numbers
                _spread(spread, numbers, f"{name} {split} {metric}")
    for d in comparison["differences"]:
        _difference(d, values)
    return checked


def score(evaluation: dict[str, Any], metric: str) -> float | None:
    """One metric of an arm, from numbers of the evaluation that `recompute_evaluation` has checked."""
    groups = {group["group"]: group["accuracy"] for group in evaluation["groups"]}
    if metric in GROUPS:
        return groups.get(metric)
    if metric.endswith("_false_positives"):
        confusion = np.array(evaluation["confusion"])
        rare = np.array([c["group"] == metric.removesuffix("_false_positives") for c in evaluation["classes"]])
        others = confusion[~rare].sum()
        return float(confusion[np.ix_(~rare, rare)].sum() / others) if rare.any() and others else None
    return evaluation[metric]


def _classes(scores: Any, labels: Any, predictions: Any, names: list[str], confidence: float) -> None:
    index = np.arange(len(names))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predictions, labels=index, average=None, zero_division=0
    )
    assert [c["name"] for c in scores] == names
    for i, given in enumerate(scores):
        c, where = dict(given), f"class {names[i]!r} "
        c.pop("name")
        hits, predicted = int(np.sum((labels == i) & (predictions == i))), int(np.sum(predictions == i))
        assert c.pop("support") == support[i]
        assert c.pop("predicted") == predicted
        assert c.pop("true_positives") == hits
        assert c.pop("false_positives") == predicted - hits
        same(c.pop("f1"), f1[i] if support[i] else None, where + "f1")
        for rate, value, trials in (("recall", recall[i], support[i]), ("precision", precision[i], predicted)):
            interval = _wilson(hits, int(trials), confidence)
            same(c.pop(rate), value if trials else None, where + rate)
            same(c.pop(f"{rate}_low"), interval[0], where + f"{rate}_low")
            same(c.pop(f"{rate}_high"), interval[1], where + f"{rate}_high")
        count, group, before = c.pop("train_count"), c.pop("group"), c.pop("train_recall")
        assert group == (None if count is None else next(g for g, holds in GROUPS.items() if holds(count)))
        same(c.pop("gap"), before - recall[i] if before is not None and support[i] else None, where + "gap")
        assert not c, f"not recomputed: {sorted(c)}"


def _wilson(hits: int, trials: int, confidence: float) -> tuple[float | None, float | None]:
    if not trials:
        return None, None
    interval = binomtest(hits, trials).proportion_ci(confidence, method="wilson")
    return interval.low, interval.high


def _groups(groups: Any, scores: Any) -> None:
    if all(c["train_count"] is None for c in scores):
        assert groups == []
        return
    assert [g["group"] for g in groups] == list(GROUPS)
    for g in groups:
        members = [c for c in scores if c["group"] == g["group"]]
        recalls = [c["recall"] for c in members if c["support"]]
        assert g["classes"] == [c["name"] for c in members]
        assert g["support"] == sum(c["support"] for c in members)
        same(g["accuracy"], np.mean(recalls) if recalls else None, f"group {g['group']}")
        assert set(g) == {"group", "classes", "support", "accuracy"}


def _calibration(table: Any, error: float, logits: Any, labels: Any) -> None:
    top = softmax(logits.astype(np.float64), axis=1).max(axis=1)
    right = logits.argmax(axis=1) == labels
    edges, expected = np.linspace(0, 1, len(table) + 1), 0.0
    for b, row in enumerate(table):
        inside = (top > edges[b]) & (top <= edges[b + 1])
        some = inside.any()
        same(row["low"], edges[b], "low")
        same(row["high"], edges[b + 1], "high")
        assert row["count"] == inside.sum()
        same(row["confidence"], top[inside].mean() if some else None, f"bin {b} confidence")
        same(row["accuracy"], right[inside].mean() if some else None, f"bin {b} accuracy")
        expected += inside.mean() * abs(right[inside].mean() - top[inside].mean()) if some else 0.0
        assert set(row) == {"low", "high", "count", "confidence", "accuracy"}
    same(error, expected, "expected_calibration_error")


def _spread(spread: Any, numbers: list[float | None], where: str) -> None:
    defined = [x for x in numbers if x is not None]
    assert len(spread["values"]) == len(numbers), where
    for got, wanted in zip(spread["values"], numbers, strict=True):
        same(got, wanted, where)
    same(spread["mean"], np.mean(defined) if defined else None, f"{where} mean")
    same(spread["sd"], np.std(defined, ddof=1) if len(defined) > 1 else None, f"{where} sd")


def _difference(d: Any, values: dict[tuple[str, str, str], list[float]]) -> None:
    a, b = (values[name, d["split"], d["metric"]] for name in (d["strategy"], d["baseline"]))
    where = f"{d['strategy']} - {d['baseline']}, {d['metric']} on {d['split']} "
    if None in a + b:
        assert d["estimate"] is d["low"] is d["high"] is d["seed_sd"] is None, where
        return
    same(d["estimate"], np.mean(a) - np.mean(b), where + "estimate")
    paired = len(a) == len(b) > 1
    same(d["seed_sd"], np.std(np.subtract(a, b), ddof=1) if paired else None, where + "seed_sd")
    assert d["method"] == ("images-and-seeds" if min(len(a), len(b)) >= 5 else "images"), where
    if d["low"] is None:  # every resample is the same: too few images for an interval
        assert d["high"] is None, where
        return
    # The ends of the interval are resamples: tests/metrics/test_bootstrap.py.
    assert d["low"] < d["high"] or d["estimate"] == 0, where


def same(got: float | None, wanted: float | None, where: str) -> None:
    """Equal to 1e-9, or both not there."""
    if wanted is None or got is None:
        assert got is None, f"{where}: {got} where there is no number"
        assert wanted is None, f"{where}: no number, expected {wanted}"
        return
    assert math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-9), f"{where}: {got} != {wanted}"
