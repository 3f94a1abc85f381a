"""The guides say what is true: every python block runs, and prints the text block that follows it."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
# The tutorial has a test of its own, because its commands run as well.
PAGES = sorted(page for page in TEXTS if page.name != "tutorial.md" and "```python\n" in page.read_text("utf-8"))
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


FRAMEWORKS = {"huggingface.md": "transformers", "keras.md": "keras", "lightning.md": "lightning"}
"""Pages about a framework: skipped without it; what it warns of is not ours to answer for."""
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def test_the_pages_with_code_are_found() -> None:
    assert {"README.md", "losses.md", "weights.md", "samplers.md", "posthoc.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text("utf-8")) if not (page.parent / link).exists()]
    assert not missing


def test_install_lines_are_for_a_clone() -> None:
    """The package is on no index, so that ``pip install counterpoise`` would fail or install something else."""
    texts = [*TEXTS, *(ROOT / "src").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    named = re.compile(r"pip install [^\n`]*\bcounterpoise\b(?!,)")
    found = [f"{path.name}: {m[0]}" for path in texts for m in named.finditer(path.read_text("utf-8"))]
    assert not found
    assert "$ git clone" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs_and_prints_what_stands_below(page: Path) -> None:
    if page.name in FRAMEWORKS:
        if find_spec(FRAMEWORKS[page.name]) is None:
            pytest.skip(f"{FRAMEWORKS[page.name]} is not installed")
        warnings.simplefilter("ignore")
    text = page.read_text("utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 2
    namespace: dict[str, object] = {"__name__": page.stem}
    for block in blocks:
        line = text[: block.start()].count("\n") + 2
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile("\n" * (line - 1) + block[1], str(page), "exec"), namespace)
        assert out.getvalue().split() == (block[2] or "").split(), f"{page.name} line {line}"
