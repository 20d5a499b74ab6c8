# make demo: the main job from end to end, make demo-hands: on hands.   make test: all tests.   All set up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt constraints.txt \
  $(shell find simgan_fast csrc -type f -not -name '*.pyc' -not -name '*.so')

.PHONY: demo demo-hands test test-torch-2.11 cuda-check wheel docs fuzz fuzz-guided sanitize audit faults bench bench-quick bench-guard lint format clean

demo: $(VENV)/.installed
	$(BIN)/simgan-fast demo --out runs/demo

demo-hands: $(VENV)/.installed
	$(BIN)/simgan-fast demo hands --out runs/demo-hands

test: $(VENV)/.installed-dev
	$(BIN)/pytest

# The oldest torch that is promised. Its build in the registry brings CUDA along, several GB.
test-torch-2.11:
	$(PYTHON) -m venv --clear build/torch-2.11
	build/torch-2.11/bin/python -m pip install --quiet 'torch==2.11.*' '.[test]'
	build/torch-2.11/bin/pytest

# The wheel that a user would get, in an environment that has nothing but it. The tests of the module and the models, not all.
wheel: $(BIN)/python
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv --clear build/wheel
	build/wheel/bin/python -m pip install --quiet -c constraints.txt "$$(echo dist/simgan_fast-*.whl)[test]"
	build/wheel/bin/simgan-fast info
	build/wheel/bin/pytest tests/test_native.py tests/test_stubs.py tests/test_models.py

# The public functions by their docstrings: build/site/index.html.
docs: $(VENV)/.installed-dev
	$(BIN)/pdoc --docformat google --output-directory build/site simgan_fast simgan_fast.ops simgan_fast.data simgan_fast.simulators

# All CUDA sources for all architectures, what ptxas says of them, and the kernels on the emulator.
cuda-check: $(VENV)/.installed-dev
	@command -v nvcc > /dev/null || { echo "cuda-check needs nvcc on the PATH"; exit 1; }
	$(BIN)/pytest tests/test_cuda_sources.py
	$(BIN)/pytest -k emulator

# Random cases against ops, parsers, readers and the Python API, ten minutes; FUZZ='--seconds 100 --seed 1' for others.
fuzz: $(VENV)/.installed-dev
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m fuzz $(FUZZ)

# All native ops under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer; SANITIZE_CASES=5000 for longer.
sanitize: $(VENV)/.installed-dev
	$(BIN)/pytest tests/test_native_builds.py tests/sanitize.py -s -q -p no:cacheprovider

# Known vulnerabilities of what a user's installation brings along, where the service that knows them can be reached.
audit: $(VENV)/.installed-dev
	test -x build/audit/bin/pip-audit || $(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit
	build/audit/bin/python .ci/audit.py $(BIN)/python

# Coverage-guided bytes against what reads them in our own process, two minutes; FUZZ_SECONDS=600 of each target for longer.
FUZZ_SECONDS ?= 10
fuzz-guided: $(VENV)/.installed-fuzz
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz_guided.py --seconds $(FUZZ_SECONDS)

# 300 kills at random moments, about 20 minutes; FAULT_KILLS=1000 for longer.
faults: $(VENV)/.installed-dev
	$(BIN)/pytest tests/faults.py -s -q -p no:cacheprovider

bench: $(VENV)/.installed-bench
	$(BIN)/pytest benchmarks -s --benchmark-sort=name

bench-quick: $(VENV)/.installed-dev
	$(BIN)/pytest benchmarks -s --peers torch --batches 1,32 --benchmark-sort=name

bench-guard: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/instructions.py
	$(BIN)/python benchmarks/guard.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' '*/native/*.cpp' | xargs $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' '*/native/*.cpp' | xargs $(BIN)/clang-format -i

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# The constraints pin torch, so that the registry's newest build of several GB is not taken by surprise.
$(VENV)/.installed: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -c constraints.txt .
	touch $@

$(VENV)/.installed-dev: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -c constraints.txt '.[dev]'
	touch $@ $(VENV)/.installed

# The refiner's peers: several hundred MB, for the full benchmark only.
$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet -c constraints.txt '.[bench]'
	touch $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet -c constraints.txt '.[fuzz]'
	touch $@
