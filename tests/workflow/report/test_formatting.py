"""Formatting of numbers and names."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoise.workflow.report import charts, formatting, theme


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.4321, "43.2"), (1.0, "100.0"), (0.0, "0.0"), (None, "–"), (math.nan, "–"), (math.inf, "–")],
)
def test_percent(value: float | None, expected: str):
    assert formatting.percent_number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (8.44, "8.4 s"),
        (99.9, "99.9 s"),
        (99.99, "1 min 40 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_duration(value: float, expected: str):
    assert formatting.duration(value) == expected


def test_whole_numbers_have_commas_between_thousands():
    assert [formatting.number_cell(n).text for n in (0, 9999, 1_234_567)] == ["0", "9,999", "1,234,567"]


def test_code_in_backticks_is_found_but_not_if_it_could_be_markup():
    assert formatting.code_spans("use `--seeds 3`, not 'x`") == [
        (False, "use "),
        (True, "--seeds 3"),
        (False, ", not 'x`"),
    ]
    assert formatting.code_spans("a `<b>` c") == [(False, "a `<b>` c")]
    assert formatting.code_spans("a `<b>` c", unescaped=False) == [(False, "a "), (True, "<b>"), (False, " c")]


@given(st.text(st.characters(exclude_categories=[]), max_size=200), st.integers(8, 60))
def test_whatever_is_shown_is_one_short_line_that_can_be_written(name: str, limit: int):
    line = formatting.one_line(name, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    line.encode("utf-8")
    assert not set(line) & set("\x00\x1b\u202e\u2066\u200f")


@given(st.lists(st.text("ab", min_size=0, max_size=60), unique=True, max_size=30))
def test_labels_stay_distinct_after_shortening(names: list[str]):
    short = formatting.short_labels(names, limit=12)
    assert len(set(short)) == len(names)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/home/ann/photos/7.jpg", "…/7.jpg"),
        ("open('/data/x/y.npz') failed", "open('…/y.npz') failed"),
        (r"C:\Users\ann\photos\7.jpg", "…/7.jpg"),
        ("train/cat/7.jpg", "train/cat/7.jpg"),
        ("2/3 of 1/2", "2/3 of 1/2"),
        ("https://arxiv.org/abs/1901.05555", "https://arxiv.org/abs/1901.05555"),
    ],
)
@pytest.mark.fault("R6")
def test_roots_are_cut_and_relative_paths_kept(value: str, expected: str):
    assert formatting.without_absolute_paths(value) == expected


def _lightness(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_lightness(one), _lightness(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [theme.LIGHT, theme.DARK])
def test_marks_stand_out_from_the_background_and_text_from_what_lies_under_it(palette: dict[str, str]):
    for name in (f"s{i}" for i in range(10)):
        assert _contrast(palette[name], palette["background"]) >= 3, name
    for name in ("text", "muted", "accent", "good", "bad", "warn"):
        assert _contrast(palette[name], palette["background"]) >= 4.5, name
    assert _contrast(palette["muted"], palette["surface"]) >= 4.5
    assert _contrast(palette["text"], palette["shade"]) >= 4.5


def test_a_strategy_keeps_its_mark_and_no_two_of_the_first_eight_share_colour_or_shape():
    names = ["baseline", *"abcdefg"]
    series = theme.series_of(names, "baseline")
    assert len({theme.colour(s) for s in series.values()}) == 8
    assert len({theme.shape(s) for s in series.values()}) == 8
    assert theme.colour_token(theme.series_of(["x", "baseline"], "baseline")["baseline"]) == "s0"
    pairs = {(theme.colour(s), theme.shape(s)) for s in theme.series_of([str(i) for i in range(30)]).values()}
    assert len(pairs) == 30


@given(st.integers(0, 2000), st.integers(0, 10**7))
def test_ticks_of_whole_numbers_are_whole_few_and_within_the_range(low: int, span: int):
    ticks = charts._whole_ticks(low, low + span)
    assert 1 <= len(ticks) <= 9 or span == 0
    assert ticks == sorted(set(ticks))
    assert all(low <= tick <= low + span for tick in ticks)


def test_ticks_of_few_epochs():
    assert charts._whole_ticks(1, 2) == [1, 2]
    assert charts._whole_ticks(1, 30) == [5, 10, 15, 20, 25, 30]
