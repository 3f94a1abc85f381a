"""Class weights that change during training: deferred to its end, or adapted to validation after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.counts import CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.weights.schemes import Scheme, class_weights

__all__ = ["AdaptiveWeights", "DeferredWeights", "adapt_weights"]

FloatArray = NDArray[np.float64]
_STEP = 2.0  # no weight more than doubles or halves in one update


@final
class DeferredWeights:
    """Class weights that apply only towards the end of training: deferred re-weighting (DRW).

    Every class weighs 1 until a share of the epochs has passed; from then on the weights of ``scheme`` apply. The
    weights are a function of the epoch, so that nothing has to be saved to resume a training. From Cao et al.,
    "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019 (arXiv:1906.07413).

    Args:
        counts: training images per class.
        start: share of the epochs after which the weights apply, in [0, 1].
        scheme: scheme of the weights, or a ready vector ``(C,)``; see `class_weights`.
        empty: "error", or "exclude": a class without images weighs 0 throughout.
        **options: further arguments of `class_weights`, such as ``beta``.

    Raises:
        ArgumentError: ``start`` is not in [0, 1], or an argument that `class_weights` refuses.

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
        empty: Literal["error", "exclude"] = "error",
        **options: Any,
    ) -> None:
        if not 0 <= start <= 1:
            raise ArgumentError(f"`start` is a share of the epochs and must be in [0, 1]; got {start}")
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

    r̄ is the mean recall: a target common to all classes is taken out again by the averaging, so that what counts is
    who lags behind whom. No weight more than doubles or halves at once.

    Args:
        weight: ``(C,)``, at least 0; a 0 stays.
        recall: ``(C,)`` on validation, in [0, 1]; NaN for a class without images, whose recall then says nothing.
        false_positives: ``(C,)``, images of other classes given to class c, as a share of all images of other classes.
        budget: the share of false positives that a class may cost.
        eta, eta_fp: how fast weights rise with lagging recall and fall with false positives above the budget.
        max_ratio: largest weight over smallest, at most; beyond it weights are cut at both ends.

    Returns:
        float64 ``(C,)``.

    Example:
        >>> adapt_weights(np.ones(2), np.array([0.9, 0.5]), np.array([0.0, 0.01])).round(3)
        array([0.96, 1.04])
        >>> adapt_weights(np.ones(2), np.array([0.9, 0.5]), np.array([0.0, 0.25])).round(3)
        array([1.315, 0.685])
    """
    _check(budget=budget, eta=eta, eta_fp=eta_fp)
    if not (np.isfinite(max_ratio) and max_ratio >= 1):
        raise ArgumentError(f"`max_ratio` must be finite and at least 1; got {max_ratio}")
    known = np.isfinite(recall)
    lag = np.where(known, np.nanmean(recall) - np.where(known, recall, 0.0), 0.0) if known.any() else 0.0
    excess = np.maximum(false_positives - budget, 0.0)
    moved = weight * np.clip(np.exp(eta * lag - eta_fp * excess), 1 / _STEP, _STEP)
    used = moved > 0
    middle = np.exp(np.log(moved[used]).mean())
    moved[used] = moved[used].clip(middle / max_ratio**0.5, middle * max_ratio**0.5)
    adapted: FloatArray = moved / moved[used].mean()
    return adapted


def _check(**rates: float) -> None:
    for name, value in rates.items():
        if not (np.isfinite(value) and value >= 0):
            raise ArgumentError(f"`{name}` must be finite and at least 0; got {value}")


@final
class AdaptiveWeights:
    """Keeps the weights of `adapt_weights` from one validation to the next; works with any training loop.

    Call `update` after each epoch with what validation saw, and put `weight` into the loss. Recall and false positives
    are smoothed over the epochs, since a rare class has few validation images.

    Args:
        counts: of the training split; a class without images gets weight 0 and keeps it.
        start: scheme of the first weights, or a ready vector; see `class_weights`.
        smoothing: share of the earlier estimate that stays at each update, in [0, 1).
        budget, eta, eta_fp, max_ratio: see `adapt_weights`.

    Raises:
        ArgumentError: a number out of its range, or labels that are no class ids.

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
        if not 0 <= smoothing < 1:
            raise ArgumentError(f"`smoothing` must be in [0, 1); got {smoothing}")
        self.weight = class_weights(counts, start, empty="exclude", normalize="mean")
        self.smoothing = smoothing
        self.rule: dict[str, float] = {"budget": budget, "eta": eta, "eta_fp": eta_fp, "max_ratio": max_ratio}
        self.recall = np.full(len(self.weight), np.nan)
        self.false_positives = np.full(len(self.weight), np.nan)

    def update(self, labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> FloatArray:
        """The weights for the next epoch, from validation labels and predictions, both ``(N,)`` class ids."""
        recall, false_positives = _rates(labels, predicted, len(self.weight))
        self.recall = self._smooth(self.recall, recall)
        self.false_positives = self._smooth(self.false_positives, false_positives)
        costs = np.nan_to_num(self.false_positives)
        self.weight = adapt_weights(self.weight, self.recall, costs, **self.rule)
        return self.weight

    def state_dict(self) -> dict[str, FloatArray]:
        """Three arrays ``(C,)``: weight, recall, false_positives."""
        return {"weight": self.weight, "recall": self.recall, "false_positives": self.false_positives}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        for name in self.state_dict():
            values = np.asarray(state[name], dtype=np.float64)
            if values.shape != self.weight.shape:
                raise ArgumentError(
                    f"`state` {name!r} must have shape {self.weight.shape}; got {values.shape}: another dataset?"
                )
            setattr(self, name, values)

    def _smooth(self, before: FloatArray, now: FloatArray) -> FloatArray:
        mixed = self.smoothing * before + (1 - self.smoothing) * now
        smoothed: FloatArray = np.where(np.isnan(before), now, np.where(np.isnan(now), before, mixed))
        return smoothed


def _rates(labels: Any, predicted: Any, num_classes: int) -> tuple[FloatArray, FloatArray]:
    """Recall of each class, and its false positives as a share of the images of the others; NaN without images."""
    pair = [np.asarray(values) for values in (labels, predicted)]
    for name, values in zip(("labels", "predicted"), pair, strict=True):
        if values.dtype.kind not in "iu" or values.shape != (len(pair[0]),):
            raise ArgumentError(
                f"`{name}` must be class ids of shape ({len(pair[0])},); got {values.dtype} {values.shape}"
            )
        if len(values) and not (values.min() >= 0 and values.max() < num_classes):
            raise ArgumentError(f"`{name}` must hold class ids in 0 .. {num_classes - 1}; got {values.max()}")
    truth, said = pair
    support, given = (np.bincount(values, minlength=num_classes) for values in pair)
    right = np.bincount(truth[truth == said], minlength=num_classes)
    others = len(truth) - support
    with np.errstate(invalid="ignore"):
        return right / support, (given - right) / others
