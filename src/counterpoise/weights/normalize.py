"""Scaling of class weights: the average that is made 1, under a cap that then really holds."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.errors import ArgumentError

__all__ = ["Normalize", "scale_weights"]

FloatArray = NDArray[np.float64]
Normalize = Literal["mean", "sample", "auto"]


def scale_weights(
    raw: FloatArray, counts: NDArray[np.int64], *, how: Literal["mean", "sample"] | None, max_weight: float | None
) -> FloatArray:
    """Scale ``raw`` so that its average is 1 and cut it at ``max_weight``, both at once.

    With ``how=None`` this is ``min(raw, max_weight)``. Otherwise it is ``min(s raw, max_weight)`` with the one scale
    ``s`` for which the average (over the classes, or over the samples) is 1: what the cap takes from the rarest
    classes goes to the others, so neither promise breaks the other.
    """
    if how is None:
        return raw if max_weight is None else np.minimum(raw, max_weight)
    share = np.ones_like(raw) if how == "mean" else counts.astype(np.float64)
    share = share / share.sum()
    if not (raw * share).sum() > 0:
        raise ArgumentError(f"`scheme` gives no class a weight above 0; their average cannot be 1 (normalize={how!r})")
    if max_weight is None:
        mean_one: FloatArray = raw / (raw * share).sum()
        return mean_one
    return _fill(raw, share, max_weight)


def _fill(raw: FloatArray, share: FloatArray, cap: float) -> FloatArray:
    reach = share[raw > 0].sum() * cap
    if reach < 1.0 - 1e-12:
        raise ArgumentError(
            f"`max_weight` must be at least {cap / reach:.6g} for an average weight of 1; got {cap} "
            "(normalize=None caps without averaging)"
        )
    capped = np.zeros(len(raw), dtype=bool)
    while True:  # each round caps at least one more class, so it ends after at most C rounds
        open_mass = (raw * share)[~capped].sum()
        rest = max(1.0 - cap * share[capped].sum(), 0.0)
        scaled = np.where(capped, cap, raw * (rest / open_mass if open_mass > 0 else 0.0))
        over = ~capped & (scaled > cap)
        if not over.any():
            return scaled
        capped |= over
