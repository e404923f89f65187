# Everything that can be done with a checkout. `make help` lists it.
#
# The first call sets up .venv, which needs the network; afterwards the stamps in .venv say
# what is up to date, and nothing of the set-up touches the network again.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python that is new enough.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
CC ?= cc
# For each target.
FUZZ_SECONDS ?= 60
BIN := .venv/bin
VENV_READY := .venv/.ready
CORE_READY := .venv/.core
BENCH_READY := .venv-bench/.ready

C_FILES := $(sort $(wildcard csrc/*.c))
C_HEADERS := $(wildcard csrc/*.h)
C_LAID_OUT := $(C_FILES) $(C_HEADERS) $(wildcard tests/c/*.[ch] tests/rig/*.[ch] \
	tests/fuzz/*.[ch])
DOCS := $(wildcard *.md docs/*.md docs/*/*.md)

C_LINT := -std=c11 -fsyntax-only -Wall -Wextra -Wpedantic -Wconversion -Wshadow \
	-Wstrict-prototypes -Werror

.PHONY: help setup run test test-all soak crash fuzz mutants coverage lint format types bench \
	profile sanitize docs build clean

help:  ## List what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(CORE_READY)  ## Create .venv, install everything, build the C core

# pyproject.toml names the dependencies; the embq that is installed points at this folder.
$(VENV_READY): pyproject.toml setup.py MANIFEST.in
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo "python3-venv is missing" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		"setuptools>=77" "wheel>=0.43" "cffi>=1.17"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-build-isolation --editable ".[dev]"
	@touch $@

$(CORE_READY): $(VENV_READY) $(C_FILES) $(C_HEADERS) csrc/ffi_build.py
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

run: $(CORE_READY)  ## Run the main job; FILE=events.jsonl: on these events
	$(BIN)/python -m embq demo $(FILE)

test: $(CORE_READY)  ## Run the tests; ARGS="-k name" chooses
	$(BIN)/python -m pytest $(ARGS)

test-all: build  ## Wheel and tests on each Python; PYTHONS="PATH ..." ONLY="3.12" ARGS
	PYTHONS="$(PYTHONS)" $(BIN)/python tests/pythons/each.py --only "$(ONLY)" $(ARGS)

soak: $(CORE_READY)  ## Chaos for an hour; SECONDS=600 for less
	PYTHONPATH=tests $(BIN)/python -m rig.chaos_soak $(or $(SECONDS),3600) $(SEED)

crash: $(CORE_READY)  ## Power loss: 10,000 crash images; ARGS="--images N --seed S"
	$(BIN)/python tests/rig/crash.py $(ARGS)

mutants: $(CORE_READY)  ## Plant bugs; each must be found by its test; ARGS=words choose
	$(BIN)/python tests/mutants/run.py $(ARGS)

coverage: $(CORE_READY)  ## Which lines the tests run, in C and Python; ARGS as for test
	$(BIN)/python tests/covered.py $(ARGS)

lint: $(VENV_READY)  ## Check style: Python with ruff, C with the compiler
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run -Werror $(C_LAID_OUT)
	for file in $(C_FILES); do $(CC) $(C_LINT) -Icsrc $$file; done

format: $(VENV_READY)  ## Format the code
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(C_LAID_OUT)

types: $(VENV_READY)  ## Check types with mypy
	$(BIN)/mypy

# An environment of its own, so that no peer's needs meet ours.
$(BENCH_READY): bench/requirements.txt bench/install.py pyproject.toml
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python bench/install.py
	@touch $@

bench: $(CORE_READY) $(BENCH_READY)  ## Measure embq, its peers and the limit; ARGS="--quick"
	.venv-bench/bin/python bench/run.py $(ARGS)
	$(BIN)/python bench/plots.py

profile: $(CORE_READY) $(BENCH_READY)  ## Count instructions and system calls per message
	.venv-bench/bin/python bench/costs.py $(ARGS)

sanitize: $(CORE_READY)  ## Run the C tests under ASan and UBSan, the threads under TSan
	$(BIN)/python -m pytest tests/test_c.py $(ARGS)

fuzz: $(CORE_READY)  ## Fuzz the core; FUZZ_SECONDS=600: for longer
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS) $(ARGS)

docs: $(CORE_READY)  ## Check the docs: pasted output is true, examples run
	@test -n "$(DOCS)" || { echo "there are no docs" >&2; exit 1; }
	$(BIN)/cog --check $(DOCS)
	$(BIN)/python -m pytest -p no:cacheprovider --doctest-glob='*.md' $(DOCS)

build: $(VENV_READY)  ## Build sdist and wheel, and check the wheel's abi3 promise
	rm -rf dist
	$(BIN)/python -m build --no-isolation --quiet
	$(BIN)/abi3audit --strict dist/*.whl

clean:  ## Remove everything that was made
	rm -rf .venv .venv-* build dist *.egg-info embq/*.so .pytest_cache .mypy_cache .ruff_cache
	rm -rf .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
