"""counterpoise plan"""

from __future__ import annotations

import shlex

from counterpoise.cli.options import Data, Debug, Json, Nested, SplitSeed, ValFraction
from counterpoise.cli.output import emit_json, say
from counterpoise.cli.running import tell_of_nesting


def plan(
    data: Data,
    val_fraction: ValFraction = 0.2,
    split_seed: SplitSeed = 0,
    nested: Nested = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Which strategies are worth a run on these data, and why."""
    from counterpoise.workflow import strategy
    from counterpoise.workflow.dataset import load

    dataset = load(data, val_fraction=val_fraction, seed=split_seed, nested=nested)
    tell_of_nesting(dataset)
    strategies = strategy.plan(dataset.counts("train"))
    if as_json:
        emit_json([s.to_dict() for s in strategies])
        return
    for s in strategies:
        say(str(s))
        say(f"    {s.reason}")
    names = ",".join(s.name for s in strategies)
    how = " --nested" if nested else ""
    say(f"\ncounterpoise compare {shlex.quote(data)}{how} --strategies {names} --out comparison")
