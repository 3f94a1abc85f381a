"""Checks accept what is allowed and name the argument that is not."""

import math

import numpy as np
import pytest

from counterpoise.core.checks import checked_choice, checked_count, checked_indices, checked_number, checked_vector
from counterpoise.core.errors import ArgumentError, ArgumentTypeError


@pytest.mark.parametrize("value", [0, 0.0, np.float32(0.5), np.int64(3), 7])
def test_a_number_within_its_bounds_is_returned_as_a_float(value):
    checked = checked_number("gamma", value, minimum=0.0)
    assert type(checked) is float
    assert checked == value


@pytest.mark.parametrize(
    ("value", "bounds", "wanted"),
    [
        (-0.1, {"minimum": 0.0}, "at least 0"),
        (1.0, {"minimum": 0.0, "below": 1.0}, "at least 0 and below 1"),
        (0.0, {"above": 0.0, "maximum": 1.0}, "above 0 and at most 1"),
        (math.nan, {}, "finite"),
        (math.inf, {"minimum": 0.0}, "at least 0"),
    ],
)
def test_a_number_out_of_bounds_names_argument_bounds_and_value(value, bounds, wanted):
    with pytest.raises(ArgumentError, match=rf"`gamma` must be {wanted}; got {value:g}"):
        checked_number("gamma", value, **bounds)


@pytest.mark.parametrize("value", [True, "2", None, [1.0]])
def test_what_is_not_a_number_is_a_type_error(value):
    with pytest.raises(ArgumentTypeError, match="`gamma` must be a number"):
        checked_number("gamma", value)


def test_counts_are_whole_numbers():
    assert checked_count("epochs", np.int32(3)) == 3
    with pytest.raises(ArgumentTypeError, match=r"`epochs` must be a whole number; got 3\.0"):
        checked_count("epochs", 3.0)
    with pytest.raises(ArgumentError, match="`epochs` must be at least 1; got 0"):
        checked_count("epochs", 0)


def test_a_choice_lists_what_is_allowed():
    assert checked_choice("reduction", "sum", ("mean", "sum")) == "sum"
    with pytest.raises(ArgumentError, match="`reduction` must be one of 'mean', 'sum'; got 'meen'"):
        checked_choice("reduction", "meen", ("mean", "sum"))


def test_vectors_are_finite_and_not_negative_and_the_class_is_named():
    np.testing.assert_array_equal(checked_vector("prior", [1, 2]), [1.0, 2.0])
    with pytest.raises(ArgumentError, match=r"`prior` must be finite and at least 0; class 'cat' has -1"):
        checked_vector("prior", [1, -1], class_names=["dog", "cat"])
    with pytest.raises(ArgumentError, match=r"class 1 has nan"):
        checked_vector("prior", [1.0, math.nan])
    with pytest.raises(ArgumentError, match=r"must have shape \(3,\)"):
        checked_vector("prior", [1.0, 2.0], length=3)
    with pytest.raises(ArgumentTypeError, match="must hold numbers"):
        checked_vector("prior", ["a", "b"])


def test_class_indices_are_whole_numbers_in_range_and_the_row_is_named():
    assert checked_indices("labels", [0, 2], shape=(2,), num_classes=3).dtype == np.int64
    assert checked_indices("labels", []).shape == (0,)
    with pytest.raises(ArgumentError, match=r"`labels` must have shape \(2,\); got \(1,\)"):
        checked_indices("labels", [0], shape=(2,))
    with pytest.raises(ArgumentError, match=r"`labels` must be in 0 .. 2; row 1 is 3"):
        checked_indices("labels", [0, 3], num_classes=3)
    with pytest.raises(ArgumentError, match=r"`labels` must be at least 0; row \[1, 0\] is -1"):
        checked_indices("labels", [[0], [-1]])
    with pytest.raises(ArgumentTypeError, match=r"`labels` must be class indices .*; got dtype float64"):
        checked_indices("labels", [0.0])
