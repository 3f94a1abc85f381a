"""The pages under test, rendered once a process."""

from __future__ import annotations

from functools import cache

from counterpoise.workflow.report import render_html

from . import samples

LONG = tuple(f"{i:05d}-" + "x" * 4990 + f"-{i:05d}" for i in range(10_000))


@cache
def html(kind: str) -> str:
    """The HTML of one of the made-up artifacts."""
    artifact = {
        "comparison": samples.comparison,
        "hostile": lambda: samples.comparison(samples.HOSTILE),
        "nested": lambda: samples.comparison(samples.NESTED),
        "alike": samples.alike,
        "large": lambda: samples.comparison(LONG, seeds=(0,), matrix=False),
        "audit": samples.audit,
        "run": samples.run,
        "evaluation": samples.evaluation,
        "strategies": lambda: [strategy for _, strategy in samples.STRATEGIES.values()],
    }[kind]
    return render_html(artifact())
