"""counterpoise explain"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from counterpoise.cli.options import check_suffix, flag, option
from counterpoise.cli.output import Result, print_text
from counterpoise.core.errors import ArtifactError
from counterpoise.core.files import path_exists, reading

if TYPE_CHECKING:
    from counterpoise.core.explanation import Explanation

_DESCRIPTIONS = {
    "metrics": "why accuracy misleads; all others are in the report",
    "strategies": "what `train` and `compare` take",
    "weights": "class weights from class counts",
    "losses": "those that are not a strategy of the same name",
    "samplers": "those that no strategy uses",
    "augmentations": "those that no strategy uses",
}
_CREATED_BY = "Created by Counterpoise"
Overwrite = Annotated[bool, flag("--overwrite", "Replace FILE if it exists.")]


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="A strategy, weighting scheme or loss (focal, focal_loss), accuracy, an alias (WCE, cRT), or a strategy "
        "with overrides (focal:gamma=1). Lists all names if omitted.",
        show_default=False,
    ),
]
_OUT = "File to write: .html, .png, .svg, .md or .json; default: explain-NAME.html in the current folder."


def explain(
    name: Name = None,
    out: Annotated[Path | None, option("--out", "FILE", _OUT)] = None,
    overwrite: Overwrite = False,
) -> Result:
    """Explain a loss, weighting, sampler or correction: equation, curves, costs and references."""
    from counterpoise.workflow.explain import explain as explain_name
    from counterpoise.workflow.explain import explainable

    if name is None:
        names = explainable()
        return Result(names, lambda: _list(names))
    result = explain_name(name)
    if out is not None:
        _write(result, out, overwrite=overwrite)

    def show() -> None:
        page = out or Path(f"explain-{re.sub('[_:=,]', '-', result.name)}.html")
        if out is None:
            _write(result, page, overwrite=overwrite or _is_own_page(page))
        _print(result)
        print_text(
            f"\nwrote the page {page}" + (" in the current folder; --out names another file" if out is None else "")
        )

    return Result(result, show)


def _is_own_page(page: Path) -> bool:
    """Whether the file is a page that an earlier call wrote."""
    if not (path_exists(page) and page.is_file()):
        return False
    with reading(page):
        return _CREATED_BY in page.read_text(encoding="utf-8", errors="replace")


def _write(result: Explanation, target: Path, *, overwrite: bool) -> None:
    from counterpoise.workflow.report import render

    exists = path_exists(target)
    if exists and target.is_dir():
        raise ArtifactError(f"`out` {target} is a folder; name a file")
    check_suffix("out", target, (".html", ".png", ".svg", ".md", ".json"))
    if exists and not overwrite:
        raise ArtifactError(f"`out` {target} exists; name another file, or give `overwrite` to replace it")
    render(result, target)


def _list(kinds: dict[str, tuple[str, ...]]) -> None:
    for kind, names in kinds.items():
        print_text(f"{kind} ({_DESCRIPTIONS[kind]}): {', '.join(names)}")
    print_text("\ncounterpoise explain NAME  # prints the page, and writes it to explain-NAME.html in this folder")


def _print(result: Explanation) -> None:
    print_text(f"{result.name} ({result.kind}): {result.summary}")
    for equation in (section.equation for section in result.sections if section.equation):
        print_text("\n" + "\n".join(f"    {line}" for line in equation.splitlines()))
    for title, texts in (("cost", result.costs), ("note", result.notes)):
        for text in texts:
            print_text(f"\n{title}: {text}")
