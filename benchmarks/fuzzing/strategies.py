"""Names of strategies with overridden hyperparameters."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path

from counterpoise.core.artifacts import Strategy
from counterpoise.workflow.strategy.catalog import CATALOG, split_strategies, strategy_named
from fuzzing.cases import Case
from fuzzing.inputs import NAMES, WRITTEN_NUMBERS


def strategy_text(rng: random.Random, folder: Path) -> Case:
    names = (*CATALOG, "WCE", "cRT", "Focal-Loss", "ENS", "", "x", "²", "fócal", "focal loss", *NAMES)
    text = rng.choice(list(CATALOG) if rng.random() < 0.7 else names)
    if rng.random() < 0.9:
        keys = (
            "gamma",
            "tau",
            "beta",
            "alpha",
            "power",
            "scale",
            "max_margin",
            "kappa",
            "share",
            "name",
            "__class__",
            "",
            "γ",
            "loss",
        )
        values = (*WRITTEN_NUMBERS, "True", "9" * 400, "over", "1=2", "n" * 3000)
        text += ":" + ",".join(
            f"{rng.choice(keys)}{rng.choice(('=', '=', '=', ' = ', '', ':'))}{rng.choice(values)}"
            for _ in range(rng.choice((1, 1, 2, 3)))
        )
    return Case(text if rng.random() < 0.8 else f"{text},{rng.choice(names)}")


def read_strategy(case: Case) -> list[Strategy]:
    return [strategy_named(text) for text in split_strategies(case.given)]


def check_strategy(case: Case, strategies: list[Strategy]) -> str:
    if [part for part in map(str.strip, ",".join(split_strategies(case.given)).split(",")) if part] != [
        part for part in map(str.strip, case.given.split(",")) if part
    ]:
        return "the list was split into something else"
    for text, strategy in zip(split_strategies(case.given), strategies, strict=True):
        stated = dict(part.split("=", 1) for part in text.partition(":")[2].split(",") if part)
        options = (vars(strategy)[name] for name in vars(strategy) if name.endswith("_options"))
        found = {key: value for part in options for key, value in part.items()}
        for key, value in stated.items():
            number = found[key.strip()]
            plain = value.strip()
            if isinstance(number, float) and not (
                plain.isascii() and "_" not in plain and float(Decimal(plain)) == number
            ):
                return f"{value!r} became {number!r}"
            if isinstance(number, str) and number != plain:
                return f"{value!r} became {number!r}"
        if Strategy.from_dict(json.loads(json.dumps(strategy.to_dict()))) != strategy:
            return f"{strategy} is not read as it was written"
    return ""
