# Two commands on a fresh machine with Python >= 3.11, make and a package index: `make demo` and `make test`.
# Both make the environment .venv first, once; PYTHON=… names the Python to make it with, VENV=… another folder.

VENV ?= .venv
PYTHON ?=
TESTS ?= tests
ARGS ?=
SEED ?=
HOURS ?= 24

BIN := $(VENV)/bin
PEERS := $(VENV)-peers
READY := $(VENV)/.ready
SOURCES := src tests benchmarks scripts

.DEFAULT_GOAL := help
.PHONY: help demo test faults mutants soak lint types docs bench bench-flat bench-peers bench-report format lock clean

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## See a job being killed and going on where it was (ARGS="--seed 7 --faults 9")
	@$(BIN)/perdure demo $(ARGS)

test: $(READY) ## Run all tests, on real PostgreSQL servers (TESTS=tests/unit ARGS="-k claim")
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS) $(ARGS)

# Tests take long here. What dumps the stacks of one that does, while it runs, can crash it.
faults: $(READY) ## Attack every promise, for an hour or two (SEED=417 repeats a run; ARGS="-k proxy")
	@PERDURE_TEST_TIER=nightly PERDURE_TEST_SEED=$(SEED) $(BIN)/python -m pytest -n 2 --dist worksteal --timeout 3600 \
		-o faulthandler_timeout=0 tests/faults $(ARGS)

mutants: $(READY) ## Take safeguards out one by one, each in a copy; some test must notice (ARGS="--only persist")
	@$(BIN)/python -m tests.mutants $(ARGS)

soak: $(READY) ## Run workers and clients under random faults for hours; nothing may grow (HOURS=1 SEED=417)
	@$(BIN)/python -m tests.soak --hours $(HOURS) $(if $(SEED),--seed $(SEED)) $(ARGS)

# Both run all their tools, whichever fail.
lint: $(READY) ## Check the style, the format and the direction of imports
	@failed=0; \
	$(BIN)/ruff check . || failed=1; \
	$(BIN)/ruff format --check . || failed=1; \
	$(BIN)/lint-imports --no-logo || failed=1; \
	exit $$failed

types: $(READY) ## Check the types with mypy and pyright, both strict
	@failed=0; \
	$(BIN)/mypy || failed=1; \
	$(BIN)/pyright --pythonpath $(BIN)/python || failed=1; \
	exit $$failed

docs: $(READY) ## Run every example of README.md and docs/
	@$(BIN)/python -m pytest tests/docs $(ARGS)

bench: $(READY) ## Measure, beside bare psycopg and the peers that are there (ARGS="--works drain --rounds 1")
	@$(BIN)/python -m benchmarks --peers $(PEERS) $(ARGS)

bench-peers: $(READY) ## Make the peers' environment, for bench and its plots
	@scripts/make-peers $(BIN)/python $(PEERS)

bench-flat: $(READY) ## Measure whether it stays as it is (ARGS="--minutes 10 --pinned --out flat.jsonl")
	@$(BIN)/python -m benchmarks.flat $(ARGS)

bench-report: $(READY) ## Put a run's figures into docs/performance.md (RESULTS=benchmarks/results/….jsonl)
	@$(PEERS)/bin/python -m benchmarks.plots $(RESULTS) --into docs/images
	@$(BIN)/python -m benchmarks.report $(RESULTS) --into docs/performance.md

format: $(READY) ## Put the code into its form, and mend what can be mended by itself
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

lock: $(READY) ## Renew requirements-dev.txt: the newest versions that fit pyproject.toml
	@scripts/lock $(BIN)/python

clean: ## Remove the environment, caches and the demo's database
	@if [ -x $(BIN)/perdure ] && [ -d .perdure ]; then $(BIN)/perdure db stop || true; fi
	rm -rf $(VENV) $(PEERS) .perdure build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The requirements decide what is in the environment, pyproject.toml which commands it has.
$(READY): requirements-dev.txt pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV) $(PYTHON)

# A Python that was asked for must be looked at even when an environment is there: it may be another one.
ifneq ($(PYTHON),)
$(READY): FORCE
FORCE:
endif
