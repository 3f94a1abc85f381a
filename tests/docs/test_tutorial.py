"""The tutorial runs from top to bottom: every command and every python block, and the output is what is shown."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.cli.photos import call

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)( varies)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def output_of(command: str) -> str:
    """What a command of the page prints, on stdout and stderr."""
    words = shlex.split(command, comments=True)
    if words[0] == "counterpoise":
        done = call(*words[1:])
        return f"{done.stdout}\n{done.stderr}"
    assert words[:1] == ["python"], command
    script = [sys.executable, str(ROOT / words[1]), *words[2:]]
    return subprocess.run(script, capture_output=True, text=True, check=True).stdout


def shown(text: str, output: str, *, varies: bool) -> list[str]:
    """The lines of a text block that the output lacks; of a block that varies between machines only the first words."""
    words = " ".join(output.split())
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip() not in ("", "…")]
    return [
        line for line in lines if (line.partition(" ")[0] if varies else line.removesuffix("…").strip()) not in words
    ]


@pytest.mark.slow
@pytest.mark.skipif(None in map(find_spec, ("onnx", "onnxruntime", "onnxscript")), reason="ONNX is not installed")
def test_the_tutorial_runs_and_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text("utf-8")
    namespace: dict[str, object] = {"__name__": "tutorial"}
    output, run = "", set()
    for block in BLOCK.finditer(text):
        kind, varies, content = block.groups()
        line = text[: block.start()].count("\n") + 2
        if kind == "text":
            missing = shown(content, output, varies=bool(varies))
            assert not missing, f"line {line}: the output lacks {missing}:\n{output}"
        elif kind == "console":
            commands = [row.removeprefix("$ ") for row in content.replace("\\\n", " ").splitlines()]
            output = "\n".join(output_of(command) for command in commands)
            run |= {command.split()[1] for command in commands}
        else:
            assert kind == "python"
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * (line - 1) + content, str(PAGE), "exec"), namespace)
            output = printed.getvalue()
    assert run >= {"audit", "plan", "compare", "evaluate", "predict", "export"}


def test_a_missing_line_is_noticed() -> None:
    assert shown("class  train\ncar 1,234 …\n", "class train val\ncar 1,234 5", varies=False) == []
    assert shown("car 12\n", "car 1 2", varies=False) == ["car 12"]
    assert shown("baseline 12\nfocal 3\n", "baseline 13", varies=True) == ["focal 3"]
