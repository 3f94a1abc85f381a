"""Give damaged and hostile inputs to every reader of the package: ``python benchmarks/fuzz.py [--reader NAME]``.

Each input follows from seed, reader and index. A reader must return what the input holds, as an independent reading
finds it, or raise one of the errors of Counterpoise. A finding is any other exception, a value that was changed, a
valid input that is refused, more than 5 s or 1 GiB, a crash, an input file that was changed, or a file that was written
elsewhere. The readers, their inputs and the independent readings are in benchmarks/fuzzing. The exit code is 1 if there
is a finding.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from counterpoise.core.errors import CounterpoiseError
from fuzzing import READERS, Case, Reader

SECONDS = 5.0
ANSWER = 120
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # writing to a disk would take most of the time
MIB = 1024
LONGEST_MESSAGE = 8000
CHANGES = ("os.", "shutil.", "subprocess.", "socket.", "tempfile.")
READS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.getxattr", "os.listxattr", "shutil.which")


class Outcome(NamedTuple):
    """What a reader did with one input: whether it was accepted, how long it took, and the finding or ""."""

    accepted: bool
    seconds: float
    finding: str = ""


class Overdue(BaseException):
    """The time for one input is over; no `except Exception` catches it."""


class Watch:
    """Records files that Python code writes outside of one folder, and processes and connections that it starts."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.found: list[str] = []
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def outside(self, folder: Path) -> Iterator[list[str]]:
        """The changes outside of the folder while the block runs."""
        self.folder, self.found = str(folder), []
        try:
            yield self.found
        finally:
            self.folder = None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or not (event == "open" or (event.startswith(CHANGES) and event not in READS)):
            return
        if event == "open" and not (set(str(arguments[1])) & set("wax+") or int(arguments[2] or 0) & 0o103):
            return
        if isinstance(arguments[0], int):
            return  # an open file
        if event != "open" and isinstance(arguments[-1], int) and arguments[-1] >= 0:
            return  # relative to an open folder, as when a tree is removed
        target = os.fsdecode(arguments[0]) if arguments and isinstance(arguments[0], str | bytes | os.PathLike) else ""
        if not os.path.realpath(target).startswith(self.folder + "/"):
            self.found.append(f"{event} {target}")


def snapshot(folder: Path) -> dict[Path, str]:
    """The content of every file below a folder, and the targets of links."""
    found = {}
    for start, folders, files in os.walk(folder):
        for path in (Path(start, name) for name in folders + files):
            if path.is_symlink():
                found[path] = str(path.readlink())
            else:
                found[path] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


WATCH = Watch()


def run_input(reader: Reader, seed: int, index: int, folder: Path, limit: float = SECONDS) -> Outcome:
    """Make one input in a new folder, and read it."""
    folder.mkdir()
    try:
        case = reader.make(random.Random(f"{seed} {reader.name} {index}"), folder)
        return _read(reader, case, folder, limit)
    except Exception as error:
        return Outcome(False, 0.0, f"the input cannot be made: {_last_lines(error)}")
    finally:
        shutil.rmtree(folder)


def _read(reader: Reader, case: Case, folder: Path, limit: float) -> Outcome:
    before, value, accepted = snapshot(folder), None, False
    with WATCH.outside(folder) as written:
        start = time.perf_counter()
        try:
            with _time_limit(limit):
                value = reader.read(case)
            accepted, finding = True, ""
        except CounterpoiseError as error:
            finding = _message_finding(str(error), case)
        except Overdue:
            finding = f"hang: more than {limit:g} s"
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of Rust code is no Exception
            finding = f"traceback: {_last_lines(error)}"
        seconds = time.perf_counter() - start
    if accepted:
        finding = _check(reader, case, value)
    if not finding and not reader.writes and snapshot(folder) != before:
        finding = "the input was changed"
    if not finding and written:
        finding = f"written elsewhere: {written[0]}"
    return Outcome(accepted, seconds, finding)


def _check(reader: Reader, case: Case, value: Any) -> str:
    try:
        difference = reader.check(case, value)
    except Exception as error:
        return f"accepted, and the independent reading fails: {_last_lines(error)}"
    return f"silently changed: {difference:.300}" if difference else ""


def _message_finding(message: str, case: Case) -> str:
    if case.is_valid:
        return f"a valid input is refused: {message:.300}"
    if not message.strip():
        return "the error has no message"
    return f"a message of {len(message):,} characters: {message:.200}" if len(message) > LONGEST_MESSAGE else ""


def _last_lines(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = next((frame for frame in reversed(frames) if "counterpoise" in frame.filename), frames[-1])
    return f"{type(error).__name__} at {Path(ours.filename).name}:{ours.lineno} in {ours.name}: {error!s:.160}"


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def end(*_: Any) -> None:
        raise Overdue

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_inputs(reader: Reader, seed: int, indices: range, root: Path) -> Iterator[tuple[int, Outcome]]:
    """The outcome of every input; one that takes long is read twice, as the machine may have been busy."""
    sys.dont_write_bytecode = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        for index in indices:
            outcome = run_input(reader, seed, index, root / "input")
            if outcome.seconds > SECONDS / 5:
                again = run_input(reader, seed, index, root / "input")
                outcome = min(outcome, again, key=lambda o: o.seconds)
            yield index, outcome


def _work(connection: Any, tasks: list[tuple[str, range]], seed: int, root: str) -> None:
    """In a process of its own: send every outcome, and the peak of the memory beyond the start in MiB."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries print there what is wrong with a file
    for name, _ in tasks:
        for _ in run_inputs(READERS[name], -1, range(10), Path(root)):  # imports
            pass
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MIB * 2**20,) * 2)
    for name, indices in tasks:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
        base = _peak()
        for index, outcome in run_inputs(READERS[name], seed, indices, Path(root)):
            connection.send((name, index, outcome, _peak() - base))


def _peak() -> float:
    """Largest memory of this process in MiB so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


@dataclasses.dataclass
class Result:
    """The row of one reader."""

    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    peak: float = 0.0
    findings: list[tuple[int, str]] = dataclasses.field(default_factory=list)

    def add(self, index: int, outcome: Outcome, peak: float) -> None:
        self.accepted += outcome.accepted
        self.refused += not outcome.accepted
        self.slowest, self.peak = max(self.slowest, outcome.seconds), max(self.peak, peak)
        self.findings += [(index, outcome.finding)] if outcome.finding else []


def run_readers(names: Iterable[str], seed: int, indices: range) -> Iterator[tuple[str, Result]]:
    """The result of each reader; all are run in one process, which is replaced when it hangs or crashes."""
    tasks, results = [(name, indices) for name in names], {name: Result() for name in names}
    while tasks:
        with tempfile.TemporaryDirectory(dir=MEMORY) as root:
            for name, index, outcome, peak in _outcomes(tasks, seed, os.path.realpath(root)):
                results[name].add(index, outcome, peak)
                tasks[0] = (name, range(index + 1, indices.stop))
                if not tasks[0][1]:
                    yield tasks.pop(0)[0], results[name]
        if tasks:
            name, left = tasks[0]
            crash = Outcome(False, 0.0, "the process ended or did not answer: a crash, a hang, or too much memory")
            results[name].add(left.start, crash, 0.0)
            tasks[0] = (name, left[1:])
            if not tasks[0][1]:
                yield tasks.pop(0)[0], results[name]


def _outcomes(tasks: list[tuple[str, range]], seed: int, root: str) -> Iterator[tuple[str, int, Outcome, float]]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, tasks, seed, root), daemon=True)
    process.start()
    there.close()
    try:
        while here.poll(ANSWER) or here.poll(10):  # the second time if this process was stopped as well
            yield here.recv()
    except EOFError:
        return
    finally:
        process.kill()
        process.join()


def main() -> int:
    parser = argparse.ArgumentParser(description="Give damaged and hostile inputs to the readers.")
    parser.add_argument("--inputs", type=int, default=10_000, metavar="N", help="inputs per reader")
    parser.add_argument("--reader", action="append", choices=sorted(READERS), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--index", type=int, metavar="I", help="only this input; prints what the reader is given")
    options = parser.parse_args()
    indices = range(options.inputs) if options.index is None else range(options.index, options.index + 1)
    found: list[str] = []
    print(
        f"{'reader':18} {'inputs':>7} {'accepted':>8} {'refused':>8} {'slowest s':>9} {'peak MiB':>8} {'findings':>8}"
    )
    names = options.reader or list(READERS)
    if options.index is not None:
        for name in names:
            show_input(READERS[name], options.seed, options.index)
    for name, result in run_readers(names, options.seed, indices):
        numbers = f"{result.accepted:8,} {result.refused:8,} {result.slowest:9.2f} {result.peak:8.0f}"
        print(f"{name:18} {len(indices):7,} {numbers} {len(result.findings):8,}", flush=True)
        command = f"python benchmarks/fuzz.py --seed {options.seed} --reader '{name}' --index"
        first = {_place(text): (index, text) for index, text in reversed(result.findings)}
        found += [f"{text}\n  {command} {index}" for index, text in first.values()]
    print(*found, sep="\n")
    return int(bool(found))


def _place(finding: str) -> str:
    """The kind of a finding, and the line of code where it is a traceback."""
    return " ".join(finding.split()[:6])


def show_input(reader: Reader, seed: int, index: int) -> None:
    """Print the files of one input, and the value for a reader of values."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "input"
        folder.mkdir()
        case = reader.make(random.Random(f"{seed} {reader.name} {index}"), folder)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                print(f"{os.fsencode(path.name)!r}: {path.read_bytes()[:2000]!r}")
        print(f"given: {case.given!r:.2000}; valid: {case.is_valid}")


if __name__ == "__main__":
    sys.exit(main())
