"""Class weights from class counts by a named scheme, and weights of samples and of positives."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.checks import checked_choice, checked_indices, checked_vector
from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.core.hyperparameters import check_options, hyperparameters
from counterpoise.core.names import resolve
from counterpoise.core.text import listed

FloatArray = NDArray[np.float64]
Scheme = Literal["uniform", "inverse", "inverse_sqrt", "effective_number", "median_frequency", "balanced"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
Normalize = Literal["mean", "sample", "auto"]
Empty = Literal["error", "exclude"]

# β has no effect if the weights that it gives differ by less than 5 % although the counts differ by more than 50 %.
_FLAT, _IMBALANCED = 1.05, 1.5


def class_weights(
    counts: CountsLike,
    scheme: Scheme | str | Mapping[str, float] | Sequence[float] | NDArray[Any] = "inverse",
    *,
    beta: float | Literal["auto"] = 0.9999,
    power: float | None = None,
    max_weight: float | None = None,
    normalize: Normalize | None = "auto",
    empty: Empty = "error",
    pixels_in_images: CountsLike | None = None,
) -> FloatArray:
    """Compute a weight per class from the number of training images per class.

    ======================  ===============================================================================
    ``uniform``             1
    ``inverse``             1 / n_c, or n_c^−q with ``power=q``      also "INS"
    ``inverse_sqrt``        1 / sqrt(n_c)                          also "ISNS"
    ``effective_number``    (1 − β) / (1 − β^n_c)                  also "ENS"; Cui et al., arXiv:1901.05555
    ``median_frequency``    median(f) / f_c                        Eigen and Fergus, arXiv:1411.4734
    ``balanced``            N / (C n_c)                            scikit-learn's ``class_weight="balanced"``
    ======================  ===============================================================================

    f_c is n_c / N; with ``pixels_in_images`` it is the pixels of class c over the pixels of the images that contain it.

    Multiplying a weight vector by a constant changes nothing under a loss's ``reduction="mean"``; under ``"batchmean"``
    or ``"sum"`` it changes the learning rate. ``normalize`` fixes this constant.

    Args:
        counts: of the training split: a `ClassCounts`, ``(C,)`` whole numbers, or ``{name: count}``.
        scheme: a name from the table or one of its aliases, or ready weights: ``(C,)`` numbers in the order of the
            classes, or ``{name: weight}``, matched by name. Ready weights are normalised like any other.
        beta: β of ``effective_number``, in [0, 1]; 1 is the limit 1 / n_c. ``"auto"`` is (N − 1) / N.
        power: exponent q of ``inverse``, at least 0; None for 1.
        max_weight: upper bound of the weights, above 0, applied after normalising; the average stays as ``normalize``
            says. None for no bound.
        normalize: ``"mean"`` for an average of 1 over the classes (they sum to C), ``"sample"`` for an average of 1
            over the training samples, None for the formula as it is; ``"auto"`` is None for ``balanced``, otherwise
            ``"mean"``.
        empty: a class with count 0 raises an error (``"error"``), or gets weight 0 and is left out of every average
            (``"exclude"``).
        pixels_in_images: ``(C,)``, for ``median_frequency``: pixels of all images in which the class occurs.

    Returns:
        float64 ``(C,)``, finite and non-negative.

    Raises:
        ArgumentError: an unknown scheme, an option that it does not have, a value out of range, an empty class
            (named), or names that do not match (listed).
        ArgumentTypeError: counts that are not whole numbers, or weights that are not numbers.

    Warns:
        UserWarning: ``beta`` has no effect, because every n_c is far above 1 / (1 − beta).

    Example:
        >>> class_weights({"car": 5000, "truck": 500, "motorcycle": 50}).round(3)
        array([0.027, 0.27 , 2.703])
        >>> class_weights([5000, 500, 50], "balanced").round(2)
        array([ 0.37,  3.7 , 37.  ])
    """
    counts = counts if isinstance(counts, ClassCounts) else ClassCounts(counts)
    name = resolve(scheme, SCHEMES, kind="weights", argument="`scheme`") if isinstance(scheme, str) else None
    if pixels_in_images is not None and name != "median_frequency":
        raise ArgumentError('`pixels_in_images` belongs to scheme="median_frequency"; remove it, or use that scheme')
    if power is not None and name != "inverse":
        raise ArgumentError('`power` is the exponent of scheme="inverse"; remove it, or use that scheme')
    if name != "effective_number" and beta != hyperparameters("weights", "effective_number")["beta"].default:
        raise ArgumentError('`beta` belongs to scheme="effective_number"; remove it, or use that scheme')
    options = {"max_weight": max_weight, "normalize": "auto" if normalize is None else normalize}
    options |= {"power": power} if name == "inverse" else {"beta": beta} if name == "effective_number" else {}
    check_options("weights", name or "uniform", options)
    refuse_empty(counts, empty)
    if name is None:
        raw = _by_name(scheme, counts.names, argument="scheme")  # type: ignore[arg-type]
    elif name == "effective_number":
        raw = _effective_number(counts, beta)
    elif name == "median_frequency":
        raw = _median_frequency(counts, pixels_in_images)
    else:
        raw = _power_of_counts(name, counts, power)
    if normalize == "auto":
        normalize = None if name == "balanced" else "mean"
    present = counts.counts > 0
    weights = np.zeros(counts.num_classes)
    weights[present] = _normalized(raw[present], counts.counts[present], normalize, max_weight)
    return weights


def _power_of_counts(name: str, counts: ClassCounts, power: float | None) -> FloatArray:
    n = np.maximum(counts.counts, 1).astype(np.float64)  # empty classes get weight 0 later
    if name == "uniform":
        return np.ones_like(n)
    if name == "balanced":
        balanced: FloatArray = counts.counts.sum() / (np.count_nonzero(counts.counts) * n)
        return balanced
    if name == "inverse_sqrt":
        return 1.0 / np.sqrt(n)
    return 1.0 / n if power is None else n**-power


def _effective_number(counts: ClassCounts, beta: Any) -> FloatArray:
    total = int(counts.counts.sum())
    beta = (total - 1) / total if beta == "auto" else beta
    present = counts.counts > 0
    weights = np.ones(counts.num_classes)
    weights[present] = 1.0 / counts.effective_number(beta)[present]
    spread, ratio = float(weights[present].max() / weights[present].min()), counts.imbalance_ratio
    if 0.0 < beta < 1.0 and spread < _FLAT and ratio > _IMBALANCED:
        warnings.warn(
            f"beta={beta:.10g} has no effect here: the smallest class has {counts.counts[present].min()} images, far "
            f"above 1/(1 − beta) = {1 / (1 - beta):.6g}, so the weights differ by {100 * (spread - 1):.2g} % while the "
            f'counts differ {ratio:.3g} to 1. Use beta="auto", which is (N − 1)/N = {(total - 1) / total:.10g} here, '
            'or the scheme "inverse".',
            UserWarning,
            stacklevel=3,
        )
    return weights


def _median_frequency(counts: ClassCounts, pixels_in_images: CountsLike | None) -> FloatArray:
    n = counts.counts.astype(np.float64)
    present = n > 0
    if pixels_in_images is None:
        total = np.full_like(n, n.sum())
    else:
        given: Any = pixels_in_images
        if isinstance(pixels_in_images, ClassCounts):
            given = dict(zip(pixels_in_images.names, pixels_in_images.counts, strict=True))
        total = _by_name(given, counts.names, argument="pixels_in_images")
        small = np.flatnonzero(total < n)
        if small.size:
            c = int(small[0])
            raise ArgumentError(
                f"`pixels_in_images` must count all pixels of the images that contain a class; class "
                f"{counts.names[c]!r} has {total[c]:.0f}, fewer than its own {n[c]:.0f} pixels"
            )
    frequency = np.divide(n, total, out=np.ones_like(n), where=present)
    weights: FloatArray = np.median(frequency[present]) / frequency
    return weights


def _normalized(
    raw: FloatArray, counts: NDArray[np.int64], normalize: Literal["mean", "sample"] | None, max_weight: float | None
) -> FloatArray:
    """``min(s raw, max_weight)`` with the one scale s for which the average over classes or samples is 1.

    The weight that the bound takes from the rarest classes goes to the others, so the average stays 1.
    """
    if normalize is None:
        return raw if max_weight is None else np.minimum(raw, max_weight)
    share = np.ones_like(raw) if normalize == "mean" else counts.astype(np.float64)
    share = share / share.sum()
    average = (raw * share).sum()
    if not average > 0:
        raise ArgumentError(f"`scheme` gives no class a weight above 0; the average cannot be 1 ({normalize=})")
    if max_weight is None:
        scaled: FloatArray = raw / average
        return scaled
    reach = share[raw > 0].sum() * max_weight
    if reach < 1.0 - 1e-12:
        raise ArgumentError(
            f"`max_weight` must be at least {max_weight / reach:.6g} for an average weight of 1; got {max_weight} "
            "(normalize=None bounds the weights without averaging)"
        )
    capped = np.zeros(len(raw), dtype=bool)
    while True:  # each round caps at least one more class, so it ends after at most C rounds
        open_mass = (raw * share)[~capped].sum()
        rest = max(1.0 - max_weight * share[capped].sum(), 0.0)
        scaled = np.where(capped, max_weight, raw * (rest / open_mass if open_mass > 0 else 0.0))
        over = ~capped & (scaled > max_weight)
        if not over.any():
            return scaled
        capped |= over


def _by_name(
    values: Mapping[Any, float] | Sequence[float] | NDArray[Any], names: Sequence[str], *, argument: str
) -> FloatArray:
    """``values`` in the order of ``names`` as float64 ``(C,)``; a mapping is matched by its keys."""
    if isinstance(values, Mapping):
        given = {str(key): value for key, value in values.items()}
        missing = [name for name in names if name not in given]
        unknown = [name for name in given if name not in set(names)]
        if missing or unknown:
            folded = {_folded(name): name for name in missing}
            twins = [f"{name!r} for {folded[_folded(name)]!r}" for name in unknown if _folded(name) in folded]
            hint = f"; perhaps {', '.join(twins[:10])} (they differ in case or Unicode form only)" if twins else ""
            raise ArgumentError(
                f"`{argument}` must name every class once; missing: {listed(missing) or 'none'}; not a class: "
                f"{listed(unknown) or 'none'}{hint}"
            )
        values = [given[name] for name in names]
    return checked_vector(argument, values, length=len(names), class_names=names)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def refuse_empty(counts: ClassCounts, empty: Empty) -> None:
    """Raise for classes with count 0 unless ``empty="exclude"``, and always if no class has a count above 0."""
    checked_choice("empty", empty, get_args(Empty))
    if not counts.counts.any():
        raise ArgumentError("`counts` must have at least one class with a count above 0")
    if counts.empty and empty == "error":
        raise ArgumentError(
            f'`counts` is 0 for class {listed(counts.empty)}, so its weight is undefined; give empty="exclude" for '
            "weight 0, or leave the class out"
        )


def sample_weights(
    labels: Iterable[Any], class_weights: Mapping[Any, float] | Sequence[float] | NDArray[Any]
) -> FloatArray:
    """Look up the weight of each sample: the weight of its class.

    Args:
        labels: ``(N,)`` class indices, or class names if ``class_weights`` is a mapping.
        class_weights: ``(C,)``, or ``{name: weight}``; finite and at least 0.

    Returns:
        float64 ``(N,)``.

    Raises:
        ArgumentError: a label without a weight (its row is named), or a weight that is negative, NaN or infinite.
        ArgumentTypeError: labels that are neither whole numbers nor strings, or weights that are not numbers.

    Example:
        >>> sample_weights([0, 0, 1], [0.5, 2.0])
        array([0.5, 0.5, 2. ])
        >>> sample_weights(["cat", "lynx"], {"lynx": 1.9, "cat": 0.1})
        array([0.1, 1.9])
    """
    array = np.asarray(labels if hasattr(labels, "__array__") else list(labels))
    if array.ndim != 1:
        raise ArgumentError(f"`labels` must have shape (N,); got {array.shape}")
    if array.size and array.dtype.kind not in "iuUS":
        raise ArgumentTypeError(f"`labels` must be class indices or names; got dtype {array.dtype}")
    if not isinstance(class_weights, Mapping):
        if array.dtype.kind in "US":
            raise ArgumentTypeError("`labels` are strings; give `class_weights` as {name: weight}")
        weights = checked_vector("class_weights", class_weights)
        return weights[checked_indices("labels", array, num_classes=len(weights))]
    names = [str(key) for key in class_weights]
    weights = _by_name(class_weights, names, argument="class_weights")
    index = {name: i for i, name in enumerate(names)}
    distinct, inverse = np.unique(array, return_inverse=True)
    places = np.array([index.get(str(label), -1) for label in distinct.tolist()], dtype=np.int64)
    if (places < 0).any():
        row = int(np.argmax(places[inverse] < 0))
        raise ArgumentError(
            f"`class_weights` has no weight for `labels` row {row}, {array[row]!s}; it has {names[:10]}"
        )
    return weights[places[inverse]]


def pos_weight(
    counts: CountsLike, *, total: int | None = None, max_weight: float | None = None, empty: Empty = "error"
) -> FloatArray:
    """Compute negatives over positives per class, ``(total − n_c) / n_c``: ``pos_weight`` of binary cross-entropy.

    Args:
        counts: images with each class: a `ClassCounts` (`ClassCounts.from_multilabel` knows its total), ``(C,)`` whole
            numbers, or ``{name: count}``.
        total: number of images N. None for the total of the counts; for an array or mapping this is their sum, which
            is right only if every image has exactly one class. Give it for multi-label counts.
        max_weight: upper bound of the weights, above 0; None for none.
        empty: a class without positives raises an error (``"error"``) or gets weight 0 (``"exclude"``).

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
    n, images = counts.counts, counts.total if total is None else total
    if (n > images).any():
        c = int(np.argmax(n > images))
        raise ArgumentError(f"`total` must be at least every count; class {counts.names[c]!r} has {n[c]} of {images}")
    check_options("weights", "uniform", {"max_weight": max_weight})
    weights = np.divide(images - n, n, out=np.zeros(len(n)), where=n > 0)
    return weights if max_weight is None else np.minimum(weights, max_weight)
