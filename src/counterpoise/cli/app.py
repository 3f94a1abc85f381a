"""The commands by name, and how a mistake ends: one line and exit 2."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

import counterpoise
from counterpoise.cli import audit, augment, compare, demo, evaluate, explain, plan, report, train, weights
from counterpoise.cli.output import complain
from counterpoise.core.errors import CounterpoiseError

__all__ = ["app", "main"]

app = typer.Typer(
    name="counterpoise",
    help="Learning from imbalanced images: audit a dataset, compare the remedies fairly, read one report.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"counterpoise {counterpoise.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Learning from imbalanced images: audit a dataset, compare the remedies fairly, read one report."""


def _guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """A mistake of the caller is one line on stderr and exit 2; --debug shows where it was found."""

    @functools.wraps(command)
    def run(*args: Any, debug: bool = False, **kwargs: Any) -> Any:
        try:
            return command(*args, debug=debug, **kwargs)
        except CounterpoiseError as error:
            if debug:
                raise
            complain(str(error))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            complain("interrupted; what is done is kept, and --resume goes on from there")
            raise typer.Exit(130) from None

    return run


for _module in (demo, audit, plan, augment, train, compare, evaluate, report, weights, explain):
    _name = _module.__name__.rpartition(".")[2]
    app.command(_name)(_guarded(getattr(_module, _name)))


def main() -> None:
    """Entry point; a closed pipe (``| head``) is not an error."""
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
