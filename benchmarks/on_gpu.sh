#!/usr/bin/env bash
# Run everything that needs an NVIDIA GPU, unattended, and keep the results in one folder:
#
#     bash benchmarks/on_gpu.sh [--rehearse] [RESULTS]        RESULTS: default gpu-results
#
# Each step writes RESULTS/<step>.log and, when it succeeds, RESULTS/<step>.done. Finished steps are skipped, so the same
# command continues after an interruption. A step that fails does not stop the others; the exit status says whether one did.
# With COUNTERPOISE_DATA the training step uses its cifar10-lt, otherwise the embedded digits.
#
# --rehearse   try every step without a GPU: Triton's interpreter, tiny shapes, one epoch. It measures nothing.
set -uo pipefail
cd "$(dirname "$0")/.."

rehearse=false
[ "${1:-}" = "--rehearse" ] && rehearse=true && shift
results="${1:-gpu-results}"
mkdir -p "$results"
python="${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}"
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
failed=()

step() { # step NAME COMMAND...
  local name="$1" start=$SECONDS
  shift
  if [ -e "$results/$name.done" ]; then
    echo "$name: done before"
    return
  fi
  echo "$name: running, log in $results/$name.log"
  if "$@" >"$results/$name.log" 2>&1; then
    touch "$results/$name.done"
    echo "$name: done in $((SECONDS - start)) s"
  else
    failed+=("$name")
    echo "$name: FAILED after $((SECONDS - start)) s; the end of its log:"
    tail -n 5 "$results/$name.log"
  fi
}

environment() {
  $rehearse || nvidia-smi
  "$python" - <<'PY'
import importlib.metadata, platform, torch
print("python", platform.python_version(), "| torch", torch.__version__, "| CUDA", torch.version.cuda)
for name in ("triton", "liger-kernel", "quack-kernels"):
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        print(name, "is not installed; its rows are left out")
if torch.cuda.is_available():
    print(torch.cuda.get_device_name(), torch.cuda.get_device_capability())
PY
}

sanitize() { # sanitize TOOL
  if $rehearse; then
    "$python" benchmarks/sanitize.py
  elif command -v compute-sanitizer >/dev/null; then
    compute-sanitizer --tool "$1" --error-exitcode 1 "$python" benchmarks/sanitize.py
  else
    echo "compute-sanitizer is not on the PATH; it comes with the CUDA toolkit"
    return 1
  fi
}

training() {
  local data="digits" strategies="baseline,logit-adjusted,ldam-drw,decoupled,mixup" epochs=200 seeds=3
  [ -d "${COUNTERPOISE_DATA:-}/cifar10-lt" ] && data="$COUNTERPOISE_DATA/cifar10-lt"
  $rehearse && data="digits" strategies="baseline,logit-adjusted" epochs=1 seeds=1
  "$python" -m counterpoise.cli compare "$data" --strategies "$strategies" --epochs "$epochs" --seeds "$seeds" \
    --model resnet32 --out "$results/training" --resume
}

if $rehearse; then
  export TRITON_INTERPRET=1
  tests=(tests/kernels/test_tiles.py tests/benchmarks)
else
  if ! "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    echo "torch sees no GPU here; nothing was run. --rehearse tries the steps without one."
    exit 2
  fi
  tests=(-n auto --dist loadgroup --continue-on-collection-errors tests)
fi

step environment environment
step tests "$python" -m pytest -q -p no:cacheprovider "${tests[@]}"
step memcheck sanitize memcheck
step racecheck sanitize racecheck
if $rehearse; then
  step kernels "$python" benchmarks/sanitize.py --only mean
else
  step kernels "$python" benchmarks/kernels.py --out "$results/kernels.json"
fi
step training training

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}; run the same command again to repeat them"
  exit 1
fi
echo "all steps are done; the tables are in $results/"
