# make demo: the main job from end to end, make demo-hands: on hands.   make test: all tests.   All set up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt constraints.txt \
  $(shell find simgan_fast csrc -type f -not -name '*.pyc' -not -name '*.so')

.PHONY: demo demo-hands test fuzz bench bench-quick bench-guard lint format clean

demo: $(VENV)/.installed
	$(BIN)/simgan-fast demo --out runs/demo

demo-hands: $(VENV)/.installed
	$(BIN)/simgan-fast demo hands --out runs/demo-hands

test: $(VENV)/.installed-dev
	$(BIN)/pytest

# Damaged data sets of every format, a minute or two; FUZZ_EXAMPLES=5000 for longer.
fuzz: $(VENV)/.installed-dev
	$(BIN)/pytest tests/fuzz_readers.py -s -q -p no:cacheprovider

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
	git ls-files 'csrc/*.h' 'csrc/*.cpp' '*/native/*.cpp' | xargs $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files 'csrc/*.h' 'csrc/*.cpp' '*/native/*.cpp' | xargs $(BIN)/clang-format -i

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
