"""Numbers as text."""

import math

import pytest

from counterpoise.core import text


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (text.percent(0.6519), "65.2 %"),
        (text.percent(1.0, 0), "100 %"),
        (text.percent(math.nan), "–"),
        (text.points(-0.334), "−33.4"),
        (text.points(-0.0001), "0.0"),
        (text.points(None), "–"),
        (text.ratio(30.0), "30:1"),
        (text.ratio(9.96), "10:1"),
        (text.number_text(0.0456), "0.0456"),
        (text.number_text(-29.94), "−29.9"),
        (text.number_text(0), "0"),
        (text.listed(["a"]), "'a'"),
        (text.plural(0, "image"), "0 images"),
    ],
)
def test_text(call, wanted):
    assert call == wanted
