"""counterpoise weights"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterpoise.cli.options import DataOptions, option, read_counts
from counterpoise.cli.output import Result, print_note, print_table
from counterpoise.core.text import listed

if TYPE_CHECKING:
    from counterpoise.core.counts import ClassCounts

_DATA = "A dataset, or counts: 5000,500,50, or a JSON file with {name: count} or a list."
_SCHEME = """uniform, inverse, inverse_sqrt, effective_number, median_frequency, balanced, or an abbreviation of one,
such as ENS."""
_MAX_WEIGHT = """Largest weight, after normalization. The other weights are scaled so that the average stays 1 (with
balanced, they stay as they are)."""


def weights(
    data: Annotated[str, typer.Argument(metavar="DATA_OR_COUNTS", help=_DATA)],
    reading: DataOptions,
    scheme: Annotated[str, option("--scheme", "S", _SCHEME)] = "inverse",
    beta: Annotated[float, option("--beta", "B", "Hyperparameter β of effective_number, from 0 to 1.")] = 0.9999,
    max_weight: Annotated[float | None, option("--max-weight", "W", _MAX_WEIGHT)] = None,
) -> Result:
    """Compute class weights from the number of training images per class."""
    from counterpoise.weights import class_weights

    counts = _counts(data, reading)
    if counts.empty:
        number = "class {} has" if len(counts.empty) == 1 else "classes {} have"
        without = number.format(listed(counts.empty))
        print_note(f"warning: {without} no images: weight 0, and not counted in the average; add images to train on it")
    chosen: Any = scheme
    values = class_weights(counts, chosen, beta=beta, max_weight=max_weight, empty="exclude").tolist()

    def show() -> None:
        rows = [(name, f"{n:,}", f"{w:.6g}") for name, n, w in zip(counts.names, counts.counts, values, strict=True)]
        print_table(("class", "images", f"weight ({scheme})"), rows)

    return Result(dict(zip(counts.names, values, strict=True)), show)


def _counts(text: str, reading: DataOptions) -> ClassCounts:
    if "," in text or text.endswith(".json"):
        return read_counts(text)
    return reading.load(text).counts("train")
