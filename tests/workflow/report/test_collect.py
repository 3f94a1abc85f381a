"""The numbers of the figures against the artifact, and what is put together over seeds by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from counterpoise.workflow.report.collect_classes import calibration_sum, counts_figure
from counterpoise.workflow.report.collect_comparison import comparison_page
from counterpoise.workflow.report.page import Figure

from . import samples


@cache
def figures(number: int = 2) -> dict[str, Figure]:
    return comparison_page(samples.comparison(seeds=tuple(range(number)))).figures


def rows(figure: Figure, key: str, choice: int = 0) -> list[dict[str, Any]]:
    datasets = figure.variants[choice].spec()["datasets"].values()
    return next(found for found in datasets if found and key in found[0])


def test_recall_over_two_seeds_has_wilsons_interval_for_its_mean_on_the_images_of_one():
    arm = samples.comparison().arms[3]
    found = [row for row in rows(figures()["recall"], "recall") if row["strategy"] == "logit-adjusted"]
    for i, row in enumerate(found):
        found_by_each = [e.classes[i].true_positives for e in arm.test]
        expected = samples.wilson(np.mean(found_by_each), arm.test[0].classes[i].support)
        assert (row["recall"], row["low"], row["high"]) == pytest.approx(expected)
        assert row["class"] == samples.NAMES[i]


def test_recall_of_one_seed_has_wilsons_interval_itself():
    score = samples.comparison(seeds=(0,)).arms[0].test[0].classes[9]
    row = next(r for r in rows(figures(1)["recall"], "recall") if r["class"] == "truck" and r["strategy"] == "baseline")
    expected = samples.wilson(score.true_positives, score.support)
    assert (row["recall"], row["low"], row["high"]) == pytest.approx(expected)


def test_the_gap_is_drawn_from_training_and_validation_recall():
    figure = figures()["gap"]
    labels = [variant.label for variant in figure.variants]
    arm = samples.comparison().arms[1]
    found = rows(figure, "train", labels.index("weighted-ce"))
    assert labels[0] == "logit-adjusted"
    assert [row["train"] for row in found] == pytest.approx([c.train_recall for c in arm.validation[0].classes])
    expected = [np.mean([e.classes[i].recall for e in arm.validation]) for i in range(10)]
    assert [row["evaluated"] for row in found] == pytest.approx(expected)


def test_confusion_adds_the_seeds_and_divides_by_the_true_class():
    figure = figures()["confusion"]
    arm = samples.comparison().arms[0]
    table = np.sum([e.confusion for e in arm.test], axis=0)
    labels = [variant.label for variant in figure.variants]
    found = {(row["t"], row["p"]): row for row in rows(figure, "t", labels.index("baseline"))}
    assert len(found) == np.count_nonzero(table)
    for (true, predicted), row in found.items():
        i, j = samples.NAMES.index(true), samples.NAMES.index(predicted)
        assert row["n"] == table[i, j]
        assert row["r"] == pytest.approx(table[i, j] / table[i].sum(), abs=1e-6)


def test_bins_of_confidence_are_weighted_by_their_predictions():
    arm = samples.comparison().arms[2]
    bins = calibration_sum(arm.test)
    assert sum(b.count for b in bins) == 800
    accuracy = sum(b.count * b.accuracy for b in bins if b.count) / 800
    assert accuracy == pytest.approx(np.mean([e.accuracy for e in arm.test]))
    one = calibration_sum(arm.test[:1])
    assert [(b.count, b.accuracy) for b in one] == [
        (b.count, pytest.approx(b.accuracy) if b.count else None) for b in arm.test[0].calibration
    ]


def test_curves_leave_out_epochs_without_a_value_and_strategies_that_train_nothing():
    figure = figures()["training"]
    found = rows(figure, "epoch")
    first = samples.comparison().arms[0].history[0]
    mine = [row for row in found if row["strategy"] == "baseline" and row["seed"] == "0"]
    assert [row["value"] for row in mine] == [e["val_balanced_accuracy"] for e in first[1:]]
    assert [row["last"] for row in mine] == [False] * 13 + [True]
    assert {row["strategy"] for row in found} == {"baseline", "weighted-ce", "class-balanced-focal", "logit-adjusted"}


def test_counts_of_every_split_are_drawn_and_classes_without_images_stay():
    audit = samples.audit()
    empty = replace(audit.classes[9], train=0, val=0)
    figure = counts_figure(replace(audit, classes=(*audit.classes[:9], empty)))
    assert figure is not None
    found = {(row["class"], row["split"]): row["n"] for row in rows(figure, "n")}
    assert found["airplane", "train"] == 500
    assert (found["truck", "train"], found["truck", "val"], found["truck", "test"]) == (0, 0, 40)
    assert len(found) == 30


def test_calibration_shows_the_leader_and_the_baseline_first_and_the_others_on_request():
    comparison = samples.comparison()
    leader = comparison.verdict.recommended or comparison.verdict.leader
    variants = figures()["calibration"].variants
    assert variants[0].label == f"{leader} and baseline"
    assert [s.name for s in variants[0].series] == [leader, "baseline"]
    drawn = [{row["strategy"] for row in rows(figures()["calibration"], "share", i)} for i in range(len(variants))]
    assert drawn[0] == {leader, "baseline"}
    finished = {arm.strategy.name for arm in comparison.arms if arm.status == "done"}
    assert variants[-1].label == "all strategies"
    assert drawn[-1] == finished
    assert set().union(*drawn[:-1]) == finished
    alone = comparison_page(replace(comparison, arms=comparison.arms[:2])).figures["calibration"]
    assert len(alone.variants) == 1
