"""The prior that training sees, and corrections that add up."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from counterpoise.core.errors import CounterpoiseError
from counterpoise.weights import Correction, class_weights, correction, effective_prior

COUNTS = np.array([900, 90, 10])
PRIOR = COUNTS / COUNTS.sum()


def test_the_effective_prior_is_that_of_weighted_duplicates() -> None:
    # weights 1, 2, 5 are the data with every image of the classes once, twice and five times
    duplicated = COUNTS * [1, 2, 5]
    np.testing.assert_allclose(effective_prior(PRIOR, weight=[1, 2, 5]), duplicated / duplicated.sum())
    np.testing.assert_allclose(effective_prior(PRIOR, weight=class_weights(COUNTS)), np.full(3, 1 / 3))
    np.testing.assert_allclose(effective_prior(COUNTS), PRIOR)


def test_each_correction_is_counted_by_itself() -> None:
    sqrt = np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()
    found = correction(PRIOR, sampled=sqrt, weight=class_weights(COUNTS, power=0.25), adjusted=PRIOR, tau=0.25)
    assert found.wanted == pytest.approx(90)
    assert found.sampler == pytest.approx(90**0.5)
    assert found.weights == pytest.approx(90**0.25)
    assert found.adjustment == pytest.approx(90**0.25)
    assert found.applied == pytest.approx(90)
    assert correction(PRIOR).applied == 1.0


def test_correcting_once_is_silent_and_more_is_told_with_the_numbers() -> None:
    uniform, inverse = np.full(3, 1 / 3), class_weights(COUNTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        correction(PRIOR, sampled=uniform)
        correction(PRIOR, weight=inverse)
        correction(PRIOR, adjusted=PRIOR)
        correction(PRIOR, sampled=uniform, adjusted=uniform)  # the prior as sampled has nothing left to adjust
    with pytest.warns(
        UserWarning,
        match="twice: the sampler already draws .* 90 times .*, and class weights raise that to about 8,100",
    ) as told:
        correction(PRIOR, sampled=uniform, weight=inverse)
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="three times: .* logit adjustment raises that to about 730,000"):
        correction(PRIOR, sampled=uniform, weight=inverse, adjusted=PRIOR)


@pytest.mark.parametrize(
    ("factors", "advice"),
    [
        ((90, 90, 1), "mine compensates the imbalance twice: .* Remove the sampler or the class weights."),
        (
            (90, 1, 90),
            "twice: .*, and logit adjustment raises .* 8,100. Keep one of them, or give logit adjustment the",
        ),
        ((1, 90, 1, 5), r"twice: .* the focal term raises that to about 450. Use milder weights, .*inverse_sqrt"),
        ((1, 180, 1), "too strongly: class weights already give .* 180 times the weight .*. Use milder weights"),
        ((1, 1, 8100), "too strongly: logit adjustment already favours .*. Use a smaller `tau`."),
        ((90, 1, 1, 5), "twice: .* Use a milder sampler, for example `power=0.5`."),
    ],
)
def test_the_advice_names_the_methods_and_ends_in_an_action(factors: tuple[float, ...], advice: str) -> None:
    found = Correction(90, *factors)
    assert re.search(advice, found.advice_for("mine") or "")
    assert found.advice == (found.advice_for("this combination"))
    assert Correction(90, 90, 1, 1).advice is None


def test_a_class_without_images_takes_no_part() -> None:
    assert correction([0.9, 0.0, 0.1], weight=[1.0, 0.0, 9.0]).applied == pytest.approx(9)
    with pytest.warns(UserWarning, match="class weights .* inf times"):
        correction([0.9, 0.1], weight=[0.0, 1.0])


@pytest.mark.filterwarnings("ignore:this combination compensates")
@pytest.mark.parametrize(
    ("prior", "options", "message"),
    [
        ([0.0, 0.0], {}, "`prior` must not be 0 for every class"),
        ([0.5, -0.1], {}, "`prior` must be finite and at least 0; class 1 has -0.1"),
        ([[0.5, 0.5]], {}, r"`prior` must have shape \(C,\)"),
        (["a", "b"], {}, "`prior` must hold numbers"),
        ([0.5, 0.5], {"weight": [1.0]}, r"`weight` must have shape \(2,\), one number per class; got \(1,\)"),
        ([0.5, 0.5], {"weight": [1.0, np.inf]}, "`weight` .* class 1 has inf"),
    ],
)
def test_what_does_not_fit_is_refused(prior: object, options: dict[str, object], message: str) -> None:
    for function in (effective_prior, correction):
        with pytest.raises(CounterpoiseError, match=message):
            function(prior, **options)  # type: ignore[arg-type, operator]
    with pytest.raises(CounterpoiseError, match="no prior is left"):
        effective_prior([1.0, 0.0], weight=[0.0, 1.0])
