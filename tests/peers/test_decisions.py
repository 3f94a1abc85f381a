"""Every documented difference is as it is documented: both numbers, and the line that gives the other library's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.peers.decisions import DECISIONS

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"
NAMES = [decision.name for decision in DECISIONS]


def documented(decision):
    """The row of the page for one decision."""
    it = f"{decision.library} {decision.theirs}"
    return f"| {decision.name} | {it} | {decision.ours} | {decision.reason} | {decision.instead} |"


@pytest.mark.parametrize("decision", DECISIONS, ids=NAMES)
def test_the_difference_and_its_remedy_are_true(decision):
    decision.proof()


def test_the_page_shows_the_table():
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")][1:]
    wanted = [documented(decision) for decision in DECISIONS]
    assert rows == wanted, "the rows of docs/peers.md must be:\n" + "\n".join(wanted)


def test_names_are_distinct():
    assert len(set(NAMES)) == len(NAMES)
