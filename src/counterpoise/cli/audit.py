"""counterpoise audit"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from counterpoise.cli.options import Data, Debug, Json, Nested, Overwrite, SplitSeed, ValFraction
from counterpoise.cli.output import emit_json, findings_text, percent, print_table, say

if TYPE_CHECKING:
    from counterpoise.core.artifacts import AuditResult

ORDER = ("info", "warning", "error")


def audit(
    data: Data,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Also write audit.json and audit.html there.")
    ] = None,
    no_duplicates: Annotated[bool, typer.Option("--no-duplicates", help="Do not look for identical files.")] = False,
    fail_on: Annotated[
        Literal["info", "warning", "error"] | None,
        typer.Option("--fail-on", help="Exit 1 if a finding is at least this severe."),
    ] = None,
    val_fraction: ValFraction = 0.2,
    split_seed: SplitSeed = 0,
    nested: Nested = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Counts, imbalance, what a constant prediction reaches, and every fault found in the files."""
    from counterpoise.core.files import claim
    from counterpoise.workflow import audit as stage
    from counterpoise.workflow.dataset import load
    from counterpoise.workflow.report import render

    if out is not None:
        claim(out, overwrite=overwrite)
    result = stage.audit(
        load(data, val_fraction=val_fraction, seed=split_seed, nested=nested), duplicates=not no_duplicates
    )
    if out is not None:
        result.save(out / "audit.json")
        render(result, out / "audit.html")
    if as_json:
        emit_json(result.to_dict())
    else:
        _print(result)
    if out is not None and not as_json:
        say(f"report: {out / 'audit.html'}")
    worst = max((ORDER.index(finding.severity) for finding in result.findings), default=-1)
    if fail_on is not None and worst >= ORDER.index(fail_on):
        raise typer.Exit(1)


def _print(result: AuditResult) -> None:
    from counterpoise.workflow.strategy import plan

    rows = [(c.name, f"{c.train:,}", f"{c.val:,}", f"{c.test:,}", percent(c.share), c.group) for c in result.classes]
    print_table(("class", "train", "val", "test", "share", "group"), rows, title=result.name)
    ratio = "undefined" if result.imbalance_ratio is None else f"{result.imbalance_ratio:.3g} : 1"
    say(f"\nimbalance ratio {ratio}")
    say(
        f"always answering {result.constant_class!r}: accuracy {percent(result.constant_accuracy)}, balanced "
        f"accuracy {percent(result.constant_balanced_accuracy)} on {result.reference_split}"
    )
    for line in findings_text(result.findings):
        say(line)
    for fault in result.quarantined:
        say(f"  quarantined  {fault.path}: {fault.reason}")
    if sum(c.train > 0 for c in result.classes) > 1:
        say("\nworth comparing: " + ", ".join(strategy.name for strategy in plan(result)))
