"""counterpoise weights"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterpoise.cli.options import Debug, Json
from counterpoise.cli.output import emit_json, print_table
from counterpoise.core.errors import ArgumentError

if TYPE_CHECKING:
    from counterpoise.core.counts import ClassCounts


def weights(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA_OR_COUNTS", help="A dataset, or counts: 5000,500,50 or a JSON file {name: count}."
        ),
    ],
    scheme: Annotated[
        str,
        typer.Option("--scheme", metavar="S", help="uniform, inverse, inverse_sqrt, effective_number or balanced."),
    ] = "inverse",
    beta: Annotated[float, typer.Option("--beta", help="Of effective_number.")] = 0.9999,
    max_weight: Annotated[float | None, typer.Option("--max-weight", help="Cap, before normalising.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Class weights from the training counts, ready for a loss."""
    from counterpoise.weights import class_weights

    counts = _counts(data)
    chosen: Any = scheme
    values = class_weights(counts, chosen, beta=beta, max_weight=max_weight, empty="exclude").tolist()
    if as_json:
        emit_json(dict(zip(counts.names, values, strict=True)))
        return
    rows = [(name, f"{n:,}", f"{w:.6g}") for name, n, w in zip(counts.names, counts.counts, values, strict=True)]
    print_table(("class", "images", f"weight ({scheme})"), rows)


def _counts(text: str) -> ClassCounts:
    from counterpoise.core.counts import ClassCounts

    if "," in text and all(part.strip().isdigit() for part in text.split(",")):
        return ClassCounts([int(part) for part in text.split(",")])
    if text.endswith(".json"):
        try:
            value = json.loads(Path(text).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArgumentError(f"{text} cannot be read as counts: {error}") from error
        if not isinstance(value, dict | list):
            raise ArgumentError(f"{text} must hold {{name: count}} or a list of counts")
        return ClassCounts(value)
    from counterpoise.workflow.dataset import load

    return load(text).counts("train")
