"""The catalog reads as one line each and goes through JSON; a plan has reasons with numbers."""

import numpy as np
import pytest

from counterpoise import ClassCounts
from counterpoise.core.artifacts import Strategy
from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.audit import audit
from counterpoise.workflow.strategy import CATALOG, plan, strategy_named
from counterpoise.workflow.training.build import build_loss, build_order, build_posthoc

COUNTS = ClassCounts([50, 10, 5], names=["a", "b", "c"])
LABELS = np.repeat([0, 1, 2], COUNTS.counts)


@pytest.mark.parametrize("name", CATALOG)
def test_a_strategy_is_one_line_and_goes_through_json(name):
    strategy = CATALOG[name]
    assert strategy.name == name
    assert str(strategy).startswith(f"{name}: ")
    assert "\n" not in str(strategy)
    assert Strategy.from_dict(strategy.to_dict()) == strategy
    assert strategy.reuses is None or strategy.reuses in CATALOG


@pytest.mark.parametrize("name", CATALOG)
def test_every_name_in_a_strategy_becomes_a_function(name):
    build_loss(CATALOG[name], COUNTS)
    order = build_order(CATALOG[name], LABELS, seed=0)
    assert len(order.draw(0)) == order.length
    scores = np.array([[0.5, 1.0, -2.0]])
    changed = not np.array_equal(build_posthoc(CATALOG[name], COUNTS)(scores), scores)
    assert changed == (CATALOG[name].posthoc is not None)


def test_samplers_do_what_their_names_say():
    def drawn(name):
        return np.bincount(LABELS[build_order(CATALOG[name], LABELS, seed=0).draw(0)], minlength=3).tolist()

    assert drawn("baseline") == [50, 10, 5]
    assert drawn("oversample") == [50, 50, 50]
    assert drawn("undersample") == [5, 5, 5]


def test_a_plan_starts_from_the_baseline_and_gives_numbers_as_reasons():
    plans = plan({"car": 5000, "truck": 300, "motorcycle": 50})
    assert plans[0].name == "baseline"
    assert all(strategy.reason for strategy in plans)
    reasons = {strategy.name: strategy.reason for strategy in plans}
    assert "100:1" in reasons["logit-adjusted"]
    assert "10:1" in reasons["sqrt-weighted-ce"]
    assert "'motorcycle'" in reasons["class-balanced-sampling"]
    assert "undersample" not in reasons


def test_undersampling_is_advised_only_where_enough_is_left():
    assert "undersample" in {s.name for s in plan([100_000, 4_000, 2_000])}
    assert "undersample" not in {s.name for s in plan([100_000, 4_000, 20])}


def test_balanced_data_need_no_remedy():
    assert [s.name for s in plan([100, 90, 110])] == ["baseline"]


def test_an_audit_is_planned_like_its_counts(dataset):
    assert plan(audit(dataset)) == plan(dataset.counts())


def test_one_class_is_no_plan():
    with pytest.raises(ArgumentError, match="1 classes with training images; a plan needs two"):
        plan([5, 0])


def test_an_unknown_strategy_gets_the_nearest_names():
    with pytest.raises(ArgumentError, match=r"'logit-ajusted' is unknown; did you mean logit-adjusted"):
        strategy_named("logit-ajusted")
    with pytest.raises(ArgumentError, match=r"'xyz' is unknown; the catalog has baseline"):
        strategy_named("xyz")
