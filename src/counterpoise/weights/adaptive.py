"""Class weights that change during training: deferred to its end, or adapted to validation after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_indices
from counterpoise.core.counts import CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import check_options
from counterpoise.weights.schemes import Empty, Scheme, class_weights

FloatArray = NDArray[np.float64]
_STEP = 2.0  # no weight more than doubles or halves in one update


@final
class DeferredWeights:
    """Class weights that apply only towards the end of training: deferred re-weighting (DRW).

    Every class weighs 1 until a share of the epochs has passed; from then on the weights of ``scheme`` apply. The
    weights are a function of the epoch, so that nothing has to be saved to resume a training.

    Args:
        counts: training images per class.
        start: share of the epochs after which the weights apply, in [0, 1].
        scheme: scheme of the weights, or a ready vector ``(C,)``; see `class_weights`.
        empty: "error", or "exclude": a class without images weighs 0 throughout.
        **options: further arguments of `class_weights`, such as ``beta``.

    Raises:
        ArgumentError: ``start`` is not in [0, 1], or an argument that `class_weights` refuses.

    Reference: Cao et al., Label-Distribution-Aware Margin Loss, NeurIPS 2019 (arXiv:1906.07413).

    Example:
        >>> deferred = DeferredWeights([900, 100], start=0.5)
        >>> deferred.weight_at(4, epochs=10), deferred.weight_at(5, epochs=10).round(3)
        (array([1., 1.]), array([0.207, 1.793]))
    """

    def __init__(
        self,
        counts: CountsLike,
        *,
        start: float = 0.8,
        scheme: Scheme | FloatArray = "effective_number",
        empty: Empty = "error",
        **options: Any,
    ) -> None:
        check_options("reweighting", "deferred", {"start": start})
        self.start = start
        self.weight = class_weights(counts, scheme, empty=empty, **options)

    def has_started(self, epoch: int, *, epochs: int) -> bool:
        """Whether the weights apply in this epoch (the first is 0) of a training of ``epochs``."""
        return epoch >= round(self.start * epochs)

    def weight_at(self, epoch: int, *, epochs: int) -> FloatArray:
        """Class weights float64 ``(C,)`` of this epoch (the first is 0) of a training of ``epochs``."""
        return self.weight if self.has_started(epoch, epochs=epochs) else np.where(self.weight > 0, 1.0, 0.0)


def adapt_weights(
    weight: FloatArray,
    recall: FloatArray,
    false_positives: FloatArray,
    *,
    budget: float = 0.05,
    eta: float = 0.2,
    eta_fp: float = 15.0,
    max_ratio: float = 100.0,
) -> FloatArray:
    """``w_c ← clip(w_c · exp(η (r̄ − recall_c) − η' (FP_c − budget)₊))``, with average 1 over the classes.

    r̄ is the mean recall, so a class's weight rises if its recall is below the mean and falls if its false positives
    exceed the budget. A weight changes at most by a factor of two per call.

    Args:
        weight: float64 ``(C,)``, at least 0; a weight of 0 stays 0.
        recall: float64 ``(C,)`` on validation, in [0, 1]; NaN for a class without images, whose recall is ignored.
        false_positives: float64 ``(C,)``: images of other classes predicted as class c, as a share of all images of
            other classes.
        budget: share of false positives that a class may cost, at least 0.
        eta: η, rate at which weights rise with lagging recall, at least 0.
        eta_fp: η', rate at which weights fall with false positives above the budget, at least 0.
        max_ratio: upper bound of the largest over the smallest weight, at least 1; weights beyond it are clipped at
            both ends.

    Returns:
        float64 ``(C,)``.

    Raises:
        ArgumentError: a value out of its range.

    Example:
        >>> adapt_weights(np.ones(2), np.array([0.9, 0.5]), np.array([0.0, 0.01])).round(3)
        array([0.96, 1.04])
        >>> adapt_weights(np.ones(2), np.array([0.9, 0.5]), np.array([0.0, 0.25])).round(3)
        array([1.315, 0.685])
    """
    rule = {"budget": budget, "eta": eta, "eta_fp": eta_fp, "max_ratio": max_ratio}
    check_options("reweighting", "adaptive", rule)
    defined = np.isfinite(recall)
    lag = np.where(defined, np.nanmean(recall) - np.where(defined, recall, 0.0), 0.0) if defined.any() else 0.0
    excess = np.maximum(false_positives - budget, 0.0)
    moved = weight * np.clip(np.exp(eta * lag - eta_fp * excess), 1 / _STEP, _STEP)
    used = moved > 0
    middle = np.exp(np.log(moved[used]).mean())
    moved[used] = moved[used].clip(middle / max_ratio**0.5, middle * max_ratio**0.5)
    adapted: FloatArray = moved / moved[used].mean()
    return adapted


@final
class AdaptiveWeights:
    """Class weights that adapt to the recall and false positives on validation, for any training loop.

    Call `update` after each epoch with the validation labels and predictions, and give the returned weights to the
    loss. Recall and false positives are smoothed over the epochs, because a rare class has few validation images.

    Args:
        counts: training images per class; a class without images has weight 0 throughout.
        start: scheme of the first weights, or a ready vector ``(C,)``; see `class_weights`.
        smoothing: share of the earlier estimate kept at each update, in [0, 1).
        budget: share of false positives that a class may cost, at least 0; see `adapt_weights` for the rule.
        eta: rate at which weights rise with lagging recall, at least 0.
        eta_fp: rate at which weights fall with false positives above the budget, at least 0.
        max_ratio: upper bound of the largest over the smallest weight, at least 1.

    Raises:
        ArgumentError: a number out of its range.

    Example:
        >>> adaptive = AdaptiveWeights([900, 100], start="uniform")
        >>> adaptive.update(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])).round(3)
        array([0.623, 1.377])
    """

    def __init__(
        self,
        counts: CountsLike,
        *,
        start: Scheme | FloatArray = "inverse_sqrt",
        smoothing: float = 0.5,
        budget: float = 0.05,
        eta: float = 0.2,
        eta_fp: float = 15.0,
        max_ratio: float = 100.0,
    ) -> None:
        self.rule: dict[str, float] = {"budget": budget, "eta": eta, "eta_fp": eta_fp, "max_ratio": max_ratio}
        check_options("reweighting", "adaptive", {"smoothing": smoothing, **self.rule})
        self.weight = class_weights(counts, start, empty="exclude", normalize="mean")
        self.smoothing = smoothing
        self.recall = np.full(len(self.weight), np.nan)
        self.false_positives = np.full(len(self.weight), np.nan)

    def update(self, labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> FloatArray:
        """Return the weights float64 ``(C,)`` for the next epoch.

        Args:
            labels: ``(N,)`` class indices of the validation images.
            predicted: ``(N,)`` predicted class indices.

        Raises:
            ArgumentError: the shapes differ, or an index is not in ``0 .. C − 1`` (its row is named).
            ArgumentTypeError: the indices are not whole numbers.
        """
        recall, false_positives = _rates(labels, predicted, len(self.weight))
        self.recall = self._smooth(self.recall, recall)
        self.false_positives = self._smooth(self.false_positives, false_positives)
        costs = np.nan_to_num(self.false_positives)
        self.weight = adapt_weights(self.weight, self.recall, costs, **self.rule)
        return self.weight

    def state_dict(self) -> dict[str, FloatArray]:
        """The state: ``weight``, ``recall`` and ``false_positives``, each float64 ``(C,)``."""
        return {"weight": self.weight, "recall": self.recall, "false_positives": self.false_positives}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`."""
        for name in self.state_dict():
            values = np.asarray(state[name], dtype=np.float64)
            if values.shape != self.weight.shape:
                raise ArgumentError(
                    f"`state` {name!r} must have shape {self.weight.shape}; got {values.shape}; load the state of "
                    "a run on the same classes"
                )
            setattr(self, name, values)

    def _smooth(self, before: FloatArray, now: FloatArray) -> FloatArray:
        mixed = self.smoothing * before + (1 - self.smoothing) * now
        smoothed: FloatArray = np.where(np.isnan(before), now, np.where(np.isnan(now), before, mixed))
        return smoothed


def _rates(labels: Any, predicted: Any, num_classes: int) -> tuple[FloatArray, FloatArray]:
    """Recall per class, and false positives as a share of the images of other classes; NaN without images."""
    truth = checked_indices("labels", labels, shape=(np.size(labels),), num_classes=num_classes)
    guess = checked_indices("predicted", predicted, shape=truth.shape, num_classes=num_classes)
    support, given = (np.bincount(values, minlength=num_classes) for values in (truth, guess))
    right = np.bincount(truth[truth == guess], minlength=num_classes)
    with np.errstate(invalid="ignore"):
        return right / support, (given - right) / (len(truth) - support)
