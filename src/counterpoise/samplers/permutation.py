"""Random numbers, permutations and class sequences whose t-th element is computed without the elements before it.

All are pure functions of a key, so an order needs no memory, starts at any position, and is the same in every process.
The global random generators of Python, NumPy and torch are never used.
"""

from __future__ import annotations

from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

# Number of Feistel rounds by the bits of the domain. Six rounds mix halves of at least four bits; a smaller network has
# so few distinct rounds that it needs more of them until all permutations of a handful of items are equally likely
# (a χ² test checks this).
_ROUNDS = ((3, 24), (6, 12), (64, 6))
_STEP = np.uint32(0x9E3779B9)  # 2^32 / golden ratio, which keeps the keys of the rounds far apart
_M1, _M2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)  # the multipliers of MurmurHash3's finaliser


def random_key(*numbers: int) -> NDArray[np.uint64]:
    """Two 64-bit keys from non-negative whole numbers (seed, epoch, purpose), by NumPy's `SeedSequence`."""
    return np.random.SeedSequence(numbers).generate_state(2, np.uint64).astype(np.uint64)


def uniforms(key: NDArray[np.uint64], start: int, stop: int) -> NDArray[np.float64]:
    """Numbers ``start`` to ``stop - 1`` of the stream of ``key``, uniform in [0, 1) with 53 bits.

    PCG64 DXSM (O'Neill, 2014) can be advanced by any number of steps at once, and a double takes one step.
    """
    generator = np.random.Generator(np.random.PCG64DXSM(key).advance(start))
    return generator.random(stop - start)


class ClassSequence(Protocol):
    """The class of each position of an epoch, for any range of positions."""

    length: int

    def classes(self, start: int, stop: int) -> NDArray[Any]:
        """The class of each position in ``start .. stop - 1``: uint16, or uint32 for more than 65,536 classes."""
        ...


@final
class IndependentClasses:
    """Each position has class c with probability ``shares[c]``, independently of the others."""

    def __init__(self, shares: NDArray[np.float64], length: int, key: NDArray[np.uint64]) -> None:
        self.length = length
        self._distribution, self._key = _InverseDistribution(shares / shares.sum()), key

    def classes(self, start: int, stop: int) -> NDArray[Any]:
        return self._distribution.find(uniforms(self._key, start, stop))


@final
class FixedCounts:
    """Class c has exactly ``counts[c]`` positions, in shuffled order."""

    def __init__(self, counts: NDArray[np.int64], key: NDArray[np.uint64]) -> None:
        self.length = int(counts.sum())
        self._distribution, self._key = _InverseDistribution(counts), key.view(np.uint32)[:1]

    def classes(self, start: int, stop: int) -> NDArray[Any]:
        wide = np.uint32 if self.length < 2**32 else np.uint64
        shuffled = permute(np.arange(start, stop, dtype=wide), np.array([self.length], dtype=wide), self._key)
        return self._distribution.find(shuffled.astype(np.float64))


@final
class _InverseDistribution:
    """Inverse of a cumulative distribution: finds the class in whose interval a value lies.

    A table answers for most values at once; the others are searched. A class with share 0 is never found.
    """

    def __init__(self, shares: NDArray[Any]) -> None:
        self._top = np.cumsum(shares, dtype=np.float64)
        buckets = 1 << min(max(12, (16 * len(shares)).bit_length()), 17)  # at most 1 MB, computed in milliseconds
        self._scale = buckets / float(self._top[-1])
        self._top[np.flatnonzero(shares)[-1] :] = np.inf  # no rounding leads beyond the last class with a share
        # A bucket's edge may be rounded either way: start slightly below it, with a class that can only be too low.
        edges = np.arange(buckets) * ((1.0 - 1e-12) / self._scale)
        narrow = np.uint16 if len(shares) <= 2**16 else np.uint32
        self._first = np.searchsorted(self._top, edges, side="right").astype(narrow)

    def find(self, values: NDArray[np.float64]) -> NDArray[Any]:
        """The class of each value."""
        found: NDArray[Any] = self._first.take((values * self._scale).astype(np.intp), mode="clip")
        low = np.flatnonzero(self._top.take(found) <= values)
        found[low] = np.searchsorted(self._top, values[low], side="right")
        return found


def mix(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A bijection of 32 bits in which every input bit changes every output bit half of the time (MurmurHash3)."""
    x = (x ^ (x >> np.uint32(16))) * _M1
    x = (x ^ (x >> np.uint32(13))) * _M2
    return x ^ (x >> np.uint32(16))


def permute(x: NDArray[Any], size: NDArray[Any], key: NDArray[np.uint32]) -> NDArray[Any]:
    """The image of ``x`` under the permutation of ``0 .. size - 1`` that belongs to ``key``; all three broadcast.

    A Feistel network on the smallest power of two that holds ``size``, applied until the value is below ``size``
    (cycle walking; Black and Rogaway, CT-RSA 2002): fewer than two steps on average.
    """
    x, size, key = np.broadcast_arrays(x, size, key)
    bits = _bit_length(size - 1)
    out, low = np.empty_like(x), 0
    for high, rounds in _ROUNDS:
        chosen = (bits > low) & (bits <= high)
        if chosen.all():
            return _walk(x, size, bits, key, rounds)
        if chosen.any():
            out[chosen] = _walk(x[chosen], size[chosen], bits[chosen], key[chosen], rounds)
        low = high
    return out


def _walk(
    x: NDArray[Any], size: NDArray[Any], bits: NDArray[Any], key: NDArray[np.uint32], rounds: int
) -> NDArray[Any]:
    right = (bits + 1) // 2  # of 3 bits, 2 on the right
    out = _feistel(x, right, bits - right, key, rounds)
    outside = np.flatnonzero(out >= size)
    while outside.size:
        walked = _feistel(out[outside], right[outside], (bits - right)[outside], key[outside], rounds)
        out[outside] = walked
        outside = outside[walked >= size[outside]]
    return out


def _feistel(
    x: NDArray[Any], right_bits: NDArray[Any], left_bits: NDArray[Any], key: NDArray[np.uint32], rounds: int
) -> NDArray[Any]:
    left = (x >> right_bits).astype(np.uint32)
    right = (x - (left.astype(x.dtype) << right_bits)).astype(np.uint32)
    # The top bits of a product depend on all bits of its factors; a shift by all 32 bits is 0 in NumPy.
    to_left, to_right = (np.uint32(32) - left_bits.astype(np.uint32)), (np.uint32(32) - right_bits.astype(np.uint32))
    key = key.copy()
    for _ in range(rounds // 2):
        left ^= _scramble(right, key) >> to_left
        key += _STEP
        right ^= _scramble(left, key) >> to_right
        key += _STEP
    joined: NDArray[Any] = (left.astype(x.dtype) << right_bits) | right
    return joined


def _scramble(half: NDArray[np.uint32], key: NDArray[np.uint32]) -> NDArray[np.uint32]:
    h = (half + key) * _M1
    h ^= h >> np.uint32(15)
    h *= _M2
    return h


def _bit_length(x: NDArray[Any]) -> NDArray[Any]:
    """Bits of whole numbers below 2^53; 1 for 0, so that every network has a bit to permute."""
    bits: NDArray[Any] = np.maximum(np.frexp(x.astype(np.float64))[1], 1).astype(x.dtype)
    return bits
