"""What the commands print: results on stdout, all else on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

__all__ = ["complain", "emit_json", "findings_text", "note", "percent", "points", "print_table", "progress_bar", "say"]

SEVERITY_STYLE = {"info": "cyan", "warning": "yellow", "error": "red"}


def say(text: str = "") -> None:
    """A line of the result, as it is: no markup, whatever a class is called."""
    typer.echo(_printable(text))


def note(text: str) -> None:
    """A line on stderr."""
    typer.echo(_printable(text), err=True)


def complain(text: str) -> None:
    """A mistake, in one line."""
    typer.echo(_printable("error: " + " ".join(text.split())), err=True)


def emit_json(value: Any) -> None:
    """The result as JSON: the only thing on stdout."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """A table on stdout; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False).print(table)


def percent(value: float | None, digits: int = 1) -> str:
    """0.1234 → 12.3 %; None → –."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def points(value: float | None) -> str:
    """A difference of shares, in percentage points with its sign."""
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", "−")


def findings_text(findings: Iterable[Any]) -> Iterator[str]:
    """Findings as lines: severity, reason."""
    for finding in findings:
        yield f"{finding.severity:>7}  {finding.reason}"


@contextlib.contextmanager
def progress_bar(start: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr; yields a function that takes what is running, the steps done and all steps."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(start, total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)


def _printable(text: str) -> str:
    """What the terminal's encoding lacks is escaped, and so are control characters of file names."""
    clean = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return clean.encode(encoding, "backslashreplace").decode(encoding)
