"""An input of the fuzz test and a reader that is tested."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Case:
    """One input: what the reader is given, whether it is valid, and what it holds where the generator knows that."""

    given: Any
    is_valid: bool = False
    expected: Any = None
    must_fail: bool = False


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader, how its inputs are made, and the check of what it returns: the difference, or ""."""

    name: str
    make: Callable[[random.Random, Path], Case]
    read: Callable[[Case], Any]
    check: Callable[[Case, Any], str]
    writes: bool = False
