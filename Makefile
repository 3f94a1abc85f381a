# Two commands on a machine that has Python and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TENSORFLOW := .venv-tensorflow
JOBS ?= auto

.PHONY: demo test lint types contracts tests test-tensorflow fix bench-losses bench-samplers bench-audit bench-features bench-kernels bench-gpu clean

demo: $(VENV)/installed
	@$(BIN)/counterpoise demo --out demo

test: lint types contracts tests

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/installed
	$(BIN)/mypy

contracts: $(VENV)/installed
	$(BIN)/lint-imports --no-cache

# One thread a worker: the workers fill the cores.
tests: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS) --dist loadgroup

# The Keras tests on TensorFlow, which is as large as all the rest and has an environment of its own.
test-tensorflow: $(TENSORFLOW)/installed
	OMP_NUM_THREADS=1 $(TENSORFLOW)/bin/python -m pytest -q tests/integrations/test_keras.py -k tensorflow

fix: $(VENV)/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench-losses: $(VENV)/installed
	$(BIN)/python benchmarks/losses.py

bench-samplers: $(VENV)/installed
	$(BIN)/python benchmarks/samplers.py

# Makes 200,000 small files and a manifest of 2 million rows in the folder for temporary files.
bench-audit: $(VENV)/installed
	$(BIN)/python benchmarks/audit.py

# Needs a folder of photographs: $COUNTERPOISE_DATA/cifar10-lt.
bench-features: $(VENV)/installed
	$(BIN)/python -m benchmarks.features $(COUNTERPOISE_DATA)/cifar10-lt

# Needs an NVIDIA GPU, and says so without one.
bench-kernels: $(VENV)/installed
	$(BIN)/python benchmarks/kernels.py

# All that needs a GPU, unattended and resumable: tests, sanitizer, kernels, training.
bench-gpu: $(VENV)/installed
	PYTHON=$(BIN)/python bash benchmarks/on_gpu.sh

clean:
	rm -rf $(VENV) $(TENSORFLOW) demo

# An installation that was interrupted has no such file, and is done again.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# The packages of the other environment are found as well, after its own.
$(TENSORFLOW)/installed: $(VENV)/installed
	$(PYTHON) -m venv $(TENSORFLOW)
	$(TENSORFLOW)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt tensorflow-cpu keras
	@packages='import sysconfig; print(sysconfig.get_path("purelib"))' && \
	others=$$($(BIN)/python -c "$$packages") && own=$$($(TENSORFLOW)/bin/python -c "$$packages") && \
	echo "import site; site.addsitedir('$$others')" > "$$own/other-environment.pth"
	@touch $@
