"""The guides say what is true: every python block runs, and prints the text block that follows it."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["weights", "samplers", "posthoc"])
def test_every_block_runs_and_prints_what_stands_below(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 4
    namespace: dict[str, object] = {"__name__": page}
    for block in blocks:
        line = text[: block.start()].count("\n") + 2
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile("\n" * (line - 1) + block[1], f"{page}.md", "exec"), namespace)
        assert out.getvalue().split() == (block[2] or "").split(), f"{page}.md line {line}"
