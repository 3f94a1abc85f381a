"""Random numbers and permutations by position: the t-th one without those before it.

Both are pure functions of a key, so an order needs no memory, starts at once anywhere, and is the same in every
process. The global generators of Python, NumPy and torch are never touched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["keys_of", "mix", "permute", "uniforms"]

# Rounds by the bits of the domain. Six mix halves of 4 bits and more; a smaller network has so few different rounds
# that it takes more of them until all permutations of a handful of items are equally likely (a χ² test pins this).
_ROUNDS = ((3, 24), (6, 12), (64, 6))
_STEP = np.uint32(0x9E3779B9)  # 2^32 / golden ratio: round keys far apart
_M1, _M2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)  # the multipliers of MurmurHash3's finaliser


def keys_of(*numbers: int) -> NDArray[np.uint64]:
    """Two 64-bit keys from non-negative whole numbers (seed, epoch, purpose), by NumPy's `SeedSequence`."""
    return np.random.SeedSequence(numbers).generate_state(2, np.uint64).astype(np.uint64)


def uniforms(key: NDArray[np.uint64], start: int, stop: int) -> NDArray[np.float64]:
    """Numbers ``start`` to ``stop`` of the stream of ``key``, uniform in [0, 1) with 53 bits.

    PCG64 DXSM (O'Neill, 2014) can be advanced by any number of steps at once, and a double takes one step.
    """
    generator = np.random.Generator(np.random.PCG64DXSM(key).advance(start))
    return generator.random(stop - start)


def mix(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A bijection of 32 bits in which every input bit changes every output bit half of the time (MurmurHash3)."""
    x = (x ^ (x >> np.uint32(16))) * _M1
    x = (x ^ (x >> np.uint32(13))) * _M2
    return x ^ (x >> np.uint32(16))


def permute(x: NDArray[Any], size: NDArray[Any], key: NDArray[np.uint32]) -> NDArray[Any]:
    """Where ``x`` goes under the permutation of ``0 .. size - 1`` that belongs to ``key``; all three broadcast.

    A Feistel network on the smallest power of two that holds ``size``, walked on until the value is below ``size``
    (Black and Rogaway, CT-RSA 2002): fewer than two steps on average.
    """
    x, size, key = np.broadcast_arrays(x, size, key)
    bits = _bit_length(size - 1)
    out, low = np.empty_like(x), 0
    for high, rounds in _ROUNDS:
        here = (bits > low) & (bits <= high)
        if here.all():
            return _walk(x, size, bits, key, rounds)
        if here.any():
            out[here] = _walk(x[here], size[here], bits[here], key[here], rounds)
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
    """Bits of whole numbers below 2^53; 1 for 0, so that every network has a bit to work on."""
    bits: NDArray[Any] = np.maximum(np.frexp(x.astype(np.float64))[1], 1).astype(x.dtype)
    return bits
