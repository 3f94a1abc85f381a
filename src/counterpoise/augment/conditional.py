"""Augmentation whose strength depends on the class: on its count, or on how often a sampler repeats its images."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from counterpoise.core.counts import ClassCounts, CountsLike
from counterpoise.core.errors import ArgumentError
from counterpoise.core.hyperparameters import check_options

FloatArray = NDArray[np.float64]
Transform = Callable[[Any], Any]


def rarity_strength(counts: CountsLike, *, low: float = 0.0, high: float = 1.0) -> FloatArray:
    """Compute a strength per class, linear in the log count: ``low`` for the largest class, ``high`` for the smallest.

    Args:
        counts: training images per class, ``(C,)``.
        low: strength for the largest class, in [0, 1].
        high: strength for the smallest class, in [0, 1], at least ``low``.

    Returns:
        float64 ``(C,)``; a class without images gets ``high``; if all counts are equal, all classes get ``low``.

    Raises:
        ArgumentError: ``low`` or ``high`` out of range, ``low`` above ``high``, or no class with images.

    Example:
        >>> rarity_strength([1000, 100, 10])
        array([0. , 0.5, 1. ])
    """
    check_options("augment", "by_rarity", {"low": low, "high": high})
    if low > high:
        raise ArgumentError(f"`low` must be at most `high`; got {low} and {high}")
    given = counts if isinstance(counts, ClassCounts) else ClassCounts(counts)
    n = given.counts.astype(np.float64)
    if not n.any():
        raise ArgumentError("`counts` must have at least one class with a count above 0")
    smallest, largest = n[n > 0].min(), n.max()
    share = np.log(largest / n.clip(min=smallest)) / np.log(largest / smallest) if largest > smallest else 0 * n
    strength: FloatArray = low + (high - low) * share
    return strength


def repeat_strength(counts: CountsLike, prior: ArrayLike, *, half: float = 4.0) -> FloatArray:
    """Compute a strength per class from how often a sampler repeats its images.

    An image that comes r times per epoch gets the strength ``(r − 1) / (r + half − 2)``: 0 for r ≤ 1, ½ for
    ``r = half``, and 0.9 for r = 21 and ``half = 4``.

    Args:
        counts: training images per class, ``(C,)``.
        prior: ``(C,)``, the sampler's ``.prior``, for epochs as long as the dataset.
        half: repetitions per epoch at which the strength is ½, above 1.

    Returns:
        float64 ``(C,)``, in [0, 1).

    Raises:
        ArgumentError: a prior whose shape is not that of the counts, or a ``half`` that is not above 1.

    Example:
        >>> repeat_strength([90, 10], [0.5, 0.5]).round(2)
        array([0.  , 0.57])
    """
    given = counts if isinstance(counts, ClassCounts) else ClassCounts(counts)
    shares = np.asarray(prior, dtype=np.float64)
    if shares.shape != given.counts.shape:
        raise ArgumentError(f"`prior` must have shape {given.counts.shape}; got {shares.shape}")
    check_options("augment", "by_repeats", {"half": half})
    often = (shares * given.total / given.counts.clip(min=1)).clip(min=1.0)
    strength: FloatArray = (often - 1) / (often + half - 2)
    return strength


def some_of(operations: Sequence[Transform]) -> Callable[[float], Transform]:
    """Turn a strength into a number of operations: ``round(strength · m)`` of ``m`` callables, chosen per image.

    Use it for transforms without a strength: ``ClassConditional(some_of([flip, blur, noise]), strengths)``. The choice
    uses Python's ``random``, which `ClassConditional` seeds; chosen operations keep their order.

    Args:
        operations: callables ``image → image``.

    Returns:
        A function from strength in [0, 1] to a callable ``image → image``.

    Example:
        >>> some_of([lambda x: x + 1, lambda x: x * 2])(1.0)(3)
        8
    """

    def at(strength: float) -> Transform:
        number = round(strength * len(operations))

        def apply(image: Any) -> Any:
            for i in sorted(random.sample(range(len(operations)), number)):
                image = operations[i](image)
            return image

        return apply

    return at


@final
class ClassConditional:
    """Apply any augmentation (of torchvision, Albumentations, Kornia or your own) with a strength per class.

    The strength of the class selects the transform. For each call the random generators of torch, NumPy and ``random``
    (and that of an Albumentations transform) are seeded from ``seed`` and the number of the call, in a DataLoader
    worker also from the worker's seed, which changes per epoch; afterwards their states are restored. So a repeated
    image is augmented differently each time, and random numbers outside are not affected.

    Args:
        make: function from a strength in [0, 1] to a callable ``image → image``; called once per distinct strength.
        strengths: ``(C,)``, in [0, 1]; see `rarity_strength` and `repeat_strength`.
        seed: at least 0; seeds all random numbers.

    Raises:
        ArgumentError: strengths outside [0, 1], or a label outside ``0 .. C − 1`` in a call.

    Example:
        >>> from torchvision.transforms import v2
        >>> augment = ClassConditional(
        ...     lambda s: v2.RandomAffine(degrees=30 * s, scale=(1 - 0.3 * s, 1)), rarity_strength([1000, 10])
        ... )
        >>> import torch
        >>> image = torch.rand(3, 8, 8)
        >>> bool(augment(image, 0).allclose(image)), bool(augment(image, 1).equal(augment(image, 1)))
        (True, False)
    """

    def __init__(self, make: Callable[[float], Transform], strengths: ArrayLike, *, seed: int = 0) -> None:
        self.strengths = np.asarray(strengths, dtype=np.float64)
        if self.strengths.ndim != 1 or not ((self.strengths >= 0) & (self.strengths <= 1)).all():
            raise ArgumentError(f"`strengths` must be (C,) numbers in [0, 1]; got {self.strengths!r:.100}")
        self.transforms = {float(s): make(float(s)) for s in np.unique(self.strengths)}
        self.seed, self.calls = seed, 0

    def __call__(self, image: Any, label: int, *, draw: int | None = None) -> Any:
        """Augment an image with the strength of its class.

        Args:
            image: whatever the transform accepts.
            label: class index.
            draw: fixes the random numbers of this call; None for new ones in every call.
        """
        if not 0 <= label < len(self.strengths):
            raise ArgumentError(f"`label` must be in 0 .. {len(self.strengths) - 1}; got {label}")
        transform: Any = self.transforms[float(self.strengths[label])]
        with _seeded(self.seed, *self._entropy(draw)) as seed:
            if not hasattr(transform, "set_random_seed"):
                return transform(image)
            transform.set_random_seed(seed)  # Albumentations has its own generator and keyword arguments
            return transform(image=image)["image"]

    def _entropy(self, draw: int | None) -> tuple[int, ...]:
        if draw is not None:
            return (draw,)
        worker = torch.utils.data.get_worker_info()
        self.calls += 1
        return (self.calls, 0 if worker is None else worker.seed)


@contextlib.contextmanager
def _seeded(*entropy: int) -> Iterator[int]:
    """Seed the generators of torch, NumPy and Python, restore their states afterwards, and yield one more seed."""
    words = [int(word) for word in np.random.SeedSequence(entropy).generate_state(4)]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the generator that transforms of other libraries use
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(words[0])
        np.random.seed(words[1])  # noqa: NPY002
        random.seed(words[2])
        try:
            yield words[3] >> 1
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
