"""The sentence at the end of a verdict: what to do now, with commands that can be typed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from counterpoise.core.artifacts import Comparison, Verdict
from counterpoise.workflow.training import fitted_on_validation

PREDICT_FINAL = "counterpoise predict final IMAGES"

MORE_SEEDS = 5
"""With fewer seeds, the step after an undecided comparison is to train this number."""


def next_step(
    verdict: Verdict,
    *,
    again: str,
    folder: str,
    seeds: int,
    final: FinalTraining | None = None,
    own_features: bool = False,
) -> str:
    """What to do after a comparison.

    Args:
        verdict: the verdict of the comparison.
        again: the command that made the comparison, without ``--seeds``, ``--resume`` and ``--overwrite``.
        folder: the folder of the comparison, quoted as in a shell.
        seeds: the number of seeds of the comparison.
        final: how to train the model to use, for a comparison with folds, which has none; else None.
        own_features: whether the features were computed elsewhere, so that there is a head without a network.

    Example:
        >>> clear = Verdict("clear", "Use focal.", "focal", leader="focal")
        >>> next_step(clear, again="counterpoise compare photos --out result", folder="result", seeds=3)
        'Next: `counterpoise predict result IMAGES`, or `counterpoise export result --out model.onnx`.'
    """
    if verdict.kind == "nothing-finished":
        return f"Next: remove the cause of the errors, then `{again} --seeds {seeds} --resume`."
    if verdict.recommended is not None and final is not None:
        then = _apply_head("final") if own_features else f"`{PREDICT_FINAL}`"
        return f"Next: `{final.command(verdict.recommended)}` trains the model to use, and then {then}."
    if verdict.recommended is not None and own_features:
        return f"Next: {_apply_head(f'{folder}/runs/{verdict.recommended}-seed…')}."
    if verdict.recommended is not None:
        return f"Next: `counterpoise predict {folder} IMAGES`, or `counterpoise export {folder} --out model.onnx`."
    leader = shlex.quote(str(verdict.leader))
    use = f"to use {verdict.leader} all the same, `counterpoise predict {folder} IMAGES --strategy {leader}`"
    if final is not None:
        use = f"to use {verdict.leader} all the same, `{final.command(str(verdict.leader))}`"
    elif own_features:
        use = f"to use {verdict.leader} all the same, {_apply_head(f'{folder}/runs/{verdict.leader}-seed…')}"
    if seeds < MORE_SEEDS:
        return f"Next: `{again} --seeds {MORE_SEEDS} --resume` adds seeds and keeps the finished runs; {use}."
    more = "add images" if final else "add validation images, use `--folds 5`, or set a larger `--val-fraction`"
    return f"Next: {more}, and compare again; {use}."


def _apply_head(run: str) -> str:
    return (
        f"compute the features of new images as you did those in `--features`, and apply the head in {run} to them "
        '(docs/frozen.md, "Features of your own")'
    )


def has_own_features(comparison: Comparison) -> bool:
    """Whether the features of a comparison were computed elsewhere."""
    features = comparison.settings.get("features")
    return isinstance(features, dict) and "file" in features


@dataclass(frozen=True)
class FinalTraining:
    """The training of one model on all images but those of the test split.

    Attributes:
        train: the command of a training, without ``--strategy``, ``--out`` and ``--with-val``.
        need_validation: names of the strategies that fit something on validation images, which they therefore keep.
    """

    train: str
    need_validation: tuple[str, ...] = ()

    def command(self, strategy: str) -> str:
        """The whole command for a strategy.

        Example:
            >>> FinalTraining("counterpoise train photos").command("focal")
            'counterpoise train photos --strategy focal --with-val --out final'
        """
        option = "" if strategy in self.need_validation else " --with-val"
        return f"{self.train} --strategy {shlex.quote(strategy)}{option} --out final"


def command(source: str, out: str | Path, *, defaults: bool, folds: int | None = None) -> str:
    """The command of a comparison; an ellipsis stands for its options if it does not have the ``defaults``."""
    options = [*([] if defaults else ["…"]), *([] if folds is None else [f"--folds {folds}"]), f"--out {typed(out)}"]
    return " ".join([f"counterpoise compare {typed(source)}", *options])


def final_training(comparison: Comparison, train: str) -> FinalTraining | None:
    """The training of the model to use after a comparison with folds; None after another one, which has the model."""
    if comparison.folds is None:
        return None
    settings, strategies = comparison.settings, [arm.strategy for arm in comparison.arms]
    stops_on_validation = settings.get("keep") == "best" or settings.get("patience") is not None
    return FinalTraining(train, tuple(s.name for s in strategies if stops_on_validation or fitted_on_validation(s)))


def typed(path: str | Path) -> str:
    """A path as in a shell; of an absolute one the last component, because a report may be passed on to others."""
    return shlex.quote(Path(path).name if Path(path).is_absolute() else str(path))
