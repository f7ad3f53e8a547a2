# Two commands do everything on a fresh machine with Python 3.11 to 3.13, pip and make:
#   make repro   set up, then train, search, distil, evaluate and report
#   make test    set up, then run the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: setup setup-dev repro test check changes format pipeline-test browser-test clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) tools/environment.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# What tests and checks need beside: the pipeline itself does without PyTorch and the like.
setup-dev: $(VENV)/.installed-dev

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# A checkout without git (an unpacked archive) is made a DVC repository of its own.
.dvc/config:
	$(BIN)/dvc init --quiet || $(BIN)/dvc init --quiet --no-scm

repro: setup .dvc/config
	@git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/dvc config --local core.no_scm true
	$(BIN)/dvc repro
	@echo "The page: $(abspath reports/index.html)"

# One thread of BLAS and of OpenMP in each process: theirs spin while they wait, and would take the
# time of the other processes.
test: setup-dev
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 \
		--dist loadfile --no-loadscope-reorder

# Checks of a finished run and of its page; both need `make repro` first.
pipeline-test: setup-dev
	$(BIN)/python -m pytest -m pipeline

browser-test: setup-dev
	$(BIN)/python -m pytest -m browser

check: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Which stages the edits since the last `dvc repro` will run again, and why.
changes: setup
	$(BIN)/python -m tools.changes

format: setup-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .sid2 .pytest_cache .mypy_cache .ruff_cache .hypothesis
