"""The command line: one module per command, which parses options, calls the function of the same name and prints."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

import counterpoise
from counterpoise.cli import (
    audit,
    augment,
    compare,
    demo,
    evaluate,
    explain,
    export,
    make_longtail,
    plan,
    predict,
    report,
    train,
    weights,
)
from counterpoise.cli.options import spread_groups
from counterpoise.cli.output import Result, naming_options, print_error, print_json, print_note
from counterpoise.core.errors import CounterpoiseError

__all__ = ["app", "main"]

app = typer.Typer(
    name="counterpoise",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"counterpoise {counterpoise.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Learning from imbalanced images: audit a dataset, compare strategies on it fairly, read one report."""


def _add_command(name: str, function: Callable[..., Result | None]) -> None:
    """Register a command; print its result, or its error in one line (exit code 2)."""
    with_options = spread_groups(function)

    @functools.wraps(with_options)
    def run(*, as_json: bool, debug: bool, **values: Any) -> None:
        with naming_options(functools.cache(lambda: _option_names(name))):
            code = _exit_code(functools.partial(with_options, **values), as_json, debug)
        raise typer.Exit(code)

    app.command(name)(run)


def _exit_code(command: Callable[[], Result | None], as_json: bool, debug: bool) -> int:
    """Run a command and print its result, or its error in one line."""
    try:
        with _warnings_as_notes():
            result = command()
        if result is not None:
            print_json(result.value, result.saved) if as_json else result.show()
    except CounterpoiseError as error:
        if debug:
            raise
        print_error(str(error))
        return 2
    except KeyboardInterrupt:
        resumable = "resume" in inspect.signature(command).parameters
        print_error("interrupted" + "; finished work is kept, --resume continues from there" * resumable)
        return 130
    return 0 if result is None else result.exit_code


@contextlib.contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Print warnings for users as a line on stderr, without the place in the source."""
    with warnings.catch_warnings():
        place_and_text = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if category is UserWarning:
                print_note(f"warning: {message}")
            else:
                place_and_text(message, category, *place, **options)

        warnings.showwarning = show
        yield


def _option_names(command: str) -> dict[str, str]:
    """The option of a command for each argument of the Python function that it calls."""
    group: Any = typer.main.get_command(app)
    names = {
        option.name: option.metavar if option.param_type_name == "argument" else max(option.opts, key=len)
        for option in group.commands[command].params
    }
    # `load` and `write_manifest` have other names for these.
    others = {"source": names.get("data"), "seed": names.get("split_seed"), "file": names.get("write_clean")}
    return {argument: name for argument, name in others.items() if name} | names


_MODULES = (demo, audit, plan, augment, make_longtail, train, compare, evaluate, report, predict, export, weights)
for _module in (*_MODULES, explain):
    _name = _module.__name__.rpartition(".")[2]
    _add_command(_name.replace("_", "-"), getattr(_module, _name))


def main() -> None:
    """Run the command line; a closed pipe (``| head``) is not an error."""
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
