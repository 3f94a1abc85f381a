"""Printing: results on stdout; errors, notes and progress on stderr."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from counterpoise.core.files import read_json

_OPTIONS: ContextVar[Callable[[], Mapping[str, str]]] = ContextVar("options", default=dict)


@dataclass(frozen=True)
class Result:
    """What a command returns.

    Attributes:
        value: an artifact or plain values, printed with ``--json``.
        show: prints it for a reader.
        exit_code: of the process.
        saved: the file of the artifact if ``value`` is large; ``--json`` then prints what this file has, on one line.
    """

    value: Any
    show: Callable[[], None]
    exit_code: int = 0
    saved: Path | None = None


def print_text(text: str = "") -> None:
    """Print a line on stdout as it is: class names may look like markup."""
    typer.echo(_printable(text))


def print_note(text: str) -> None:
    """Print a line on stderr, with the options in place of the arguments that it names."""
    typer.echo(_printable(_in_options(text)), err=True)


def print_error(text: str) -> None:
    """Print an error on stderr, in one line."""
    print_note("error: " + " ".join(text.split()))


def print_json(value: Any, saved: Path | None = None) -> None:
    """Print an artifact, a list of artifacts, plain values, or what the file of an artifact has, as JSON."""
    if saved is not None:
        typer.echo(json.dumps(read_json(saved), separators=(",", ":"), ensure_ascii=True, allow_nan=False))
        return
    typer.echo(json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False, default=lambda item: item.to_dict()))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table; the first column holds text, the others numbers."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False).print(table)


def print_findings(findings: Iterable[Any]) -> None:
    """Print a line per finding: severity, reason."""
    for finding in findings:
        print_text(f"{finding.severity:>7}  {_in_options(finding.reason)}")


@contextlib.contextmanager
def naming_options(names: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """Within the block, name the option in place of each argument in notes, errors and findings.

    ``names`` returns the option of each argument of the Python function; it is called only if a text names one.
    """
    token = _OPTIONS.set(names)
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def _in_options(text: str) -> str:
    """The text with ```nested``` as ```--nested``` and ```label_column='class'``` as ```--label-column class```."""
    if "`" not in text:
        return text
    names = _OPTIONS.get()()

    def option(found: re.Match[str]) -> str:
        if found[1] not in names:
            return found[0]
        value = (found[2] or "").strip("'\"")
        return f"`{names[found[1]]}{f' {shlex.quote(value)}' if value and value != 'True' else ''}`"

    text = re.sub(r"`(\w+)(?:=([^`]*))?`", option, text)
    # Messages that name both, "`nested` (--nested)", would name the option twice.
    return re.sub(
        r" \((--[\w, -]+)\)",
        lambda found: "" if all(f"`{name}`" in text for name in found[1].split(", ")) else found[0],
        text,
    )


@contextlib.contextmanager
def progress_bar(start: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr; yields a function that takes a description, the steps done and the total."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(start, total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)


def _printable(text: str) -> str:
    """Escape control characters, for example in file names, and what the encoding of the terminal lacks."""
    clean = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return clean.encode(encoding, "backslashreplace").decode(encoding)
