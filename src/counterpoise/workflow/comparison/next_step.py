"""The sentence at the end of a verdict: what to do now, with commands that can be typed."""

from __future__ import annotations

import shlex
from pathlib import Path

from counterpoise.core.artifacts import Verdict

MORE_SEEDS = 5
"""With fewer seeds, the step after an undecided comparison is to train this number."""


def next_step(verdict: Verdict, *, again: str, folder: str, seeds: int) -> str:
    """What to do after a comparison.

    Args:
        verdict: the verdict of the comparison.
        again: the command that made the comparison, without ``--seeds``, ``--resume`` and ``--overwrite``.
        folder: the folder of the comparison, quoted as in a shell.
        seeds: the number of seeds of the comparison.

    Example:
        >>> clear = Verdict("clear", "Use focal.", "focal", leader="focal")
        >>> next_step(clear, again="counterpoise compare photos --out result", folder="result", seeds=3)
        'Next: `counterpoise predict result IMAGES`, or `counterpoise export result --out model.onnx`.'
    """
    if verdict.kind == "nothing-finished":
        return f"Next: remove the cause of the errors, then `{again} --seeds {seeds} --resume`."
    if verdict.recommended is not None:
        return f"Next: `counterpoise predict {folder} IMAGES`, or `counterpoise export {folder} --out model.onnx`."
    leader = shlex.quote(str(verdict.leader))
    use = f"to use {verdict.leader} all the same, `counterpoise predict {folder} IMAGES --strategy {leader}`"
    if seeds < MORE_SEEDS:
        return f"Next: `{again} --seeds {MORE_SEEDS} --resume` adds seeds and keeps the finished runs; {use}."
    return f"Next: add validation images, for example with a larger `--val-fraction`, and compare again; {use}."


def command(source: str, out: str | Path, *, defaults: bool) -> str:
    """The command of a comparison; an ellipsis stands for its options if it does not have the ``defaults``."""
    return f"counterpoise compare {typed(source)} {'' if defaults else '… '}--out {typed(out)}"


def typed(path: str | Path) -> str:
    """A path as in a shell; of an absolute one the last component, because a report may be passed on to others."""
    return shlex.quote(Path(path).name if Path(path).is_absolute() else str(path))
