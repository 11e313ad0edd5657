# Needs Python 3.11 or later, make and a C compiler. Every target sets up what it uses.

PYTHON3 ?= python3
PYTHON ?= .venv/bin/python

EXPERIMENTS := gaussian_collapse power_law finite_n silo_digits \
	calibrated_gradient geodesic barycenter_convergence proxy_gaussian disclosure \
	non_gaussian discrete_tails two_dimensional siloed_images silo_geometry generalization_cost overhead
BIN := .venv/bin
READY := .venv/.ready

# Compiled programs are kept, so that a second run starts at once. One directory for each type of machine.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1
# Taking a program from that cache is worth no warning.
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup figures paper test lint bench canary clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-10s %s\n", $$1, $$2 }'

setup: $(READY) ## Make .venv (PYTHON3=... chooses the interpreter)

$(READY): pyproject.toml constraints.txt
	$(PYTHON3) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test,lint]'
	@touch $@

# $(call reproduce,PRESET,RESULTS,FIGURES)
define reproduce
@set -e; for e in $(EXPERIMENTS); do \
	$(BIN)/python -m experiments.$$e --preset $(1) --out $(2) --overwrite; \
done
@$(BIN)/python -m paper_figures --results $(2) --out $(3)
@echo "figures are in $(3), results in $(2)"
endef

figures: $(READY) ## Run every experiment at small scale and draw its figures (the main job)
	$(call reproduce,quick,results/quick,figures/quick)

paper: $(READY) ## The same at full scale, into paper_figures/figures
	$(call reproduce,paper,results/paper,paper_figures/figures)
	@set -e; for p in splits diffusion tilts unet; do \
		$(BIN)/python -m experiments.siloed_images --preset $$p --out results/paper/$$p --overwrite; \
		$(BIN)/python -m paper_figures --results results/paper/$$p --out paper_figures/figures/$$p; \
	done

# Tests compile more than they compute; the lower level compiles a third faster.
test: export XLA_FLAGS ?= --xla_backend_optimization_level=1
test: $(READY) ## Run the tests
	$(BIN)/python -m pytest -n 2

lint: $(READY) ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(READY) ## Time the hot paths
	@set -e; for b in recursion transport mixture images; do $(BIN)/python -m benchmarks.$$b; done

canary: $(if $(filter $(BIN)/python,$(PYTHON)),$(READY)) ## Check a jax before its numbers are believed (PYTHON=... has it installed)
	$(PYTHON) -m pytest tests/test_canary.py

clean: ## Remove all that can be made again in minutes; results/paper stays
	rm -rf .venv .cache .pytest_cache .ruff_cache build *.egg-info results/quick figures/quick
	find jaxcollapse experiments benchmarks paper_figures tests -name __pycache__ -type d -prune -exec rm -rf {} +
