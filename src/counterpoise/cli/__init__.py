"""The command line: one file a command; parse, call the function of the same name, print."""

from counterpoise.cli.app import app, main

__all__ = ["app", "main"]
