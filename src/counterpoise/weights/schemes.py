"""Class weights from class counts: the schemes, by name, and what each one computes."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.weights.normalize import Normalize, scale_weights

__all__ = ["SCHEMES", "Scheme", "by_name", "checked_cap", "class_weights", "refuse_empty"]

FloatArray = NDArray[np.float64]
Scheme = Literal["uniform", "inverse", "inverse_sqrt", "effective_number", "median_frequency", "balanced"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
Empty = Literal["error", "exclude"]

# A β "does nothing" when the weights it gives differ by less than 5 % although the counts differ by more than 50 %.
_FLAT, _IMBALANCED = 1.05, 1.5


def class_weights(
    counts: CountsLike,
    scheme: Scheme | Mapping[str, float] | Sequence[float] | NDArray[Any] = "inverse",
    *,
    beta: float | Literal["auto"] = 0.9999,
    power: float | None = None,
    max_weight: float | None = None,
    normalize: Normalize | None = "auto",
    empty: Empty = "error",
    pixels_in_images: CountsLike | None = None,
) -> FloatArray:
    """Weights of the classes, from how many training images each has.

    ======================  ===============================================================================
    ``uniform``             1
    ``inverse``             1 / n_c, or n_c^-q with ``power=q``
    ``inverse_sqrt``        1 / sqrt(n_c)
    ``effective_number``    (1 - beta) / (1 - beta^n_c)            Cui et al. 2019, arXiv:1901.05555
    ``median_frequency``    median(f) / f_c                        Eigen and Fergus 2015, arXiv:1411.4734
    ``balanced``            N / (C n_c)                            scikit-learn's ``class_weight="balanced"``
    ======================  ===============================================================================

    f_c is n_c / N; with ``pixels_in_images`` the pixels of class c over the pixels of the images that contain it.

    A weight vector multiplied by a constant is the same weighting under a loss's ``reduction="mean"`` and another
    learning rate under ``"batchmean"`` or ``"sum"``; that is what ``normalize`` is for.

    Args:
        counts: a `ClassCounts`, ``(C,)`` whole numbers, or ``{name: count}``. Of the training split.
        scheme: a name from the table, or weights of your own: ``(C,)`` numbers in the order of the classes, or
            ``{name: weight}``, matched by name. They are normalised like any other; ``normalize=None`` keeps them.
        beta: of ``effective_number``, in [0, 1]; 1 is the limit 1 / n_c. ``"auto"`` is (N - 1) / N.
        power: exponent q >= 0 of ``inverse``.
        max_weight: no weight is larger, after normalising; the average stays what ``normalize`` says.
        normalize: ``"mean"`` for an average of 1 over the classes (they sum to C), ``"sample"`` for an average of 1
            over the training samples, None for the bare formula; ``"auto"`` is None for ``balanced``, else ``"mean"``.
        empty: what a class with count 0 does: ``"error"``, or ``"exclude"`` (weight 0; it counts in no average).
        pixels_in_images: of ``median_frequency``: per class, the pixels of all images in which it occurs.

    Returns:
        float64 ``(C,)``, finite and non-negative.

    Raises:
        ArgumentError: an unknown scheme, a value out of its range, an empty class (named), or names that do not
            match (listed).
        ArgumentTypeError: the counts are not whole numbers or the weights are not numbers.

    Warns:
        UserWarning: ``beta`` does nothing, because every n_c is far above 1 / (1 - beta).

    Example:
        >>> class_weights({"car": 5000, "truck": 500, "motorcycle": 50}).round(3)
        array([0.027, 0.27 , 2.703])
        >>> class_weights([5000, 500, 50], "balanced").round(2)
        array([ 0.37,  3.7 , 37.  ])
    """
    counts = counts if isinstance(counts, ClassCounts) else ClassCounts(counts)
    if pixels_in_images is not None and not (isinstance(scheme, str) and scheme == "median_frequency"):
        raise ArgumentError('`pixels_in_images` belongs to scheme="median_frequency"; leave it out here')
    if power is not None and not (isinstance(scheme, str) and scheme == "inverse"):
        raise ArgumentError('`power` changes the exponent of scheme="inverse"; leave it out here')
    refuse_empty(counts, empty)
    present = counts.counts > 0
    if isinstance(scheme, str):
        raw = _formula(scheme, counts, beta=beta, power=power, pixels_in_images=pixels_in_images)
    else:
        raw = by_name(scheme, counts.names, argument="scheme")
    how = _resolve(normalize, scheme)
    weights = np.zeros(counts.num_classes)
    weights[present] = scale_weights(raw[present], counts.counts[present], how=how, max_weight=checked_cap(max_weight))
    return weights


def _formula(
    scheme: str,
    counts: ClassCounts,
    *,
    beta: float | Literal["auto"],
    power: float | None,
    pixels_in_images: CountsLike | None,
) -> FloatArray:
    n = np.maximum(counts.counts, 1).astype(np.float64)  # empty classes are cut out afterwards
    formulas: dict[str, Callable[[], FloatArray]] = {
        "uniform": lambda: np.ones_like(n),
        "inverse": lambda: 1.0 / n if power is None else n ** -_at_least_0("power", power),
        "inverse_sqrt": lambda: 1.0 / np.sqrt(n),
        "effective_number": lambda: _effective(counts, beta),
        "median_frequency": lambda: _median_frequency(counts, pixels_in_images),
        "balanced": lambda: counts.counts.sum() / (np.count_nonzero(counts.counts) * n),
    }
    if scheme not in formulas:
        raise ArgumentError(
            f"`scheme` must be one of {list(formulas)}, a vector or a {{name: weight}} mapping; got {scheme!r}"
        )
    return formulas[scheme]()


def _effective(counts: ClassCounts, beta: Any) -> FloatArray:
    total = int(counts.counts.sum())
    value = (total - 1) / total if beta == "auto" else beta
    if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise ArgumentError(f'`beta` must be in [0, 1] or "auto"; got {beta!r}')
    present = counts.counts > 0
    weights = np.ones(counts.num_classes)
    weights[present] = 1.0 / counts.effective_number(value)[present]
    _tell_if_flat(counts, value, weights[present])
    return weights


def _tell_if_flat(counts: ClassCounts, beta: float, weights: FloatArray) -> None:
    spread, ratio, total = float(weights.max() / weights.min()), counts.imbalance_ratio, int(counts.counts.sum())
    if not 0.0 < beta < 1.0 or spread >= _FLAT or ratio <= _IMBALANCED:
        return
    warnings.warn(
        f"beta={beta:.10g} does nothing here: the smallest class has {counts.counts[counts.counts > 0].min()} images, "
        f"far above 1/(1 - beta) = {1 / (1 - beta):.6g}, so the weights differ by {100 * (spread - 1):.2g} % while the "
        f'counts differ {ratio:.3g} to 1. Try beta="auto", (N - 1)/N = {(total - 1) / total:.10g}, or "inverse".',
        UserWarning,
        stacklevel=6,
    )


def _median_frequency(counts: ClassCounts, pixels_in_images: CountsLike | None) -> FloatArray:
    n = counts.counts.astype(np.float64)
    present = n > 0
    if pixels_in_images is None:
        seen = np.full_like(n, n.sum())
    else:
        seen = by_name(_plain(pixels_in_images), counts.names, argument="pixels_in_images")
        small = np.flatnonzero(seen < n)
        if small.size:
            c = int(small[0])
            raise ArgumentError(
                f"`pixels_in_images` counts all pixels of the images that contain a class; class {counts.names[c]!r} "
                f"has {seen[c]:.0f} there but {n[c]:.0f} pixels of its own"
            )
    frequency = np.divide(n, seen, out=np.ones_like(n), where=present)
    weights: FloatArray = np.median(frequency[present]) / frequency
    return weights


def _plain(counts: CountsLike) -> Mapping[str, float] | Sequence[float] | NDArray[Any]:
    return dict(zip(counts.names, counts.counts.tolist(), strict=True)) if isinstance(counts, ClassCounts) else counts


def by_name(
    values: Mapping[Any, float] | Sequence[float] | NDArray[Any], names: Sequence[str], *, argument: str
) -> FloatArray:
    """``values`` in the order of ``names`` as float64 ``(C,)``: a vector as it is, a mapping by its keys."""
    if isinstance(values, Mapping):
        given = {str(key): value for key, value in values.items()}
        if given.keys() != set(names):
            raise ArgumentError(_mismatch(given, names, argument))
        values = [given[name] for name in names]
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise ArgumentTypeError(f"`{argument}` must hold numbers; got dtype {array.dtype}")
    if array.shape != (len(names),):
        raise ArgumentError(
            f"`{argument}` must have one number for each of the {len(names)} classes; got {array.shape}"
        )
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        c = int(np.argmax(bad))
        raise ArgumentError(f"`{argument}` must be finite and at least 0; class {names[c]!r} has {array[c]}")
    return array.astype(np.float64)


def _mismatch(given: Mapping[str, float], names: Sequence[str], argument: str) -> str:
    missing = [name for name in names if name not in given]
    unknown = [name for name in given if name not in set(names)]
    folded = {_fold(name): name for name in missing}
    twins = [f"{name!r} for {folded[_fold(name)]!r}" for name in unknown if _fold(name) in folded]
    hint = f"; perhaps {', '.join(twins[:10])} (they differ in case or Unicode form only)" if twins else ""
    return f"`{argument}` must name every class once; missing {_some(missing)}, not a class {_some(unknown)}{hint}"


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _some(names: Iterable[str], most: int = 10) -> str:
    listed = list(names)
    return f"{listed[:most]}" + (f" and {len(listed) - most} more" if len(listed) > most else "")


def refuse_empty(counts: ClassCounts, empty: Empty) -> None:
    """Raise for classes with count 0 unless they are to be excluded, and always if nothing is left."""
    if empty not in ("error", "exclude"):
        raise ArgumentError(f'`empty` must be "error" or "exclude"; got {empty!r}')
    if not counts.counts.any():
        raise ArgumentError("`counts` must have at least one class with a count above 0")
    if counts.empty and empty == "error":
        raise ArgumentError(
            f"`counts` is 0 for class {_some(counts.empty)}, which has no weight; "
            'give empty="exclude" for weight 0, or leave the class out'
        )


def checked_cap(max_weight: float | None) -> float | None:
    """``max_weight`` if it is None or a positive number."""
    if max_weight is not None and not max_weight > 0:
        raise ArgumentError(f"`max_weight` must be above 0; got {max_weight}")
    return max_weight


def _at_least_0(argument: str, value: float) -> float:
    if not (np.isfinite(value) and value >= 0):
        raise ArgumentError(f"`{argument}` must be finite and at least 0; got {value}")
    return value


def _resolve(normalize: Normalize | None, scheme: object) -> Literal["mean", "sample"] | None:
    if normalize not in ("mean", "sample", "auto", None):
        raise ArgumentError(f'`normalize` must be "mean", "sample", "auto" or None; got {normalize!r}')
    if normalize == "auto":
        return None if isinstance(scheme, str) and scheme == "balanced" else "mean"
    return normalize
