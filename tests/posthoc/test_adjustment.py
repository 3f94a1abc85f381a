"""Logit adjustment after training: against Bayes' rule, in NumPy and in torch, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.posthoc import adjust_logits

MEANS = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
TRAIN, TEST = np.array([0.9, 0.08, 0.02]), np.array([0.2, 0.3, 0.5])


def log_likelihood(x: np.ndarray) -> np.ndarray:
    """log p(x | c) of unit Gaussians around the means, without the constant."""
    return -0.5 * ((x[:, None, :] - MEANS) ** 2).sum(-1)


def test_it_is_bayes_rule_on_a_gaussian_mixture() -> None:
    x = np.random.default_rng(0).normal(size=(500, 2)) * 2
    trained = log_softmax(log_likelihood(x) + np.log(TRAIN), axis=1)  # what a perfect model of the training data says
    uniform = softmax(log_likelihood(x), axis=1)
    shifted = softmax(log_likelihood(x) + np.log(TEST), axis=1)
    np.testing.assert_allclose(softmax(adjust_logits(trained, TRAIN), axis=1), uniform, rtol=1e-10)
    np.testing.assert_allclose(softmax(adjust_logits(trained, TRAIN, target_prior=TEST), axis=1), shifted, rtol=1e-10)


def test_a_raw_logit_by_hand() -> None:
    adjusted = adjust_logits(np.array([[1.0, 0.0]]), [0.9, 0.1], tau=0.5)
    np.testing.assert_allclose(adjusted, [[1 - 0.5 * np.log(0.9), -0.5 * np.log(0.1)]])
    np.testing.assert_array_equal(adjust_logits(np.array([[1.0, 0.0]]), [0.9, 0.1], tau=0.0), [[1.0, 0.0]])


def test_a_uniform_prior_changes_no_prediction_and_counts_do_as_well() -> None:
    logits = np.random.default_rng(1).normal(size=(50, 3))
    np.testing.assert_allclose(softmax(adjust_logits(logits, np.full(3, 1 / 3)), axis=1), softmax(logits, axis=1))
    np.testing.assert_allclose(adjust_logits(logits, [90, 8, 2]), adjust_logits(logits, TRAIN))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_tensor_stays_one_and_in_its_graph(dtype: torch.dtype) -> None:
    logits = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    adjusted = adjust_logits(logits, torch.tensor(TRAIN))
    assert adjusted.dtype == (dtype if dtype.itemsize >= 4 else torch.float32)
    expected = adjust_logits(logits.detach().double().numpy(), TRAIN)
    np.testing.assert_allclose(adjusted.detach().numpy(), expected, rtol=1e-5, atol=1e-5)
    adjusted.sum().backward()
    assert logits.grad is not None
    assert (logits.grad == 1).all()


def test_permuting_the_classes_commutes() -> None:
    logits, order = np.random.default_rng(2).normal(size=(9, 3)), [2, 0, 1]
    np.testing.assert_array_equal(adjust_logits(logits, TRAIN)[:, order], adjust_logits(logits[:, order], TRAIN[order]))


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_a_class_never_trained_is_an_error_or_ruled_out(tau: float) -> None:
    with pytest.raises(ArgumentError, match=r"`prior` is 0 for class \[1\]"):
        adjust_logits(np.zeros((1, 2)), [1.0, 0.0], tau=tau)
    assert adjust_logits(np.zeros((1, 2)), [1.0, 0.0], tau=tau, empty="exclude").tolist() == [[0.0, -np.inf]]


def test_a_class_that_cannot_occur_is_ruled_out() -> None:
    adjusted = adjust_logits(np.zeros((1, 3)), TRAIN, target_prior=[0.5, 0.5, 0.0])
    assert adjusted[0, 2] == -np.inf
    assert np.isfinite(adjusted[0, :2]).all()


@pytest.mark.parametrize(
    ("prior", "options", "message"),
    [
        ([0.5, 0.5], {}, r"`prior` must have shape \(3,\), one number per class; got \(2,\)"),
        ([0.5, -0.1, 0.6], {}, "`prior` .* class 1 has -0.1"),
        ([0.5, np.nan, 0.5], {}, "`prior` .* class 1 has nan"),
        ([0.0, 0.0, 0.0], {}, "`prior` must not be 0 for every class"),
        (TRAIN, {"target_prior": [1.0]}, "`target_prior` must have shape"),
        (TRAIN, {"tau": np.inf}, "`tau` must be at least 0; got inf"),
        (TRAIN, {"tau": -1.0}, "`tau` must be at least 0; got -1"),
        (TRAIN, {"empty": "skip"}, "`empty` .*skip"),
    ],
)
def test_what_cannot_be_is_refused(prior: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        adjust_logits(np.zeros((2, 3)), prior, **options)  # type: ignore[arg-type]


def test_logits_of_a_wrong_kind_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="`logits`"):
        adjust_logits(np.array([["a", "b"]]), [0.5, 0.5])
    with pytest.raises(ArgumentTypeError, match="`logits` must be floating point"):
        adjust_logits(torch.zeros(2, 2, dtype=torch.int64), [0.5, 0.5])


def test_posthoc_imports_no_torch() -> None:
    code = "import sys, counterpoise.posthoc; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
