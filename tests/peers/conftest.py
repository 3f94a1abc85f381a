"""Count of public cases: how many behave as in the other library, and how many as a documented decision says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.peers.decisions import DECISIONS

AS_THE_PEER = "as the peer"


@pytest.fixture(autouse=True)
def cases() -> Iterator[Counter[str]]:
    """Outcomes of the public cases of one test: `AS_THE_PEER`, or the name of a decision; empty is one as the peer."""
    outcomes: Counter[str] = Counter()
    yield outcomes
    assert set(outcomes) <= {AS_THE_PEER, *(decision.name for decision in DECISIONS)}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: Any) -> Any:
    result = yield
    peer = item.path.stem.removeprefix("test_")
    if peer != "decisions":
        item.user_properties.append(("public cases", [peer, dict(item.funcargs["cases"]) or {AS_THE_PEER: 1}]))
    return result


def pytest_terminal_summary(terminalreporter: Any) -> None:
    total: dict[str, Counter[str]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "public cases":
                total.setdefault(value[0], Counter()).update(value[1])
    if total:
        terminalreporter.section("public cases of other libraries")
        for peer, outcomes in [*sorted(total.items()), ("all", sum(total.values(), Counter()))]:
            n, m = outcomes[AS_THE_PEER], outcomes.total()
            terminalreporter.line(f"{peer}: {m} cases, {n} as the library, {m - n} as docs/peers.md says")
