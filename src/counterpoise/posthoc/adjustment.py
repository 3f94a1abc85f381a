"""Correct class priors after training: adjust logits, normalise the head's weights, tune τ, estimate a prior."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_choice, checked_number
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import check_options
from counterpoise.metrics import METRICS, tally
from counterpoise.posthoc.arrays import Array, as_float64, as_floating, as_labels, as_prior, as_scores, convert_like
from counterpoise.weights.schemes import Empty


def adjust_logits(
    logits: Array, prior: Any, *, tau: float = 1.0, target_prior: Any = None, empty: Empty = "error"
) -> Array:
    """Post-hoc logit adjustment ``z − τ (log prior − log target_prior)``.

    With ``tau=1`` and logits that are log posteriors (plus a constant per row) this is Bayes' rule. The target prior is
    uniform by default, which is right for balanced accuracy.

    Args:
        logits: ``(N, C)``, ``(N, C, ...)`` or ``(C,)``, of a model trained *without* logit adjustment. A tensor stays
            on its device and in its graph.
        prior: ``(C,)``, the class prior *as sampled* in training: the sampler's ``.prior``, not that of the dataset.
            After class-balanced sampling it is uniform, and nothing is left to correct. Counts are allowed too.
        tau: strength τ of the correction, at least 0; 0 leaves the logits as they are. See `tune_tau`.
        target_prior: ``(C,)``, the prior of the data to predict; None for uniform. A class with target prior 0 gets the
            logit -inf.
        empty: for a class with prior 0, raise an error (``"error"``) or set the logit to -inf (``"exclude"``).

    Returns:
        An array or tensor of the shape and dtype of ``logits`` (float32 for half precision).

    Raises:
        ArgumentError: a prior of the wrong length, negative, or 0 for a class (named), or a value out of range.
        ArgumentTypeError: logits that are not floating point.

    Reference: Menon et al., Long-tail learning via logit adjustment, ICLR 2021 (arXiv:2007.07314).

    Example:
        >>> adjust_logits(np.array([[2.0, 1.0]]), [0.9, 0.1]).round(3)
        array([[2.105, 3.303]])
    """
    given = as_floating(logits, "logits")
    if given.ndim == 0:
        raise ArgumentError("`logits` must have a class dimension: (N, C), (N, C, ...) or (C,); got a number")
    check_options("posthoc", "adjust_logits", {"tau": tau})
    axis = 1 if given.ndim > 1 else 0
    num_classes = given.shape[axis]
    shares = _checked_prior(prior, num_classes, empty)
    shift = tau * np.log(np.where(shares > 0, shares, 1.0))
    if target_prior is not None and tau != 0:
        with np.errstate(divide="ignore"):  # a class that cannot occur gets the logit -inf
            shift = shift - tau * np.log(as_prior(target_prior, num_classes, "target_prior"))
    shift[shares == 0] = np.inf
    shape = [1] * given.ndim
    shape[axis] = num_classes
    adjusted: Array = given - convert_like(shift.reshape(shape), given)
    return adjusted


def prior_after_adjustment(prior: Any, tau: float) -> NDArray[np.float64]:
    """The class prior that logit adjustment of strength τ leaves in the logits: ``∝ prior^(1 − τ)``.

    Args:
        prior: ``(C,)``, the prior in the logits before; a class with share 0 keeps it.
        tau: strength τ, at least 0.

    Returns:
        float64 ``(C,)``, summing to 1.

    Example:
        >>> prior_after_adjustment([0.8, 0.2, 0.0], tau=1.0)
        array([0.5, 0.5, 0. ])
    """
    given = np.asarray(prior, dtype=np.float64)
    shares = np.where(given > 0, np.where(given > 0, given, 1.0) ** (1.0 - tau), 0.0)
    adjusted: NDArray[np.float64] = shares / shares.sum()
    return adjusted


def _checked_prior(prior: Any, num_classes: int, empty: Empty) -> NDArray[np.float64]:
    checked_choice("empty", empty, get_args(Empty))
    shares = as_prior(prior, num_classes)
    absent = np.flatnonzero(shares == 0)
    if absent.size and empty == "error":
        raise ArgumentError(
            f'`prior` is 0 for class {absent[:10].tolist()}, which training never sampled; give empty="exclude" to '
            "rule it out, or a smoothed prior (ClassCounts.prior(smoothing=...))"
        )
    return shares


def tau_normalize(weight: Array, *, tau: float = 1.0) -> Array:
    """τ-normalisation ``w_c / ||w_c||^τ`` of the weights of a linear head, whose norms are larger for frequent classes.

    The logits are then ``features @ weight.T``, without bias; from saved logits of a linear head they are
    ``(logits − bias) / norm^τ``.

    Args:
        weight: ``(C, D)`` of the last linear layer, an array or a tensor.
        tau: strength τ: 0 leaves the weights as they are, 1 makes every row a unit vector.

    Returns:
        An array or tensor ``(C, D)`` of the dtype of ``weight`` (float32 for half precision). A row of zeros stays so.

    Raises:
        ArgumentError: a weight that is not ``(C, D)``, or a tau that is not finite.
        ArgumentTypeError: a weight that is not floating point.

    Reference: Kang et al., Decoupling Representation and Classifier, ICLR 2020 (arXiv:1910.09217).

    Example:
        >>> tau_normalize(np.array([[3.0, 4.0], [0.0, 1.0]]))
        array([[0.6, 0.8],
               [0. , 1. ]])
    """
    given = as_floating(weight, "weight")
    if given.ndim != 2:
        raise ArgumentError(f"`weight` must have shape (C, D); got {tuple(given.shape)}")
    checked_number("tau", tau)
    norms = np.linalg.norm(as_float64(given, "weight"), axis=1, keepdims=True)
    normalised: Array = given / convert_like(np.where(norms > 0, norms, 1.0) ** tau, given)
    return normalised


def tune_tau(
    logits: Any,
    labels: Any,
    prior: Any,
    *,
    metric: str = "balanced_accuracy",
    taus: Sequence[float] | NDArray[Any] | None = None,
) -> float:
    """Choose the τ of `adjust_logits` with the best metric. Use validation images, never test images.

    Args:
        logits: ``(N, C)``, an array or tensor, of a model trained without logit adjustment.
        labels: ``(N,)`` class indices.
        prior: ``(C,)``, the class prior as sampled in training; a class with prior 0 is never predicted.
        metric: "balanced_accuracy", "accuracy", "macro_f1", "geometric_mean" or "worst_recall" (the smallest recall);
            classes without images do not count.
        taus: the values to try, at least 0; None for 0 to 3 in steps of 0.05.

    Returns:
        The best of ``taus``; among equally good values the one nearest to 1, the theoretical value.

    Raises:
        ArgumentError: shapes that do not match, a label out of range (its row is named), or an unknown metric.

    Example:
        >>> logits = np.array([[2.0, 1.0], [2.0, 1.5], [2.0, 0.0]])
        >>> tune_tau(logits, [0, 1, 0], [0.9, 0.1], taus=[0.0, 0.4, 2.0])
        0.4
    """
    scores = as_scores(logits, "logits")
    truth = as_labels(labels, *scores.shape)
    checked_choice("metric", metric, tuple(METRICS))
    grid = np.linspace(0.0, 3.0, 61) if taus is None else as_float64(taus, "taus").reshape(-1)
    if not grid.size or not np.isfinite(grid).all():
        raise ArgumentError("`taus` must hold at least one number, all of them finite")

    def score(tau: float) -> float:
        adjusted = adjust_logits(scores, prior, tau=tau, empty="exclude")
        counted = tally(truth, adjusted.argmax(axis=1), num_classes=scores.shape[1])
        return float(METRICS[metric].value(counted))

    return min((round(float(tau), 12) for tau in grid), key=lambda tau: (-score(tau), abs(tau - 1.0)))


def estimate_prior(
    probs: Any, train_prior: Any, *, tolerance: float = 1e-8, max_iterations: int = 10_000
) -> NDArray[np.float64]:
    """Estimate the class prior of unlabelled images by expectation maximisation.

    Repeats ``p_i(c) ∝ p(c | x_i) q_c / π_c`` and ``q_c = mean_i p_i(c)`` until no q_c changes by more than
    ``tolerance``. Give q to `adjust_logits` as ``target_prior``.

    The probabilities must be calibrated for the training prior (`fit_temperature`), and within a class the images must
    look as in training. Overconfident probabilities give a q too close to the predicted shares.

    Args:
        probs: ``(N, C)``, rows that sum to 1: ``softmax(logits)`` of a model trained without logit adjustment.
        train_prior: ``(C,)``, π as sampled in training. A class with π = 0 gets q = 0.
        tolerance: largest change of any q_c at which to stop.
        max_iterations: number of steps after which to stop with a warning.

    Returns:
        q, float64 ``(C,)``, summing to 1.

    Raises:
        ArgumentError: no images, a row that is no distribution (named), or a prior that does not match.

    Warns:
        UserWarning: the estimate has not converged.

    Reference: Saerens, Latinne and Decaestecker, Neural Computation 14, 2002.

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
        f"the estimate still changes by {change:.2g} after {max_iterations} steps (`tolerance` {tolerance:.2g}); "
        "raise `max_iterations`, or do not use the estimate: the classes may be too similar to tell their shares",
        UserWarning,
        stacklevel=2,
    )
    return q
