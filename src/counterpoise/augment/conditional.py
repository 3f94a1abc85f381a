"""Augmentation whose strength depends on the class: how rare it is, or how often its images are repeated."""

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

__all__ = ["ClassConditional", "rarity_strength", "repeat_strength", "some_of"]

FloatArray = NDArray[np.float64]
Transform = Callable[[Any], Any]


def rarity_strength(counts: CountsLike, *, low: float = 0.0, high: float = 1.0) -> FloatArray:
    """``low`` for the largest class, ``high`` for the smallest, between them by the logarithm of the count.

    Args:
        counts: training images per class.
        low, high: in [0, 1], low ≤ high.

    Returns:
        float64 ``(C,)``; a class without images gets ``high``, equal counts all get ``low``.

    Raises:
        ArgumentError: low and high out of order or range, or no class with images.

    Example:
        >>> rarity_strength([1000, 100, 10])
        array([0. , 0.5, 1. ])
    """
    if not 0 <= low <= high <= 1:
        raise ArgumentError(f"`low` and `high` must be 0 ≤ low ≤ high ≤ 1; got {low} and {high}")
    given = counts if isinstance(counts, ClassCounts) else ClassCounts(counts)
    n = given.counts.astype(np.float64)
    if not n.any():
        raise ArgumentError("`counts` has no class with images")
    smallest, largest = n[n > 0].min(), n.max()
    share = np.log(largest / n.clip(min=smallest)) / np.log(largest / smallest) if largest > smallest else 0 * n
    strength: FloatArray = low + (high - low) * share
    return strength


def repeat_strength(counts: CountsLike, prior: ArrayLike, *, half: float = 4.0) -> FloatArray:
    """Strength from how often a sampler repeats a class's images: 0 where once an epoch or less, ½ at ``half`` times.

    An image that comes r times an epoch gets ``(r − 1) / (r + half − 2)``: 0.9 at 21 times, never quite 1.

    Args:
        counts: training images per class.
        prior: ``(C,)``, the sampler's ``.prior``, for epochs as long as the dataset.
        half: the number of times at which strength is ½, above 1.

    Returns:
        float64 ``(C,)``, in [0, 1).

    Raises:
        ArgumentError: a prior that does not fit the counts, or a ``half`` that is not above 1.

    Example:
        >>> repeat_strength([90, 10], [0.5, 0.5]).round(2)
        array([0.  , 0.57])
    """
    given = counts if isinstance(counts, ClassCounts) else ClassCounts(counts)
    shares = np.asarray(prior, dtype=np.float64)
    if shares.shape != given.counts.shape:
        raise ArgumentError(f"`prior` must have shape {given.counts.shape}; got {shares.shape}")
    if not half > 1:
        raise ArgumentError(f"`half` must be above 1; got {half}")
    often = (shares * given.total / given.counts.clip(min=1)).clip(min=1.0)
    strength: FloatArray = (often - 1) / (often + half - 2)
    return strength


def some_of(operations: Sequence[Transform]) -> Callable[[float], Transform]:
    """Strength as a number of operations: of ``m`` callables, ``round(strength · m)`` in their order, drawn anew.

    For transforms without a strength of their own: ``ClassConditional(some_of([flip, blur, noise]), strengths)``.
    They are drawn with Python's ``random``, which `ClassConditional` seeds.

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
    """Wraps any augmentation, torchvision's, Albumentations', Kornia's or your own, so that it depends on the class.

    The strength of a class chooses the transform. Around each call the generators of torch, NumPy and ``random`` (and
    the transform's own, where it is Albumentations') are seeded from ``seed`` and the number of
    the call, in a DataLoader's worker from that worker's seed too, which is another each epoch; then they are put
    back. So an image repeated is never the same twice, and nothing outside notices.

    Args:
        make: strength in [0, 1] → a callable ``image → image``; called once for each strength.
        strengths: ``(C,)`` of them; see `rarity_strength` and `repeat_strength`.
        seed: of everything drawn.

    Raises:
        ArgumentError: strengths outside [0, 1], or a label outside the classes.

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
        """The image, augmented as its class is; ``draw`` fixes what is drawn, else every call draws anew."""
        if not 0 <= label < len(self.strengths):
            raise ArgumentError(f"`label` must be in 0 .. {len(self.strengths) - 1}; got {label}")
        transform: Any = self.transforms[float(self.strengths[label])]
        with seeded(self.seed, *self._entropy(draw)) as word:
            if not hasattr(transform, "set_random_seed"):
                return transform(image)
            transform.set_random_seed(word)  # Albumentations: a generator of its own, and named arguments
            return transform(image=image)["image"]

    def _entropy(self, draw: int | None) -> tuple[int, ...]:
        if draw is not None:
            return (draw,)
        worker = torch.utils.data.get_worker_info()
        self.calls += 1
        return (self.calls, 0 if worker is None else worker.seed)


@contextlib.contextmanager
def seeded(*entropy: int) -> Iterator[int]:
    """torch's, NumPy's and Python's generators seeded from these numbers, then as they were; yields one more."""
    words = [int(word) for word in np.random.SeedSequence(entropy).generate_state(4)]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - what others' transforms draw from
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(words[0])
        np.random.seed(words[1])  # noqa: NPY002
        random.seed(words[2])
        try:
            yield words[3] >> 1
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
