"""Every case of the fault table of the parts that exist is proven by a test that carries its id."""

import re
from pathlib import Path

HERE = Path(__file__).parent
MARK = re.compile(r"""mark\.fault\(\s*["']([A-Z]\d+)["']""")

PARTS = {"L": 38, "W": 6, "S": 17, "D": 33, "H": 6, "C": 18, "R": 11}
LATER = {
    "D22": "waits for the COCO reader",
    "D28": "waits for the reader of segmentation masks",
    "D30": "waits for the partial result of the audit: an interrupted audit leaves the earlier result or none",
    "D32": "waits for the cache of the audit on disk",
}


def marked() -> set[str]:
    return {case for file in HERE.rglob("*.py") for case in MARK.findall(file.read_text("utf-8"))}


def test_every_case_is_proven_or_named_as_later():
    everything = {f"{part}{i}" for part, n in PARTS.items() for i in range(1, n + 1)}
    later = {case for cases in LATER for case in cases.split()}
    assert not marked() - everything, "unknown ids"
    assert not marked() & later, "no longer later: take them off the list"
    assert everything - marked() - later == set()
