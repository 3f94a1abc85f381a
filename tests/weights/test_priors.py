"""The prior that training sees, and corrections that add up."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from counterpoise.core.errors import CounterpoiseError
from counterpoise.weights import class_weights, correction, effective_prior

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
        UserWarning, match=r"differ 90 to 1; corrected by 8.1e\+03: sampler 90, weights 90, .* 1\."
    ) as told:
        correction(PRIOR, sampled=uniform, weight=inverse)
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match=r"corrected by 7.29e\+05"):
        correction(PRIOR, sampled=uniform, weight=inverse, adjusted=PRIOR)


def test_a_class_without_images_takes_no_part() -> None:
    assert correction([0.9, 0.0, 0.1], weight=[1.0, 0.0, 9.0]).applied == pytest.approx(9)
    with pytest.warns(UserWarning, match="corrected by inf"):
        correction([0.9, 0.1], weight=[0.0, 1.0])


@pytest.mark.filterwarnings("ignore:the prior is corrected")
@pytest.mark.parametrize(
    ("prior", "options", "message"),
    [
        ([0.0, 0.0], {}, "`prior` must not be 0 for every class"),
        ([0.5, -0.1], {}, "`prior` must be finite and at least 0; class 1 has -0.1"),
        ([[0.5, 0.5]], {}, r"`prior` must have shape \(C,\)"),
        (["a", "b"], {}, "`prior` must hold numbers"),
        ([0.5, 0.5], {"weight": [1.0]}, r"`weight` must have shape \(2,\); got \(1,\)"),
        ([0.5, 0.5], {"weight": [1.0, np.inf]}, "`weight` .* class 1 has inf"),
    ],
)
def test_what_does_not_fit_is_refused(prior: object, options: dict[str, object], message: str) -> None:
    for function in (effective_prior, correction):
        with pytest.raises(CounterpoiseError, match=message):
            function(prior, **options)  # type: ignore[arg-type, operator]
    with pytest.raises(CounterpoiseError, match="no prior is left"):
        effective_prior([1.0, 0.0], weight=[0.0, 1.0])
