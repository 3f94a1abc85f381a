"""The map of the package names only modules that exist, and every package has its row."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "counterpoise"
TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def test_every_path_exists():
    table = TEXT.partition("## Packages")[0]
    missing = []
    for row in table.splitlines():
        folder = SRC
        for path in re.findall(r"`([\w/]+(?:\.py|/))`", row):
            places = (SRC / path, folder / path, ROOT / path)
            if not any(place.exists() for place in places):
                missing.append(path)
            if "/" in path.rstrip("/"):
                folder = (SRC / path).parent
    assert not missing


def test_the_modules_of_training_exist():
    section = TEXT.partition("## Training")[2].partition("## Comparison")[0]
    whole, _, frozen = section.partition("### On frozen features")
    training = SRC / "workflow" / "training"
    for text, folders in ((whole, [training]), (frozen, [training, training / "frozen"])):
        named = set(re.findall(r"`(\w+\.py)`", text))
        assert {path.name for folder in folders for path in folder.glob("*.py")} >= named
        assert len(named) > 5


def test_every_package_has_a_row():
    rows = set(re.findall(r"^\| `([\w/]+)/` \|", TEXT, re.MULTILINE))
    packages = {path.parent.relative_to(SRC).as_posix() for path in SRC.glob("*/__init__.py")} - {"workflow"}
    for below in ("workflow/*/__init__.py", "workflow/*/*/__init__.py"):
        packages |= {path.parent.relative_to(SRC).as_posix() for path in SRC.glob(below)}
    assert rows == packages
