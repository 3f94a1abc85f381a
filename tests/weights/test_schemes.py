"""Class weights: the formulas, what normalising and capping promise, and what is refused."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, CounterpoiseError
from counterpoise.weights import SCHEMES, class_weights

COUNTS = ClassCounts([5000, 500, 50], names=["car", "truck", "motorcycle"])


# values


@pytest.mark.parametrize(
    ("beta", "large", "small", "ratio"),
    [(0.9999, 3934.85, 99.5, 39.5), (0.999, 993.3, 95.2, 10.4), (0.0, 1.0, 1.0, 1.0), (1.0, 5000.0, 100.0, 50.0)],
)
def test_the_worked_example_of_the_effective_number(beta: float, large: float, small: float, ratio: float) -> None:
    weights = class_weights([5000, 100], "effective_number", beta=beta, normalize=None)
    assert 1 / weights[0] == pytest.approx(large, abs=0.06)
    assert 1 / weights[1] == pytest.approx(small, abs=0.06)
    assert weights[1] / weights[0] == pytest.approx(ratio, abs=0.06)


@pytest.mark.parametrize(
    ("scheme", "bare"),
    [
        ("uniform", [1, 1, 1]),
        ("inverse", [1 / 5000, 1 / 500, 1 / 50]),
        ("inverse_sqrt", [1 / math.sqrt(5000), 1 / math.sqrt(500), 1 / math.sqrt(50)]),
        ("median_frequency", [0.1, 1, 10]),
        ("balanced", [5550 / 3 / 5000, 5550 / 3 / 500, 5550 / 3 / 50]),
    ],
)
def test_each_scheme_by_hand(scheme: str, bare: list[float]) -> None:
    np.testing.assert_allclose(class_weights(COUNTS, scheme, normalize=None), bare, rtol=1e-14)  # type: ignore[arg-type]


def test_power_is_the_exponent_of_inverse() -> None:
    np.testing.assert_allclose(class_weights(COUNTS, power=0.5), class_weights(COUNTS, "inverse_sqrt"))
    np.testing.assert_allclose(class_weights(COUNTS, power=0.0), np.ones(3))
    bare = class_weights(COUNTS, power=2, normalize=None)
    np.testing.assert_allclose(bare, [5000.0**-2, 500.0**-2, 50.0**-2])


def test_balanced_is_scikit_learns() -> None:
    labels = np.repeat(np.arange(4), [7, 40, 1, 12])
    theirs = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(class_weights(ClassCounts.from_labels(labels), "balanced"), theirs, rtol=1e-14)


def test_median_frequency_with_pixels_divides_by_the_images_that_hold_the_class() -> None:
    # road is in every image (1000 pixels in all), a sign in images of 200 pixels together
    weights = class_weights(
        {"road": 800, "sign": 10, "sky": 190},
        "median_frequency",
        pixels_in_images={"sky": 1000, "road": 1000, "sign": 200},
        normalize=None,
    )
    np.testing.assert_allclose(weights, [0.19 / 0.8, 0.19 / 0.05, 1.0])


def test_beta_auto_is_one_minus_one_over_n() -> None:
    auto = class_weights(COUNTS, "effective_number", beta="auto", normalize=None)
    np.testing.assert_array_equal(auto, class_weights(COUNTS, "effective_number", beta=5549 / 5550, normalize=None))


def test_a_ready_vector_is_normalised_like_any_other_and_kept_with_none() -> None:
    np.testing.assert_allclose(class_weights([9, 9], [1.0, 3.0]), [0.5, 1.5])
    np.testing.assert_array_equal(class_weights([9, 9], [1.0, 3.0], normalize=None), [1.0, 3.0])


@pytest.mark.parametrize(
    ("alias", "scheme"),
    [
        ("INS", "inverse"),
        ("ISNS", "inverse_sqrt"),
        ("ENS", "effective_number"),
        ("effective-number", "effective_number"),
        ("class_weight", "balanced"),
    ],
)
def test_aliases_are_other_names_of_the_schemes(alias: str, scheme: str) -> None:
    np.testing.assert_array_equal(class_weights(COUNTS, alias), class_weights(COUNTS, scheme))


# laws


counts_and_scheme = st.tuples(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=12),
    st.sampled_from(SCHEMES),
)


@pytest.mark.filterwarnings("ignore:beta=")
@settings(max_examples=150, deadline=None)
@given(counts_and_scheme, st.sampled_from(["mean", "sample"]), st.none() | st.floats(1.0, 100.0))
def test_the_average_is_one_and_the_cap_holds(
    case: tuple[list[int], str], normalize: str, max_weight: float | None
) -> None:
    counts, scheme = case
    weights = class_weights(counts, scheme, normalize=normalize, max_weight=max_weight)  # type: ignore[arg-type]
    share = np.ones(len(counts)) if normalize == "mean" else np.array(counts, dtype=float)
    assert np.average(weights, weights=share) == pytest.approx(1.0, rel=1e-9)
    assert np.isfinite(weights).all()
    if max_weight is not None:
        assert weights.max() <= max_weight * (1 + 1e-12)


@pytest.mark.filterwarnings("ignore:beta=")
@settings(max_examples=100, deadline=None)
@given(counts_and_scheme, st.integers(0, 99))
def test_permuting_the_classes_permutes_the_weights(case: tuple[list[int], str], seed: int) -> None:
    counts, scheme = case
    order = np.random.default_rng(seed).permutation(len(counts))
    permuted = class_weights(np.array(counts)[order], scheme)  # type: ignore[arg-type]
    np.testing.assert_allclose(permuted, class_weights(counts, scheme)[order], rtol=1e-12)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:beta=")
@settings(max_examples=100, deadline=None)
@given(counts_and_scheme)
def test_a_rarer_class_never_weighs_less(case: tuple[list[int], str]) -> None:
    counts, scheme = case
    weights = class_weights(counts, scheme)[np.argsort(counts)]  # type: ignore[arg-type]
    assert (np.diff(weights) <= 1e-9 * weights.max()).all()


def test_a_cap_moves_weight_to_the_others_in_proportion() -> None:
    weights = class_weights(COUNTS, max_weight=2.0)
    assert weights[2] == 2.0
    assert weights[1] / weights[0] == pytest.approx(10.0)
    assert weights.sum() == pytest.approx(3.0)
    np.testing.assert_allclose(class_weights(COUNTS, "balanced", max_weight=5.0), [0.37, 3.7, 5.0])


@pytest.mark.parametrize("normalize", ["auto", "mean", "sample", None])
def test_an_excluded_class_leaves_the_others_as_if_it_were_not_there(normalize: Any) -> None:
    for scheme in SCHEMES:
        with_empty = class_weights([5000, 0, 50, 3], scheme, normalize=normalize, empty="exclude")
        without = class_weights([5000, 50, 3], scheme, normalize=normalize)
        np.testing.assert_allclose(with_empty, np.insert(without, 1, 0.0))


@pytest.mark.fault("W3")
@pytest.mark.parametrize("beta", [1 - 1e-9, 1 - 1e-15, 1.0])
def test_beta_near_one_is_finite_monotone_and_tends_to_the_inverse(beta: float) -> None:
    counts = np.unique(np.logspace(0, 9, 200).astype(np.int64))
    weights = class_weights(counts, "effective_number", beta=beta, normalize=None)
    assert np.isfinite(weights).all()
    assert (np.diff(weights) <= 0).all()
    exact = [float((1 - beta) / -math.expm1(int(n) * math.log1p(beta - 1))) if beta < 1 else 1 / n for n in counts]
    np.testing.assert_allclose(weights, exact, rtol=1e-9)


@pytest.mark.fault("W5")
def test_an_imbalance_of_ten_million_survives_float32() -> None:
    for scheme in SCHEMES:
        options = {"beta": "auto"} if scheme == "effective_number" else {}
        weights = class_weights([10_000_000, 1], scheme, **options).astype(np.float32)
        assert np.isfinite(weights).all()
        assert (weights > 0).all()


# warnings


def test_a_beta_without_effect_warns_with_the_numbers() -> None:
    with pytest.warns(
        UserWarning, match=r"beta=0.999 has no effect.*60000 images.* 1000, .*16.7 to 1.*Use beta=.*0.9999994"
    ) as caught:
        weights = class_weights([1_000_000, 700_000, 60_000], "effective_number", beta=0.999)
    assert caught[0].filename == __file__
    np.testing.assert_allclose(weights, 1.0, atol=1e-12)


@pytest.mark.parametrize(("counts", "beta"), [([5000, 100], 0.999), ([60_000, 61_000], 0.999), ([5000, 100], 0.0)])
def test_a_beta_with_an_effect_or_equal_counts_do_not_warn(counts: list[int], beta: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_weights(counts, "effective_number", beta=beta)


# errors


@pytest.mark.fault("W1")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_class_without_images_is_named(scheme: str) -> None:
    with pytest.raises(ArgumentError, match=r"`counts` is 0 for class 'truck'.*empty=\"exclude\""):
        class_weights({"car": 5, "truck": 0}, scheme)  # type: ignore[arg-type]
    assert class_weights({"car": 5, "truck": 0}, scheme, empty="exclude").tolist() == [1.0, 0.0]  # type: ignore[arg-type]


@pytest.mark.fault("W2")
@pytest.mark.parametrize("count", [-1, float("nan"), 1.5, float("inf")])
def test_counts_that_are_none_are_refused_by_class(count: float) -> None:
    with pytest.raises(ArgumentError, match="truck"):
        class_weights({"car": 5, "truck": count})  # type: ignore[dict-item]
    with pytest.raises(ArgumentTypeError, match="bool"):
        class_weights(np.array([True, False]))


@pytest.mark.fault("W4")
def test_weights_by_name_are_matched_by_name() -> None:
    weights = class_weights({"b": 1, "a": 9}, {"a": 1.0, "b": 3.0})
    assert weights.tolist() == [1.5, 0.5]
    assert class_weights([9, 1], {0: 1.0, 1: 3.0}).tolist() == [0.5, 1.5]  # type: ignore[dict-item]
    with pytest.raises(ArgumentError, match=r"`scheme` .* missing: 'b'; not a class: 'c'"):
        class_weights({"a": 9, "b": 1}, {"a": 1.0, "c": 3.0})


@pytest.mark.fault("W6")
def test_names_that_differ_in_unicode_form_or_case_are_listed() -> None:
    with pytest.raises(ArgumentError, match="same name twice, as 'café' and 'cafe\u0301'"):
        class_weights({"café": 5, "cafe\u0301": 4})
    with pytest.raises(ArgumentError, match="perhaps 'CAR' for 'car'"):
        class_weights({"car": 5, "bus": 4}, {"CAR": 1.0, "bus": 2.0})
    with pytest.raises(ArgumentError, match="perhaps 'cafe\u0301' for 'café'"):
        class_weights({"café": 5, "bus": 4}, {"cafe\u0301": 1.0, "bus": 2.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheme": "inverted"}, "`scheme` 'inverted' is unknown; did you mean inverse"),
        ({"scheme": [1.0, 2.0]}, r"`scheme` must have shape \(3,\), one number per class; got \(2,\)"),
        ({"scheme": [1.0, float("nan"), 2.0]}, "`scheme` .* class 'truck' has nan"),
        ({"scheme": [1.0, 2.0, -1.0]}, "`scheme` .* class 'motorcycle' has -1"),
        ({"scheme": ["a", "b", "c"]}, "`scheme` must hold numbers"),
        ({"scheme": [0.0, 0.0, 0.0]}, "no class a weight above 0"),
        ({"scheme": "effective_number", "beta": 1.01}, "`beta` .*1.01"),
        ({"scheme": "effective_number", "beta": float("nan")}, "`beta`"),
        ({"scheme": "effective_number", "beta": "best"}, "`beta` .*best"),
        ({"power": -1.0}, "`power` must be at least 0; got -1"),
        ({"scheme": "balanced", "power": 1.0}, "`power` is the exponent"),
        ({"max_weight": 0.0}, "`max_weight` must be above 0"),
        ({"max_weight": 0.5}, "`max_weight` must be at least 1"),
        ({"scheme": [0.0, 1.0, 1.0], "max_weight": 1.2}, "`max_weight` must be at least 1.5"),
        ({"normalize": "sum"}, "`normalize` .*sum"),
        ({"empty": "drop"}, "`empty` .*drop"),
        ({"pixels_in_images": [1, 1, 1]}, "`pixels_in_images` belongs"),
        ({"scheme": "median_frequency", "pixels_in_images": [6000, 600, 49]}, "class 'motorcycle' has 49"),
    ],
)
def test_what_cannot_be_is_refused_by_its_argument(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(CounterpoiseError, match=message):
        class_weights(COUNTS, **arguments)  # type: ignore[arg-type]


def test_no_images_at_all_is_refused() -> None:
    with pytest.raises(ArgumentError, match="above 0"):
        class_weights([0, 0], empty="exclude")


@pytest.mark.parametrize("scheme", ["inverse", "ISNS", "balanced", "uniform", "median_frequency", [1.0, 2.0]])
@pytest.mark.parametrize("beta", [0.9, "auto"])
def test_a_beta_that_the_scheme_does_not_have_is_refused(scheme, beta):
    with pytest.raises(ArgumentError, match=r'`beta` belongs to scheme="effective_number"; remove it, or use that'):
        class_weights([5, 50], scheme, beta=beta)
    class_weights([5, 50], scheme, beta=0.9999)
    class_weights([5, 50], "ENS", beta=beta)
