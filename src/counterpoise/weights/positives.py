"""The weight of positives against negatives, for sigmoid losses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.weights.schemes import Empty, checked_cap, refuse_empty

__all__ = ["pos_weight"]


def pos_weight(
    counts: CountsLike, *, total: int | None = None, max_weight: float | None = None, empty: Empty = "error"
) -> NDArray[np.float64]:
    """Negatives over positives of each class: ``(total - n_c) / n_c``, what torch's BCE calls ``pos_weight``.

    Args:
        counts: images with each class: a `ClassCounts` (`ClassCounts.from_multilabel` knows its total), ``(C,)`` whole
            numbers, or ``{name: count}``.
        total: number of images N. Default: the counts' own total; for a bare array or mapping that is the sum, which
            is right where every image has exactly one class. Give it for multi-label counts.
        max_weight: no weight is larger.
        empty: what a class without a positive does: ``"error"``, or ``"exclude"`` (weight 0).

    Returns:
        float64 ``(C,)``.

    Raises:
        ArgumentError: a class without positives (named), or with more positives than ``total``.

    Example:
        >>> pos_weight([50, 10], total=100)
        array([1., 9.])
    """
    counts = counts if isinstance(counts, ClassCounts) else ClassCounts(counts)
    refuse_empty(counts, empty)
    n, everything = counts.counts, counts.total if total is None else total
    if (n > everything).any():
        c = int(np.argmax(n > everything))
        raise ArgumentError(
            f"`total` must be at least every count; class {counts.names[c]!r} has {n[c]} of {everything}"
        )
    weights = np.divide(everything - n, n, out=np.zeros(len(n)), where=n > 0)
    cap = checked_cap(max_weight)
    return weights if cap is None else np.minimum(weights, cap)
