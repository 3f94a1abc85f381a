"""counterpoise weights"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterpoise.cli.options import Debug, Json, Nested, read_counts
from counterpoise.cli.output import emit_json, print_table
from counterpoise.cli.running import tell_of_nesting

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
    nested: Nested = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Class weights from the training counts, ready for a loss."""
    from counterpoise.weights import class_weights

    counts = _counts(data, nested)
    chosen: Any = scheme
    values = class_weights(counts, chosen, beta=beta, max_weight=max_weight, empty="exclude").tolist()
    if as_json:
        emit_json(dict(zip(counts.names, values, strict=True)))
        return
    rows = [(name, f"{n:,}", f"{w:.6g}") for name, n, w in zip(counts.names, counts.counts, values, strict=True)]
    print_table(("class", "images", f"weight ({scheme})"), rows)


def _counts(text: str, nested: bool) -> ClassCounts:
    if "," in text or text.endswith(".json"):
        return read_counts(text)
    from counterpoise.workflow.dataset import load

    dataset = load(text, nested=nested)
    tell_of_nesting(dataset)
    return dataset.counts("train")
