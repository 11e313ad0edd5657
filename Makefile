# Needs Python 3.11 or later, make and a C compiler. Every target sets up what it uses.

PYTHON3 ?= python3
PYTHON3_NEWEST ?= python3.12
PYTHON ?= .venv/bin/python

BIN := .venv/bin
READY := .venv/.ready
NEWEST := .venv-newest

.DEFAULT_GOAL := help
.PHONY: help setup figures paper test test-newest lint docs links bench canary clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-13s %s\n", $$1, $$2 }'

setup: $(READY) ## Make .venv (PYTHON3=... chooses the interpreter)

$(READY): pyproject.toml constraints.txt
	$(PYTHON3) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test,lint]'
	@touch $@

figures: $(READY) ## Run every experiment at small scale and draw its figures (the main job)
	$(BIN)/jaxcollapse run all --preset quick --out results/quick --figures figures/quick --overwrite

paper: $(READY) ## The same at full scale, and the studies, into paper_figures/figures
	$(BIN)/jaxcollapse run all studies --preset paper --out results/paper --figures paper_figures/figures --overwrite
	$(BIN)/python -m paper_figures.support.documents

# Tests compile more than they compute: programs are not optimised, and are kept.
test test-newest: export XLA_FLAGS ?= --xla_backend_optimization_level=0 \
	--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters --xla_cpu_parallel_codegen_split_count=1
test test-newest: export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
test test-newest: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
test test-newest: export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1
test test-newest: export TF_CPP_MIN_LOG_LEVEL ?= 3
test: $(READY) ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-newest: $(NEWEST)/.ready ## Run them with the newest releases that are allowed (PYTHON3_NEWEST=... chooses the interpreter)
	$(NEWEST)/bin/python -m pytest -n 2 --dist loadfile

$(NEWEST)/.ready: pyproject.toml
	$(PYTHON3_NEWEST) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/pip install --quiet -e '.[test]'
	@touch $@

lint: $(READY) ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: export TF_CPP_MIN_LOG_LEVEL ?= 3
docs: .venv/.docs ## Build the site into docs/_build/html, from what is here, with warnings as errors
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html

.venv/.docs: $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

links: .venv/.docs ## Try every link of the site, those that need a network too
	$(BIN)/python -m sphinx -b linkcheck -q docs docs/_build/links

bench: $(READY) ## Time the hot paths, and write docs/benchmarks.md
	$(BIN)/python -m benchmarks.page docs/benchmarks.md

canary: $(if $(filter $(BIN)/python,$(PYTHON)),$(READY)) ## Check a jax before its numbers are believed (PYTHON=... has it installed)
	$(PYTHON) -m pytest tests/test_canary.py

clean: ## Remove all that can be made again in minutes; results/paper stays
	rm -rf .venv $(NEWEST) .cache .pytest_cache .ruff_cache build docs/_build *.egg-info results/quick figures/quick
	find jaxcollapse experiments benchmarks paper_figures tests -name __pycache__ -type d -prune -exec rm -rf {} +
