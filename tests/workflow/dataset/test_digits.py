"""The embedded digits: long-tailed 30:1, a balanced test, no image twice."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from counterpoise.core.errors import ArgumentError
from counterpoise.workflow.dataset import load


def test_training_falls_exponentially_from_30_to_1_and_the_test_is_balanced():
    data = load("digits")
    train = data.counts("train").counts
    np.testing.assert_array_equal(train, np.floor(90 * 30 ** (-np.arange(10) / 9) + 0.5))
    assert data.counts("train").imbalance_ratio == 30
    np.testing.assert_array_equal(data.counts("test").counts, [50] * 10)
    np.testing.assert_array_equal(data.counts("val").counts, np.maximum(30, np.floor(train / 4 + 0.5)))
    assert data.classes == tuple("0123456789")
    assert data.symmetries == frozenset()
    assert len(set(data.paths)) == len(data)


def test_images_and_labels_are_those_of_scikit_learn():
    bunch, data = load_digits(), load("digits", seed=5)
    for i in range(0, len(data), 50):
        row = int(data.paths[i].rpartition("/")[2])
        assert data.labels[i] == bunch.target[row]
        expected = np.round(bunch.images[row] * 255 / 16 + 1e-9).astype(np.uint8)
        np.testing.assert_array_equal(data[i], np.stack([expected] * 3, axis=-1))


def test_the_draw_is_seeded():
    first, again, other = load("digits"), load("digits"), load("digits", seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert len(set(first.paths) & set(other.paths)) < len(first) * 0.9


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.7])
def test_the_ratio_holds_for_any_validation_fraction(fraction):
    data = load("digits", val_fraction=fraction, test_fraction=0.0)
    assert data.counts("train").imbalance_ratio == 30
    assert (data.counts("val").counts > 0).all() == (fraction > 0)


def test_a_fraction_that_leaves_too_little_is_refused():
    with pytest.raises(ArgumentError, match=r"`val_fraction` 0\.9"):
        load("digits", val_fraction=0.9, test_fraction=0.0)


def test_an_image_handed_out_is_a_copy():
    data = load("digits")
    data[0][:] = 99
    assert (data[0] != 99).any()
