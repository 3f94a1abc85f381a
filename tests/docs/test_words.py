"""Texts use the field's terms: none of the private metaphors that an earlier version was written in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = [
    *(ROOT / "src").rglob("*.py"),
    *(ROOT / "src").rglob("*.md"),
    *(ROOT / "src").rglob("*.html"),
    *(ROOT / "src").rglob("*.js"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]
INSTEAD = {
    r"throttl\w*": "modulating factor",
    r"letters? of the": "hyperparameters",
    r"(image|sample)s? pulls?\b|pulls (less|more|harder)": "gradient magnitude",
    r"noes|yeses": "negatives and positives",
    r"by heart|memori[sz](e|es|ing|ation)|is memorised": "overfit; gap between training and test recall",
    r"taken for what|what is taken for": "confusion matrix",
    r"head against tail": "recall of frequent classes vs. recall of rare classes",
    r"drawn by us": "set aside automatically",
    r"as they come": "instance-balanced sampling",
    r"every class equally often": "class-balanced sampling",
    r"told apart|tell (it|them|strategies) (apart|from)": "significantly different",
    r"known only roughly": "wide confidence interval",
    r"corrected more than once": "class imbalance is compensated more than once",
    r"lessons?|afterwards\.py": "page, section",
    r"(this|the|each|every|which) (room|house)s?": "package, module, architecture",
    r"surely|hardly|at no cost": "a number with its interval",
}


@pytest.mark.parametrize("wrong", INSTEAD)
def test_texts_use_the_terms_of_the_field(wrong: str) -> None:
    pattern = re.compile(rf"\b({wrong})\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:90]}"
        for path in TEXTS
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"write instead: {INSTEAD[wrong]}\n" + "\n".join(found[:20])


def test_the_words_are_found_where_they_stand() -> None:
    assert re.search(rf"\b({next(iter(INSTEAD))})\b", "focal loss throttles them", re.IGNORECASE)
    assert len(TEXTS) > 100
