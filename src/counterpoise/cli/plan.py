"""counterpoise plan"""

from __future__ import annotations

import shlex

from counterpoise.cli.options import Data, DataOptions
from counterpoise.cli.output import Result, print_text


def plan(data: Data, reading: DataOptions) -> Result:
    """Recommend strategies for a dataset, each with its reason."""
    from counterpoise.workflow import strategy

    strategies = strategy.plan(reading.load(data).counts("train"))
    names = ",".join(s.name for s in strategies)

    def show() -> None:
        for s in strategies:
            print_text(str(s))
            print_text(f"    {s.reason}")
        print_text(f"\ncounterpoise compare {shlex.quote(data)}{reading.typed()} --strategies {names} --out comparison")

    return Result(strategies, show)
