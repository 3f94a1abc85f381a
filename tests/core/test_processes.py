"""Workers start from any script, also one without a guard or read from a pipe, and end with the process above them."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from counterpoise.core.processes import report, workers

SCRIPT = """
import math
print("once")
from counterpoise.core.processes import workers
with workers(2) as pool:
    print(list(pool.map(math.sqrt, [1, 4, 9, 16])))
"""
PATIENT = """
import sys, time
from counterpoise.core.processes import workers
with workers(3) as pool:
    list(pool.map(time.sleep, [0.3] * 3))
    done = [pool.submit(time.sleep, 60) for _ in range(2)]  # and one waits for work
    print("ready", *pool.process_ids, flush=True)
    done[0].result()
"""


@pytest.mark.parametrize("piped", [True, False])
def test_no_script_is_run_again(piped, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = [sys.executable, "-"] if piped else [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(
        arguments, input=SCRIPT if piped else None, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["once", "[1.0, 2.0, 3.0, 4.0]"], done.stderr
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_all_and_only_the_parent_speaks(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", PATIENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = [int(pid) for pid in child.stdout.readline().split()[1:]]
    assert len(pids) == 3
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: every process of the group hears it
    _, told = child.communicate(timeout=30)
    assert told.count("Traceback") == 1
    assert "Process " not in told  # as a worker that answered would begin
    for _ in range(100):
        if not any(running(pid) for pid in pids):
            break
        time.sleep(0.05)
    assert not [pid for pid in pids if running(pid)]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_and_no_semaphore_outlives_its_parent(how):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen([sys.executable, "-c", PATIENT], start_new_session=True, **pipes)
    pids = [int(pid) for pid in child.stdout.readline().split()[1:]]
    assert len(pids) == 3
    child.send_signal(how)
    # Until the workers, and the process in which Python keeps the list of semaphores, have ended as well.
    _, told = child.communicate(timeout=30)
    assert told == ""
    assert not [pid for pid in pids if running(pid)]


def running(pid):
    """Is there such a process, other than one that has ended and waits for its parent to notice?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_error_in_the_block_ends_the_workers():
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="mine"), workers(2) as pool:
        pool.submit(time.sleep, 60)
        list(pool.map(abs, [1]))
        raise RuntimeError("mine")
    assert time.monotonic() - started < 30


@pytest.mark.fault("D29")
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_process_that_is_killed_loses_its_own_task_and_is_replaced():
    with workers(2) as pool:
        lost, others = pool.submit(end_with, signal.SIGKILL), [pool.submit(abs, -i) for i in range(20)]
        assert [other.result() for other in others] == list(range(20))
        with pytest.raises(BrokenProcessPool):
            lost.result()
        assert pool.submit(abs, -3).result() == 3


def end_with(number):
    os.kill(os.getpid(), number)


def test_errors_and_messages_arrive_in_the_parent():
    messages = []
    with workers(1, listener=messages.append) as pool:
        with pytest.raises(ValueError, match="math domain error"):
            pool.submit(math.sqrt, -1).result()
        pool.submit(report, "half").result()
        pool.submit(report, "whole").result()
    assert messages == ["half", "whole"]


def test_the_callers_main_is_put_back():
    main = sys.modules["__main__"]
    with workers(1, initializer=abs, arguments=(1,)) as pool:
        assert pool.submit(abs, -3).result() == 3
    assert sys.modules["__main__"] is main
