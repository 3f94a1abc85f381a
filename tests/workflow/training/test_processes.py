"""Two processes share one run: one writes, none repeats or drops an image, and a weighted mean is the whole batch's."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from counterpoise.core.artifacts import Predictions, Run
from counterpoise.models import build_model
from counterpoise.workflow.dataset import load
from counterpoise.workflow.training import RunFolder
from counterpoise.workflow.training.data import ImageTensors

LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "counterpoise.cli")


def launch(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *LAUNCH, *arguments], env=environment, capture_output=True, text=True, timeout=180, check=False
    )


@pytest.mark.slow
@pytest.mark.fault("C12")
def test_two_processes_train_one_run(tmp_path):
    done = launch("train", "digits", "--strategy", "weighted-ce", "--epochs", "2", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr[:4000]
    assert done.stdout.count("trained for 18 steps") == 1
    run = Run.load(tmp_path / "run" / "run.json")
    assert (run.status, run.steps, run.starts) == ("done", 18, (0,))
    model = build_model(run.model, 10)
    model.load_state_dict(RunFolder(tmp_path / "run").read_tensors("model.safetensors")[0])
    for split in ("val", "test", "train"):
        images = load("digits").subset(split)
        saved = Predictions.load(tmp_path / "run" / f"predictions-{split}.npz")
        assert saved.paths.tolist() == list(images.paths)
        batch = ImageTensors(images, size=8, cache_bytes=1e9).__getitems__(list(range(len(images))))
        with torch.inference_mode():
            logits = model.eval()(batch["images"].float() / 255).numpy()
        np.testing.assert_allclose(saved.logits, logits, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.fault("C13")
def test_a_mistake_ends_all_processes(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    done = launch("train", "digits", "--strategy", "focal", "--epochs", "1", "--out", str(tmp_path))
    assert done.returncode != 0
    assert "holds other files (mine.txt)" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
