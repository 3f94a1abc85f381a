"""The history of a run as event files of TensorBoard, beside its other files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from counterpoise.core.artifacts import Run
from counterpoise.core.checks import checked_choice
from counterpoise.core.errors import MissingExtraError, install_command
from counterpoise.workflow.training.posthoc import HistoryRow

TRACKERS = ("tensorboard",)
Track = Callable[[HistoryRow], None]


def check_tracker(name: str | None) -> None:
    """Raise `ArgumentError` for an unknown tracker, `MissingExtraError` for one whose package is missing."""
    if name is None:
        return
    checked_choice("tracker", name, TRACKERS)
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"`tracker` 'tensorboard' needs tensorboard; {install_command('trackers')}") from error


@contextmanager
def tracking(name: str | None, folder: Path, run: Run, *, epoch: int) -> Iterator[Track]:
    """Write the rows that the function gets to ``folder/tensorboard``; nothing if no tracker is named.

    ``epoch`` is the number of epochs done: TensorBoard then ignores later ones of an interrupted training, which are
    repeated.
    """
    if name is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / name), purge_step=epoch + 1 if epoch else None) as writer:
        if epoch == 0:
            values = {"strategy": run.strategy, "seed": run.seed, **run.settings, **run.environment}
            rows = [f"| {key} | {str(value).replace('|', ' ')} |" for key, value in values.items()]
            writer.add_text("settings", "\n".join(["| name | value |", "|---|---|", *rows]), 0)

        def track(row: HistoryRow) -> None:
            for key, value in row.items():
                if key not in ("epoch", "step") and value is not None:
                    writer.add_scalar(key, value, int(row["epoch"] or 0))
            writer.flush()

        yield track
