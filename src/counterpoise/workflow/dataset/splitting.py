"""Drawing the splits that a source does not bring: stratified, seeded, the same on every machine."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from counterpoise.core.artifacts import Finding
from counterpoise.core.images import Split

__all__ = ["draw", "ranks", "sizes", "unrepresented"]


def draw(
    labels: NDArray[np.int64],
    paths: Sequence[str],
    *,
    fractions: Mapping[Split, float],
    seed: int,
    same: Iterable[Sequence[int]] = (),
) -> NDArray[np.str_]:
    """``(N,)`` split names: each class is divided by `sizes`, its images taken in the order of `ranks`.

    Independent of the order of the images, of the other classes, and of the version of any random generator. Of each
    group in ``same``, images with the same content, the first by rank is drawn and the others follow it: a copy in
    another split would be an answer learnt by heart.

    Example:
        >>> labels = np.array([0] * 10 + [1] * 2)
        >>> splits = draw(labels, [f"{i}.png" for i in range(12)], fractions={"val": 0.2}, seed=0)
        >>> [int((splits[labels == c] == "val").sum()) for c in (0, 1)]
        [2, 1]
    """
    splits = np.full(len(labels), "train", dtype="<U5")
    rank = ranks(paths, seed=seed)
    leader = np.arange(len(labels))
    for group in same:
        leader[list(group)] = min(group, key=lambda i: (rank[i], paths[i]))
    alone = np.flatnonzero(leader == np.arange(len(labels)))
    order = alone[np.lexsort((rank[alone], labels[alone]))]
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        val, test = sizes(len(rows), val=fractions.get("val", 0.0), test=fractions.get("test", 0.0))
        splits[rows[:test]] = "test"
        splits[rows[test : test + val]] = "val"
    return splits[leader]


def ranks(paths: Iterable[str], *, seed: int) -> NDArray[np.uint64]:
    """A random-looking number for each path, which depends on that path and the seed alone."""
    key = str(seed).encode()
    names = (path.encode("utf-8", "surrogateescape") for path in paths)
    digests = b"".join(hashlib.blake2b(name, digest_size=8, key=key).digest() for name in names)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def sizes(n: int, *, val: float, test: float) -> tuple[int, int]:
    """Of ``n`` images of a class, how many validate and how many test: the nearest whole numbers, yet at least
    one for training and, where there are enough images, one for validation, then one for the test.

    Example:
        >>> [sizes(n, val=0.2, test=0.2) for n in (1, 2, 3, 100)]
        [(0, 0), (1, 0), (1, 1), (20, 20)]
    """
    least_val = int(val > 0 and n >= 2)
    least_test = int(test > 0 and n >= 2 + least_val)
    n_val, n_test = max(least_val, math.floor(n * val + 0.5)), max(least_test, math.floor(n * test + 0.5))
    while n_val + n_test > max(n - 1, 0):  # rounding took one too many: from the larger part
        if n_test > least_test and (n_test >= n_val or n_val <= least_val):
            n_test -= 1
        else:
            n_val -= 1
    return n_val, n_test


def unrepresented(
    labels: NDArray[np.int64], splits: NDArray[np.str_], classes: Sequence[str], drawn: Sequence[Split]
) -> tuple[Finding, ...]:
    """Name the classes that have images, but too few for one in each split that was drawn."""
    available = np.bincount(labels, minlength=len(classes))
    findings = []
    for split in drawn:
        here = np.bincount(labels[splits == split], minlength=len(classes))
        small = tuple(classes[c] for c in np.flatnonzero((here == 0) & (available > 0)).tolist())
        if small:
            listed = ", ".join(map(repr, small[:5])) + (" …" if len(small) > 5 else "")
            reason = f"too few images for one in {split}: class {listed}"
            findings.append(Finding("class-too-small-to-split", "warning", reason, small))
    return tuple(findings)
