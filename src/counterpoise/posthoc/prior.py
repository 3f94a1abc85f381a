"""The class prior of unlabelled images, from the probabilities that a model gives them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError
from counterpoise.posthoc.arrays import as_prior, as_scores

__all__ = ["estimate_prior"]


def estimate_prior(
    probs: Any, train_prior: Any, *, tolerance: float = 1e-8, max_iterations: int = 10_000
) -> NDArray[np.float64]:
    """The class prior q of the images that ``probs`` are about, by expectation maximisation.

    ``p_i(c) ∝ p(c | x_i) q_c / π_c``, then ``q_c = mean_i p_i(c)``, until no q_c changes by more than ``tolerance``.
    Give q to `adjust_logits` as ``target_prior``. Saerens, Latinne and Decaestecker, Neural Computation 14 (2002).

    It needs probabilities that are calibrated for the training prior (`fit_temperature`), and classes that look as they
    did in training; overconfident ones give a q that is too near to the predicted shares.

    Args:
        probs: ``(N, C)``, rows that sum to 1: ``softmax(logits)`` of a model trained without adjustment.
        train_prior: ``(C,)``, π as sampled in training. A class with π = 0 gets q = 0.
        tolerance: largest change of any q_c at which to stop.
        max_iterations: steps after which to stop anyway, with a warning.

    Returns:
        q, float64 ``(C,)``, summing to 1.

    Raises:
        ArgumentError: no images, a row that is no distribution (named), a prior that does not fit.

    Warns:
        UserWarning: it has not converged.

    Example:
        >>> probs = np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 7)
        >>> estimate_prior(probs, [0.5, 0.5]).round(4)
        array([0.3125, 0.6875])
    """
    p = as_scores(probs, "probs")
    prior = as_prior(train_prior, p.shape[1], "train_prior")
    if not len(p):
        raise ArgumentError("`probs` must have at least one row")
    wrong = ~((p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1.0) < 1e-3))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ArgumentError(
            f"`probs` must be distributions; row {row} sums to {p[row].sum():.6g}: give softmax(logits)"
        )
    likelihood = np.divide(p, prior, out=np.zeros_like(p), where=prior > 0)
    unseen = ~likelihood.any(axis=1)
    if unseen.any():
        raise ArgumentError(f"`train_prior` is 0 for every class that `probs` row {int(np.argmax(unseen))} allows")
    q, change = prior, np.inf
    for _ in range(max_iterations):
        posterior = likelihood * q
        posterior /= posterior.sum(axis=1, keepdims=True)
        update: NDArray[np.float64] = posterior.mean(axis=0)
        change, q = float(np.abs(update - q).max()), update
        if change < tolerance:
            return q
    warnings.warn(
        f"the prior still changes by {change:.2g} after {max_iterations} steps (tolerance {tolerance:.2g}); the "
        "classes may be too alike to tell their shares",
        UserWarning,
        stacklevel=2,
    )
    return q
