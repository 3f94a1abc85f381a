"""TensorBoard: the event files of a run have the numbers of its history, also after an interruption."""

from __future__ import annotations

import sys

import pytest

from counterpoise.core.errors import ArgumentError, MissingExtraError
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.training import RunFolder, train

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


class Interrupted(Exception):
    pass


def scalars(folder):
    """The scalars ``{name: {epoch: value}}`` that TensorBoard shows, and its text."""
    events = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    text = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    shown = {}
    for name in tags["scalars"]:
        found = events.Scalars(name)
        assert len({event.step for event in found}) == len(found), f"{name} has an epoch twice"
        shown[name] = {event.step: event.value for event in found}
    return shown, text


def recorded(folder):
    rows = RunFolder(folder).read_history()
    names = [name for name in rows[0] if name not in ("epoch", "step")]
    return {name: pytest.approx({int(row["epoch"]): row[name] for row in rows}, rel=1e-6) for name in names}


def test_event_files_have_the_history_and_the_settings(dataset, tmp_path):
    train("baseline", dataset, epochs=3, out=tmp_path / "plain")
    train("baseline", dataset, epochs=3, tracker="tensorboard", out=tmp_path / "run")
    shown, text = scalars(tmp_path / "run")
    assert shown == recorded(tmp_path / "run")
    assert shown.keys() == {"loss", "learning_rate", "val_loss", "val_accuracy", "val_balanced_accuracy"}
    assert "| epochs | 3 |" in text
    assert "| momentum | 0.9 |" in text
    for name in ("model.safetensors", "history.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert not (tmp_path / "plain" / "tensorboard").exists()


def test_an_epoch_that_is_repeated_after_an_interruption_is_shown_once(dataset, tmp_path, monkeypatch):
    def stop(self, tensors, metadata):
        if metadata["step"] == "4":
            raise Interrupted
        write(self, tensors, metadata)

    write = RunFolder.write_checkpoint
    chosen = {"epochs": 4, "tracker": "tensorboard", "out": tmp_path}
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(RunFolder, "write_checkpoint", stop)
        train("baseline", dataset, **chosen)
    assert train("baseline", dataset, **chosen, resume=True).starts == (0, 2)
    assert scalars(tmp_path)[0] == recorded(tmp_path)
    train("baseline", dataset, **chosen | {"epochs": 2}, overwrite=True)
    assert scalars(tmp_path)[0] == recorded(tmp_path)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_every_run_of_a_comparison_has_its_own_event_files(dataset, tmp_path):
    compare(
        dataset, strategies="focal,post-hoc-logit-adjusted", seeds=1, epochs=2, tracker="tensorboard", out=tmp_path,
        keep="best", select_by="macro_f1", jobs=2,
    )  # fmt: skip
    for name in ("baseline", "focal"):
        shown, _ = scalars(tmp_path / "runs" / f"{name}-seed0")
        assert shown == recorded(tmp_path / "runs" / f"{name}-seed0")
        assert "val_macro_f1" in shown
    assert not (tmp_path / "runs" / "post-hoc-logit-adjusted-seed0" / "tensorboard").exists()


def test_an_unknown_tracker_and_a_missing_package_are_refused_before_any_work(dataset, tmp_path, monkeypatch):
    for function, options in ((train, {"strategy": "focal"}), (compare, {"strategies": "focal"})):
        with pytest.raises(ArgumentError, match="`tracker` must be one of 'tensorboard'; got 'wandb'"):
            function(data=dataset, tracker="wandb", out=tmp_path / "out", **options)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch.utils.tensorboard", None)
            with pytest.raises(MissingExtraError, match=r"needs tensorboard; run pip install -e '\.\[trackers\]' in"):
                function(data=dataset, tracker="tensorboard", out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
