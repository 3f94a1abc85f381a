"""Compare `load` and `audit` with loops that only read: ``python benchmarks/audit.py [--files N] [--rows N]``.

Makes small JPEG files in class folders and a manifest, in a temporary folder unless ``--folder`` names one. Every time
is the minimum of several interleaved rounds with a warm cache; each ratio is to a loop of the same run. The right
column shows whether the target is met on this machine.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from counterpoise.core.errors import DatasetError
from counterpoise.core.processes import available_cores
from counterpoise.core.tables import read_csv
from counterpoise.workflow.audit import audit
from counterpoise.workflow.dataset import load
from counterpoise.workflow.dataset.headers import check_headers
from counterpoise.workflow.dataset.manifest import read_manifest

Row = tuple[str, str, str, bool | None]
Runs = dict[str, Callable[[], object]]
SETTLED = 3.0
"""Seconds after which the digest of a file that has not changed is used again."""

MEMORY = """
import sys
from pathlib import Path
import polars
from counterpoise.workflow.dataset.manifest import read_manifest
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
before = peak()
listing = read_manifest(Path(sys.argv[1]))
print(peak() - before)
"""


def make_files(root: Path, files: int, classes: int) -> None:
    """JPEG files of about 1 kB, each with a content of its own."""
    images = []
    for seed in range(100):
        buffer = io.BytesIO()
        noise = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((32, 32)).save(buffer, "JPEG", quality=85)
        images.append(buffer.getvalue())
    for c in range(classes):
        (root / f"class_{c:05d}").mkdir(parents=True)
    for i in range(files):
        image = images[i % len(images)]
        comment = b"\xff\xfe\x00\x0a" + i.to_bytes(8, "big")
        (root / f"class_{i % classes:05d}" / f"{i:07d}.jpg").write_bytes(image[:2] + comment + image[2:])


def make_manifest(file: Path, order: Iterable[int], classes: int) -> None:
    """A manifest with one row for each number in ``order``; the files that it names do not exist."""
    splits = ("train", "train", "train", "val", "test")
    with file.open("w", encoding="utf-8") as out:
        out.write("path,label,split\n")
        for i in order:
            c = i % classes
            out.write(f"images/class_{c:05d}/image_{i:07d}.jpg,class {c},{splits[i % 5]}\n")


def least(runs: Runs, rounds: int) -> dict[str, float]:
    """The minimum seconds of each run, with the rounds interleaved."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: min(taken) for name, taken in times.items()}


def walk(root: Path) -> Iterator[str]:
    """The path of every file in the class folders."""
    for folder in os.scandir(root):
        for entry in os.scandir(folder):
            yield entry.path


def read_all(root: Path) -> None:
    for path in walk(root):
        with open(path, "rb") as file:  # noqa: PTH123 - the plain loop
            file.read()


def hash_all(root: Path) -> None:
    for path in walk(root):
        with open(path, "rb") as file:  # noqa: PTH123 - the plain loop
            hashlib.sha256(file.read()).digest()


def open_some(paths: Iterable[str]) -> None:
    for path in paths:
        with Image.open(path) as image:
            _ = image.size


def file_rows(root: Path, files: int, rounds: int) -> list[Row]:
    paths = [path.removeprefix(f"{root}/") for path in walk(root)]
    some = list(walk(root))[::10]  # enough for the slower libraries
    runs: Runs = {
        "read": lambda: read_all(root),
        "hash": lambda: hash_all(root),
        "headers": lambda: check_headers(str(root), paths),
        "plain audit": lambda: audit(load(root, val_fraction=0, test_fraction=0), duplicates=False),
        "audit": lambda: audit(load(root)),
        "Pillow": lambda: open_some(some),
    }
    if importlib.util.find_spec("imagesize"):
        imagesize = importlib.import_module("imagesize")
        runs["imagesize"] = lambda: [imagesize.get(path) for path in some]
    took = least(runs, rounds)
    took |= {name: took[name] * len(paths) / len(some) for name in ("Pillow", "imagesize") if name in took}
    read, hashed = took["read"], took["hash"]
    return [
        (f"{files:,} files: walk, open, read, close", f"{read:.2f} s", f"{files / read:,.0f} files/s", None),
        ("the same with SHA-256", f"{hashed:.2f} s", "", None),
        *versus("header and end of each file", took["headers"], read, "reading", 1.5),
        *versus("load and audit without the search for duplicates", took["plain audit"], read, "reading", 1.5),
        *versus("load with drawn splits, audit with duplicates", took["audit"], hashed, "reading and hashing", 1.5),
        *versus("Pillow, Image.open(path).size (a tenth, scaled up)", took["Pillow"], read, "reading", None),
        *(
            versus("imagesize.get(path) (a tenth, scaled up)", took["imagesize"], read, "reading", None)
            if "imagesize" in took
            else []
        ),
    ]


def versus(what: str, took: float, other: float, name: str, most: float | None) -> list[Row]:
    ratio = took / other
    target = f"{ratio:.2f}x {name}" + ("" if most is None else f", target ≤ {most:g}")
    return [(what, f"{took:.2f} s", target, None if most is None else ratio <= most)]


def manifest_rows(file: Path, in_order: Path, rows: int, rounds: int) -> list[Row]:
    def with_csv() -> None:
        with file.open(encoding="utf-8", newline="") as text:
            Counter(row["label"] for row in csv.DictReader(text))

    def with_csv_lists() -> None:
        with file.open(encoding="utf-8", newline="") as text:
            Counter(row[1] for row in csv.reader(text))

    def counts() -> None:
        read_csv(file, ("path", "label"), error=DatasetError).columns["label"].value_counts()

    took = least(
        {
            "dict": with_csv,
            "csv": with_csv_lists,
            "polars": lambda: pl.read_csv(file, infer_schema=False)["label"].value_counts(),
            "counts": counts,
            "checks": lambda: read_manifest(file),
            "in order": lambda: read_manifest(in_order),
        },
        rounds,
    )
    size = file.stat().st_size / 2**20
    scale = rows / 2_000_000
    return [
        (f"{rows:,} rows ({size:.0f} MiB), counts: csv.DictReader", f"{took['dict']:.2f} s", "", None),
        ("counts: csv.reader", f"{took['csv']:.2f} s", "", None),
        ("counts: polars.read_csv", f"{took['polars']:.2f} s", "", None),
        *timed("counts: counterpoise, every row checked for its fields", took["counts"], 0.2 * scale, took["csv"]),
        *timed("all checks, rows in random order", took["checks"], 1.5 * scale, took["csv"]),
        *timed("all checks, rows sorted by path", took["in order"], 1.5 * scale, took["csv"]),
        *(memory(file, size) if Path("/proc/self/status").exists() else []),
    ]


def memory(file: Path, size: float) -> list[Row]:
    """The peak memory of a process that reads the manifest, beyond what its imports take."""
    command = [sys.executable, "-c", MEMORY, str(file)]
    peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return [("peak memory of all checks", f"{peak:.0f} MiB", f"{peak / size:.1f}x the size of the file", None)]


def timed(what: str, took: float, most: float, csv_reader: float) -> list[Row]:
    return [(what, f"{took:.2f} s", f"{took / csv_reader:.2f}x csv.reader, target ≤ {most:.2g} s", took <= most)]


def print_table(rows: Iterable[Row]) -> None:
    for what, took, target, met in rows:
        print(f"{what:<58} {took:>9}  {target:<42} {'' if met is None else 'met' if met else 'NOT MET'}".rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200_000, help="image files; 0 skips this part")
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the manifest; 0 skips this part")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="make the data here unless they are here, and keep them")
    given = parser.parse_args()
    packages = ("counterpoise", "polars", "pillow", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    machine = f"{platform.machine()}, {available_cores()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"Python {platform.python_version()}, {versions}; {machine}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if given.files:
            root = folder / f"files-{given.files}-{given.classes}"
            if not root.exists():
                make_files(root, given.files, given.classes)
                time.sleep(SETTLED)
            print_table(file_rows(root, given.files, given.rounds))
        if given.rows:
            mixed, in_order = folder / "mixed.csv", folder / "sorted.csv"
            make_manifest(mixed, np.random.default_rng(0).permutation(given.rows).tolist(), given.classes)
            by_class = sorted(range(given.rows), key=lambda i: (i % given.classes, i))
            make_manifest(in_order, by_class, given.classes)
            print_table(manifest_rows(mixed, in_order, given.rows, given.rounds))


if __name__ == "__main__":
    main()
