"""CIFAR-10-LT as files: counts by the formula of the literature, and every image decodes."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from PIL import Image

from counterpoise.workflow.dataset import load

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def test_cifar10_lt_is_read_whole(real_data):
    start = time.perf_counter()
    data = load(real_data / "cifar10-lt")
    assert time.perf_counter() - start < 20  # usually 0.6 s; this catches only decoding, or quadratic work
    assert data.classes == _CLASSES
    pool = [math.floor(5000 * 0.01 ** (c / 9)) for c in range(10)]
    val = [math.floor(n * 0.2 + 0.5) for n in pool]
    assert data.counts("val").counts.tolist() == val
    np.testing.assert_array_equal(data.counts("train").counts, np.subtract(pool, val))
    assert data.counts("test").counts.tolist() == [1000] * 10
    assert not data.quarantined
    assert data.num_files == 22_406


def test_cifar10_lt_decodes_to_what_pillow_sees(real_data):
    data = load(real_data / "cifar10-lt", split="test")
    for i in range(0, len(data), 1000):
        with Image.open(data.file(i)) as image:
            np.testing.assert_array_equal(data[i], np.asarray(image))


@pytest.mark.slow
def test_cifar10_lt_decodes_without_a_fault(real_data):
    assert load(real_data / "cifar10-lt", split="train").verify() == {}
