"""Check that the tests fail when a line of the code is wrong: ``python benchmarks/mutants.py [--only TEXT] [--list]``.

Each edit changes one line in a temporary copy of the repository and runs the tests named for it, which must fail; the
same tests must pass without the edit. The exit code is 1 if an edit survives or cannot be applied.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "src/counterpoise"
COPIED = ("src", "tests", "benchmarks", "docs", "examples", "pyproject.toml", "README.md", "CHANGELOG.md")
SECONDS = 600


class Edit(NamedTuple):
    """A change of one line, and the tests that must fail with it."""

    file: str
    old: str
    new: str
    tests: str

    @property
    def path(self) -> str:
        return f"{SOURCE}/{self.file}"

    def __str__(self) -> str:
        return f"{self.file}: {self.old.strip()!r} -> {self.new.strip()!r}"


VALUES, FAULTS = "tests/losses/test_values.py", "tests/losses/test_faults.py"
GRADIENTS = "tests/contracts/test_loss_laws.py::test_gradient_is_that_of_the_value"
SAMPLERS, TUNING = "tests/contracts/test_samplers.py", "tests/posthoc/test_tuning.py"
TRAIN, TREE = "tests/workflow/training/test_train.py", "tests/hierarchy/test_tree.py"
ARTIFACTS, VERDICT = "tests/core/test_artifacts.py", "tests/workflow/comparison/test_verdict.py"
STATISTICS = "tests/workflow/comparison/test_statistics.py"
DEPLOYMENT = "tests/workflow/deployment/test_model.py"
FROZEN = "tests/workflow/training/frozen"
ARRAYS, SCALE = "tests/core/test_array_files.py", "tests/benchmarks/test_comparison_scale.py"

EDITS = (
    # kernels and losses
    Edit("kernels/reference.py", "valid = target != ignore_index", "valid = target == target", FAULTS),
    Edit("kernels/reference.py", "p = torch.sigmoid(z) - params.clip", "p = torch.sigmoid(z)", VALUES),
    Edit("kernels/reference.py", "z = torch.mul(z, params.scale, out=out)", "z = z * params.scale**2", VALUES),
    Edit(
        "kernels/softmax_blocks.py", "e.scatter_(1, y, -slope * (rest / whole))", "e.scatter_(1, y, -slope)", GRADIENTS
    ),
    Edit("kernels/reference.py", "top = z.amax(1, keepdim=True)", "top = z.amin(1, keepdim=True)", FAULTS),
    Edit("kernels/softmax_blocks.py", "h = q * slope", "h = q", GRADIENTS),
    Edit("kernels/softmax_cpu_blocks.py", "(rest * k).neg_()", "-k", GRADIENTS),
    Edit("kernels/softmax_cpu_blocks.py", "own.amin() > _SMALLEST", "own.amin() >= 0.0", FAULTS),
    Edit("kernels/softmax_cpu_blocks.py", "uniform * (sum_w - weight) - rest * k", "-rest * k", GRADIENTS),
    Edit(
        "losses/base.py",
        "self.weight.detach().copy_(values)",
        "self.weight.detach().copy_(self.weight)",
        "tests/workflow/training/test_weights_and_mixing.py",
    ),
    # counts and weights
    Edit("core/counts.py", "& (raw >= 0))", ")", "tests/core/test_counts.py"),
    Edit(
        "core/counts.py",
        'if sum(map(int, raw.tolist())) > _LARGEST - (raw.dtype.kind == "f"):',
        "if False:",
        "tests/core/test_counts.py",
    ),
    Edit("weights/schemes.py", "return 1.0 / np.sqrt(n)", "return 1.0 / n", "tests/weights/test_schemes.py"),
    Edit(
        "weights/schemes.py",
        "values = [given[name] for name in names]",
        "values = list(given.values())",
        "tests/weights/test_schemes.py",
    ),
    Edit(
        "weights/schemes.py",
        'if counts.empty and empty == "error":',
        'if counts.empty and empty == "never":',
        "tests/weights/test_schemes.py",
    ),
    # samplers
    Edit("samplers/base.py", "taken[present] += amount", "taken[present] += 0", SAMPLERS),
    Edit("samplers/base.py", "if state[key] != value:", "if False:", SAMPLERS),
    Edit(
        "samplers/base.py",
        "self._start, self._progress, self._loaded = done, _Progress(done), True",
        "self._start, self._progress, self._loaded = 0, _Progress(0), True",
        SAMPLERS,
    ),
    Edit("samplers/permutation.py", "outside = outside[walked >= size[outside]]", "outside = outside[:0]", SAMPLERS),
    # corrections after training
    Edit(
        "kernels/asymmetric_softmax.py",
        "(1.0 - params.gamma_neg * nll)",
        "(1.0 + params.gamma_neg * nll)",
        "tests/losses/test_asymmetric_softmax.py",
    ),
    Edit(
        "kernels/asymmetric_softmax.py",
        "(below - at_top * others) / whole",
        "(below - at_top) / whole",
        "tests/losses/test_asymmetric_softmax.py",
    ),
    Edit(
        "kernels/overlap.py",
        "own * (slope * rest[block].unsqueeze(dim) - others))",
        "own * (slope * (1.0 - own) - others))",
        "tests/losses/test_overlap.py",
    ),
    Edit(
        "losses/overlap.py",
        "counts.positives != 0",
        "counts.rows != 0",
        "tests/losses/test_overlap.py",
    ),
    Edit(
        "posthoc/thresholds.py",
        "best = int(np.nanargmax(scores[metric]()))",
        "best = len(last) - 1 - int(np.nanargmax(scores[metric]()[::-1]))",
        TUNING,
    ),
    Edit(
        "posthoc/thresholds.py",
        "weight = np.divide(n, n + shrinkage,",
        "weight = np.divide(n, n + 2 * shrinkage,",
        TUNING,
    ),
    Edit(
        "posthoc/adjustment.py",
        "shift[shares == 0] = np.inf",
        "shift[shares == 0] = 0",
        "tests/posthoc/test_adjustment.py",
    ),
    Edit(
        "posthoc/adjustment.py",
        "key=lambda tau: (-score(tau), abs(tau - 1.0))",
        "key=lambda tau: (-score(tau), abs(tau))",
        TUNING,
    ),
    Edit(
        "samplers/resample.py",
        'chosen[smallest if name == "not minority" else largest] = False',
        'chosen[largest if name == "not minority" else smallest] = False',
        "tests/samplers/test_resample.py",
    ),
    # metrics
    Edit(
        "metrics/tally.py",
        "return mean_over(t.recall, t.support > 0)",
        "return mean_over(t.recall, t.support >= 0)",
        "tests/metrics/test_tally.py",
    ),
    Edit(
        "metrics/tally.py",
        "return np.bincount(a * size + b,",
        "return np.bincount(b * size + a,",
        "tests/metrics/test_tally.py",
    ),
    Edit(
        "metrics/rates.py",
        "among & (total == 0), value",
        "among & (t.support == 0), value",
        "tests/metrics/test_peers.py",
    ),
    Edit(
        "metrics/averages.py",
        "recall = np.where(t.true_positives > 0, t.recall, least)",
        "recall = np.maximum(t.recall, least)",
        "tests/metrics/test_peers.py",
    ),
    Edit("metrics/calibration.py", 'side="left") - 1', 'side="right") - 1', "tests/metrics/test_calibration.py"),
    # class trees
    Edit("hierarchy/decoding.py", "(nodes[rows, node] < threshold)", "(nodes[rows, node] <= threshold)", TREE),
    Edit(
        "hierarchy/decoding.py",
        "edges[:, level.start - 1 : level.stop - 1]",
        "edges[:, level.start - 1 : level.stop - 1] * 2",
        TREE,
    ),
    Edit("hierarchy/tree.py", "if len(set(classes)) != len(classes):", "if False:", TREE),
    # datasets and the audit
    Edit(
        "workflow/dataset/splits.py", "return splits[leader]", "return splits", "tests/workflow/dataset/test_splits.py"
    ),
    Edit(
        "workflow/dataset/splits.py",
        "least_val = int(val > 0 and n >= 2)",
        "least_val = 0",
        "tests/workflow/dataset/test_splits.py",
    ),
    Edit(
        "workflow/dataset/decoding.py",
        "if height * max(width, _LEAST_ROW) > MAX_PIXELS:",
        "if height > MAX_PIXELS:",
        "tests/workflow/dataset/test_header.py tests/workflow/dataset/test_decoding.py",
    ),
    Edit(
        "workflow/dataset/cleaning.py",
        "kept = max(group",
        "kept = min(group",
        "tests/workflow/dataset/test_cleaning.py",
    ),
    Edit("workflow/dataset/cleaning.py", "if len(labels) > 1:", "if False:", "tests/workflow/dataset/test_cleaning.py"),
    Edit(
        "workflow/dataset/cleaning.py",
        "labels=number[dataset.labels],",
        "labels=dataset.labels,",
        "tests/workflow/dataset/test_folder.py",
    ),
    Edit(
        "workflow/dataset/writing.py", "_expect_rows(written, rows)", "pass", "tests/workflow/dataset/test_writing.py"
    ),
    Edit(
        "workflow/dataset/manifest.py",
        'and "split" not in names',
        "and True",
        "tests/workflow/dataset/test_manifest.py",
    ),
    Edit("workflow/dataset/folder.py", "if entry.is_symlink():", "if False:", "tests/workflow/dataset/test_folder.py"),
    Edit("workflow/audit/auditing.py", "if len(splits) > 1:", "if len(splits) > 2:", "tests/workflow/audit"),
    # files
    Edit("core/files.py", "Path(name).replace(target)", "target.write_bytes(Path(name).read_bytes())", ARTIFACTS),
    Edit(
        "core/files.py",
        "if existing and not (resume or overwrite):",
        "if existing and not overwrite and resume:",
        ARTIFACTS,
    ),
    Edit("core/files.py", "lock.acquire(blocking=False)", "pass", ARTIFACTS),
    # training
    Edit("workflow/training/loop.py", 'torch.set_rng_state(tensors["rng"])', "pass", TRAIN),
    Edit("workflow/training/loop.py", "load_state_tensors(self.optimizer, tensors)", "pass", TRAIN),
    Edit(
        "workflow/training/loop.py",
        "bad = torch.nonzero(~torch.isfinite(values)).flatten()",
        "bad = torch.nonzero(torch.isinf(values)).flatten()",
        TRAIN,
    ),
    Edit("posthoc/transforms.py", "logits[:, list(classes)] = -np.inf", "pass", TRAIN),
    Edit("posthoc/transforms.py", "edges[:, list(empty)] = -np.inf", "pass", DEPLOYMENT),
    Edit(
        "workflow/deployment/model.py",
        "if hashlib.sha256(file.read_bytes()).hexdigest() != run.digests.get(file.name):",
        "if False:",
        DEPLOYMENT,
    ),
    Edit(
        "workflow/evaluation/tuning.py",
        "if tuning.validation != run.digests.get(_VALIDATION):",
        "if False:",
        DEPLOYMENT,
    ),
    Edit(
        "workflow/training/setup.py",
        "if tuple(predictions.classes.tolist()) != classes:",
        "if set(predictions.classes.tolist()) != set(classes):",
        "tests/workflow/comparison/test_tree.py",
    ),
    # artifacts of many classes
    Edit("core/arrays.py", "if hashlib.sha256(content).hexdigest() != stated.sha256:", "if False:", ARRAYS),
    Edit("core/arrays.py", "if Path(stated.file).name != stated.file or", "if", ARRAYS),
    Edit("core/arrays.py", "if keep is None or file.name != keep.file:", "if keep is None:", ARRAYS),
    Edit("core/arrays.py", "> max(4 * _ALWAYS_READ, _MAX_COMPRESSION * size)", "> 1 << 60", ARRAYS),
    Edit("core/codec.py", "version = value.versions[-1 if self.compact else 0]", "version = value.versions[0]", ARRAYS),
    Edit("core/codec.py", "table.astype(np.min_scalar_type(table.max(initial=0)))", "table.astype(np.uint8)", ARRAYS),
    Edit("core/codec.py", "self._array(np.array(one, float),", "self._array(np.array(one, np.float32),", ARRAYS),
    Edit("core/codec.py", "if is_finite and types_ <= _scalars(kind):", "if types_ <= _scalars(kind):", ARRAYS),
    Edit(
        "core/confusion.py",
        "if latest is None or latest[0] != i:",
        "if latest is None:",
        "tests/core/test_confusion.py",
    ),
    Edit("core/confusion.py", "self.labels, (i, i + 1))", "self.labels, (i, i + 2))", "tests/core/test_confusion.py"),
    Edit(
        "core/files.py",
        "if len(value) > _LONG_LIST and not any(isinstance(item, dict | list) for item in value):",
        "if len(value) > 9:",
        ARRAYS,
    ),
    Edit("workflow/report/collect_classes.py", "row = matrix.predicted(i)", "row = dict(enumerate(matrix[i]))", SCALE),
    # strategies and the comparison
    Edit(
        "workflow/strategy/planning.py", "if facts.ratio > BALANCED:", "if facts.ratio > 1:", "tests/workflow/strategy"
    ),
    Edit("workflow/comparison/verdict.py", "d.low <= 0 <= d.high", "d.low < 0 < d.high", VERDICT),
    Edit(
        "workflow/comparison/verdict.py",
        "for value in (d.estimate, d.high, d.low))",
        "for value in (d.estimate, d.low, d.high))",
        VERDICT,
    ),
    Edit(
        "workflow/comparison/statistics.py",
        "logits, labels = logits[order], labels[order]",
        "labels = labels[order]",
        STATISTICS,
    ),
    Edit(
        "workflow/comparison/statistics.py",
        "return max(defined, key=lambda name: defined[name])",
        "return min(defined, key=lambda name: defined[name])",
        STATISTICS,
    ),
    # frozen features
    Edit(
        "models/frozen.py", "torch.where(rounded.isinf(), features, rounded)", "rounded", f"{FROZEN}/test_extraction.py"
    ),
    Edit("models/frozen.py", "<= _SAME * expected", "<= 1e9 * expected", "tests/models/test_frozen.py"),
    Edit(
        "models/frozen.py",
        "(round_to_half(features) - self.mean)",
        "(features - self.mean)",
        "tests/workflow/deployment/test_frozen.py",
    ),
    Edit(
        "workflow/training/frozen/cache.py",
        'if file.stem.removeprefix("part-") != self._checksum(content):',
        "if False:",
        f"{FROZEN}/test_extraction.py",
    ),
    Edit(
        "workflow/training/frozen/cache.py",
        "digest = hashlib.sha256(self.key.encode())",
        "digest = hashlib.sha256()",
        f"{FROZEN}/test_extraction.py",
    ),
    Edit(
        "workflow/training/frozen/extraction.py",
        'hashlib.sha256(digest + f" {self.seed} {view}".encode())',
        'hashlib.sha256(f" {self.seed} {view}".encode())',
        f"{FROZEN}/test_extraction.py",
    ),
    Edit(
        "workflow/training/frozen/extraction.py",
        "missing = [v for v in views if (digest, v) not in self._claimed and digest not in self.stores[v]]",
        "missing = list(views)",
        f"{FROZEN}/test_extraction.py",
    ),
    Edit(
        "workflow/training/frozen/extraction.py",
        "if size_and_change(file) != (self.states.sizes[row], self.states.changed[row]):",
        "if False:",
        f"{FROZEN}/test_extraction.py",
    ),
    Edit(
        "workflow/training/frozen/features.py",
        "return np.fromiter((row_of[name] for name in data.paths), dtype=np.int64, count=len(data))",
        "return np.arange(len(data))",
        f"{FROZEN}/test_own_features.py",
    ),
    Edit(
        "workflow/training/frozen/features.py",
        'if tensors_digest(saved[0]) != source["weights"]:',
        "if False:",
        "tests/workflow/deployment/test_frozen.py",
    ),
    Edit(
        "workflow/training/frozen/finetune.py",
        'bias = tensors["head.bias"].double() - weight @ mean',
        'bias = tensors["head.bias"].double()',
        f"{FROZEN}/test_finetune.py",
    ),
    Edit(
        "workflow/training/trainer.py",
        "model.load_state_dict(start)",
        "model.head.load_state_dict({k: v for k, v in start.items() if False}, strict=False)",
        f"{FROZEN}/test_finetune.py",
    ),
    Edit(
        "workflow/comparison/finetuning.py",
        "if best == selected:",
        "if False:",
        f"{FROZEN}/test_finetune.py",
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the tests on wrong code, one wrong line at a time.")
    parser.add_argument("--only", default="", metavar="TEXT", help="the edits whose file or lines contain this text")
    parser.add_argument("--list", action="store_true", help="print the edits and run nothing")
    options = parser.parse_args()
    edits = [edit for edit in EDITS if options.only in str(edit)]
    if options.list:
        print(*edits, sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        copy = _copied(Path(folder))
        unchanged = cache(lambda tests: tests_pass(copy, tests))
        outcomes = []
        for edit in edits:
            outcomes.append(outcome_of(copy, edit, unchanged))
            print(f"{outcomes[-1]:14} {edit}", flush=True)
    print(f"{outcomes.count('killed')} of {len(outcomes)} killed")
    return int(any(outcome != "killed" for outcome in outcomes))


def _copied(folder: Path) -> Path:
    """A copy of the files that the tests need."""
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in COPIED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=ignore)
        else:
            shutil.copy(path, folder / name)
    return folder


def outcome_of(copy: Path, edit: Edit, unchanged) -> str:
    """``killed``, ``survived``, or ``not-applicable``: the line is not there once, or the tests fail without it."""
    file = copy / edit.path
    before = file.read_text("utf-8")
    if before.count(edit.old) != 1 or not unchanged(edit.tests):
        return "not-applicable"
    file.write_text(before.replace(edit.old, edit.new), "utf-8")
    try:
        return "survived" if tests_pass(copy, edit.tests) else "killed"
    finally:
        file.write_text(before, "utf-8")


def tests_pass(copy: Path, tests: str) -> bool:
    """Whether the tests pass; tests that do not end count as failed."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    if run.returncode not in (0, 1):  # 1: tests failed; anything else is a mistake in the list
        raise SystemExit(f"pytest ended with {run.returncode} on {tests}:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    return run.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
