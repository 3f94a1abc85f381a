"""Trainings that are killed, interrupted or lose an image: resuming gives the bits of an uninterrupted training."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from counterpoise.core.errors import DatasetError
from counterpoise.workflow.training import train

ROOT = Path(__file__).parents[3]
START = """
import os, resource, signal, sys
import torch
torch.set_num_threads(1)
from pathlib import Path
from tests.workflow.blobs import blobs
from counterpoise.workflow.training import train
from counterpoise.workflow.training.trainer import Trainer
out = Path(sys.argv[1])
"""
EVERY_STEP = """
save = Trainer.save
def killed(number):
    state = {"armed": False, "seen": 0}
    def step(event, arguments):
        if state["armed"] and event in ("open", "os.rename", "os.chmod", "os.remove", "fsync"):
            state["seen"] += 1
            if state["seen"] == number:
                os.kill(os.getpid(), signal.SIGKILL)
    def watched(self, folder):
        state["armed"] = self.step == 4
        if state["armed"] and number == 0:  # the system ends the process within the write
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        save(self, folder)
        state["armed"] = False
    fsync = os.fsync
    os.fsync = lambda handle: (step("fsync", ()), fsync(handle))
    Trainer.save = watched
    sys.addaudithook(step)
    train("baseline", blobs(), epochs=3, out=out / str(number))
    os._exit(0)

number = 0
while True:
    child = os.fork()
    if child == 0:
        killed(number)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        assert status == 0, status
        break
    number += 1
print(number)
"""
WAIT = (
    START
    + """
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
def wait(done, total):
    if done == 3:
        print("ready", flush=True)
        signal.pause()
train("baseline", blobs(), epochs=3, out=out, progress=wait)
"""
)


class Interrupted(Exception):
    pass


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.fault("C1")
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="fork, and signals of POSIX")
def test_a_process_killed_at_any_step_of_a_save_leaves_a_checkpoint_that_resumes_to_the_same_bits(dataset, tmp_path):
    script = START + EVERY_STEP
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    train("baseline", dataset, epochs=3, out=tmp_path / "whole")
    starts = []
    for number in range(int(done.stdout)):
        folder = tmp_path / str(number)
        run = train("baseline", dataset, epochs=3, out=folder, resume=True)
        assert weights(folder) == weights(tmp_path / "whole"), number
        assert (folder / "history.csv").read_bytes() == (tmp_path / "whole" / "history.csv").read_bytes()
        starts.append(run.starts)
    assert set(starts) <= {(0, 2), (0, 4)}
    assert starts[0] == (0, 2)
    assert len(starts) >= 6


@pytest.mark.fault("C8")
def test_resuming_continues_from_the_last_of_more_than_nine_epochs_and_ignores_partial_files(dataset, tmp_path):
    def stop(done, total):
        if done == 22:
            raise Interrupted

    train("baseline", dataset, epochs=12, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train("baseline", dataset, epochs=12, out=tmp_path / "parts", progress=stop)
    for name in (".checkpoint.safetensors.abc.tmp", "checkpoint.safetensors.tmp"):
        (tmp_path / "parts" / name).write_bytes(b"partial")
    assert train("baseline", dataset, epochs=12, out=tmp_path / "parts", resume=True).starts == (0, 20)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


@pytest.mark.fault("C10")
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_and_the_training_resumes_to_the_same_bits(dataset, tmp_path, sent):
    child = subprocess.Popen(
        [sys.executable, "-c", WAIT, str(tmp_path / "parts")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    child.send_signal(sent)
    child.communicate(timeout=60)
    assert child.returncode == -sent
    train("baseline", dataset, epochs=3, out=tmp_path / "whole")
    assert train("baseline", dataset, epochs=3, out=tmp_path / "parts", resume=True).starts == (0, 2)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


@pytest.mark.fault("C10")
def test_training_works_in_any_thread_and_leaves_the_signal_handlers_alone(dataset, tmp_path):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    thread = threading.Thread(target=train, args=("baseline", dataset), kwargs={"epochs": 1, "out": tmp_path / "run"})
    thread.start()
    thread.join()
    assert weights(tmp_path / "run")
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.fault("C11")
def test_an_image_that_is_lost_during_training_is_named_in_one_line(tmp_path):
    rng = np.random.default_rng(0)
    for split, n in (("train", 6), ("val", 3), ("test", 3)):
        for name in "ab":
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{i}.png")

    def lose(done, total):
        (tmp_path / "data/train/b/4.png").unlink(missing_ok=True)

    # cache_gib=0: worker processes decode every image anew in each epoch.
    with pytest.raises(DatasetError, match=r"^image \d+ \('train/b/4.png'\): .*No such file") as caught:
        train("baseline", tmp_path / "data", epochs=3, batch_size=4, cache_gib=0.0, out=tmp_path / "o", progress=lose)
    assert "\n" not in str(caught.value)
