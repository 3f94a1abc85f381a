"""Class counts and labels."""

from __future__ import annotations

import random
import unicodedata
import warnings
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from counterpoise.core.counts import ClassCounts
from fuzzing.cases import Case
from fuzzing.inputs import NAMES, NUMBERS, WRITTEN_NUMBERS, place_json
from fuzzing.readings import difference, is_number, parsed


def counts_json(rng: random.Random, folder: Path) -> Case:
    names = rng.sample(NAMES, rng.randrange(1, 6))
    counts = [rng.choice((0, 1, 7, 5000, 10**6)) for _ in names]
    path, is_valid = place_json(
        rng, folder / "counts.json", rng.choice((counts, dict(zip(names, counts, strict=True))))
    )
    return Case(str(path), is_valid and "e\u0301" not in names)


def check_counts_json(case: Case, counts: ClassCounts) -> str:
    value = parsed(Path(case.given))
    names = [*value] if isinstance(value, dict) else [str(i) for i in range(len(value))]
    return difference(
        [names, [*value.values()] if isinstance(value, dict) else value], [names_of(counts), numbers(counts)]
    )


def names_of(counts: ClassCounts) -> list[str]:
    return list(counts.names)


def numbers(counts: ClassCounts) -> list[int]:
    return [int(n) for n in counts.counts]


def counts_text(rng: random.Random, folder: Path) -> Case:
    pieces = [str(rng.choice((0, 1, 10, 5000, 2**50))) for _ in range(rng.randrange(1, 6))]
    if rng.random() < 0.1:
        return Case(rng.choice((",", ", ")).join(pieces), is_valid=True)
    pieces[rng.randrange(len(pieces))] = rng.choice((*WRITTEN_NUMBERS, "007", "1 0", "9" * 5000, "9" * 20, ""))
    return Case(",".join(pieces) + rng.choice(("", "", "", ",", "\n", " ", ".json")))


def check_counts_text(case: Case, counts: ClassCounts) -> str:
    pieces = [piece.strip(" \t\n\r\x0b\x0c") for piece in case.given.split(",")]
    if not all(piece.isascii() and piece.isdigit() for piece in pieces):
        return f"{case.given!r} holds no whole numbers"
    return difference([int(Decimal(piece)) for piece in pieces], numbers(counts))


def counts_values(rng: random.Random, folder: Path) -> Case:
    size = rng.randrange(6)
    values: Any = [
        rng.choice((0, 1, 10, 3.0, 5000, *NUMBERS, "5", b"5", "²", [1], 1j, np.int8(3), np.uint64(2**63)))
        for _ in range(size)
    ]
    if rng.random() < 0.6:
        values = [rng.choice((0, 1, 10, 5000)) for _ in range(size)]
    kind = rng.randrange(6)
    if kind == 0:
        names = (*NAMES, 1, 2.5, None, True, b"cat", ("a", "b"), np.str_("x"))
        values = dict(zip(rng.sample(names, len(values)), values, strict=True))
    elif kind == 1:
        dtype = rng.choice(("i1", "u1", "i8", "u8", "f2", "f4", "f8", "?", "O", "U5", "S5", "c16", "M8[s]", ">i4"))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = np.array(values, dtype=dtype)
        except (ValueError, TypeError, OverflowError):
            values = np.zeros(rng.choice(((2, 2), (0,), (), (3, 1))), dtype=dtype)
    elif kind == 2:
        values = tuple(values)
    options: dict[str, Any] = {}
    if rng.random() < 0.3:
        options["names"] = [rng.choice((*NAMES, 1, None, b"x", 2.5)) for _ in range(size)]
    if rng.random() < 0.2:
        options["total"] = rng.choice((*NUMBERS, "5", 3.7, 10**6))
    return Case((values, options))


def check_counts_values(case: Case, counts: ClassCounts) -> str:
    values, options = case.given
    given = list(values.values()) if isinstance(values, dict) else list(values)
    names = options.get("names", list(values) if isinstance(values, dict) else [str(i) for i in range(len(given))])
    given = [value.item() if isinstance(value, np.generic) else value for value in given]
    pairs = zip(given, numbers(counts), strict=True)
    if not all(is_number(value) and Fraction(value) == number for value, number in pairs):
        return f"{given!r} became {numbers(counts)}"
    if not all(
        isinstance(n, str | int | np.integer) and not isinstance(n, bool) and str(n) == m
        for n, m in zip(names, counts.names, strict=True)
    ):
        return f"the names {names!r} became {counts.names}"
    if len({unicodedata.normalize("NFC", name) for name in counts.names}) < len(counts.names):
        return f"the names {names!r} are not distinct"
    total = options.get("total")
    expected = sum(numbers(counts)) if total is None else total
    return "" if is_number(expected) and expected == counts.total else f"the total {expected!r} became {counts.total}"


def label_values(rng: random.Random, folder: Path) -> Case:
    size = rng.randrange(6)
    labels: Any = [rng.choice((0, 1, 2, 2)) for _ in range(size)]
    if rng.random() < 0.3:
        labels = [rng.choice(("cat", "dog", "", "é", "1")) for _ in range(size)]
    if size and rng.random() < 0.6:
        labels[rng.randrange(size)] = rng.choice((*NUMBERS, *NAMES, [0], b"0", np.int64(1), np.str_("cat"), 10**12))
    if rng.random() < 0.3:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                labels = np.array(labels, dtype=rng.choice(("i8", "u1", "f4", "?", "U3", "S3", "O", "u8", None)))
        except (ValueError, TypeError, OverflowError):
            labels = 5
    options = {}
    if rng.random() < 0.3:
        options["num_classes"] = rng.choice((3, 3, 0, -1, *NUMBERS, "3"))
    if rng.random() < 0.3:
        options["names"] = rng.choice((["cat", "dog", "", "é", "1"], ["0", "1", "2"], ["cat", "cat"], [], [1, 2, 3]))
    if rng.random() < 0.2:
        options["ignore_index"] = rng.choice((-1, 2, "cat", None, 1.5, 2**70))
    return Case((labels, options))


def check_label_values(case: Case, counts: ClassCounts) -> str:
    labels, options = case.given
    given = (
        [label.item() if isinstance(label, np.generic) else label for label in np.ravel(labels)]
        if isinstance(labels, np.ndarray)
        else list(labels)
    )
    given = [label for part in given for label in (part if isinstance(part, list) else [part])]
    if len({isinstance(label, str) for label in given}) > 1 or not all(
        type(v) in (int, str, np.int64, np.str_) for v in given
    ):
        return f"{given!r} were counted as {numbers(counts)}"
    kept = Counter(label for label in given if label != options.get("ignore_index"))
    if any(isinstance(label, str) for label in given):
        return difference([kept[name] for name in counts.names], numbers(counts)) or difference(
            sum(kept.values()), counts.total
        )
    return difference([kept[i] for i in range(len(counts))], numbers(counts)) or difference(
        sum(kept.values()), counts.total
    )
