# `make` lists the targets. Needs python3 (3.11 or newer) with venv, and make; another one: make PYTHON=python3.12 …
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO := demo-output

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test test-slow check format bench screenshot clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.with-dev ## Create .venv with the package (editable) and all tools

demo: $(VENV)/.with-run ## Distances between 1797 handwritten digits, measured
	@mkdir -p $(DEMO)
	$(BIN)/mlpipe info examples/data/digits.npy
	$(BIN)/mlpipe --quiet distances examples/data/digits.npy
	$(BIN)/mlpipe distances examples/data/digits.npy -o $(DEMO)/digits-distances.npy --force
	$(BIN)/mlpipe info $(DEMO)/digits-distances.npy

test: $(VENV)/.with-test ## Run the tests, but for the slow ones
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

test-slow: $(VENV)/.with-test ## Run the tests that take minutes or gigabytes
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(VENV)/.with-dev ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.with-dev ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.with-bench ## Measure against the peers; rewrites benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks $(ARGS)

screenshot: $(VENV)/.with-test ## Make the picture of the HTML report again: docs/report.png
	$(BIN)/python docs/screenshot.py

clean: ## Remove everything that can be made again, .venv included
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find mlpipe tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of extras: installed again only when pyproject.toml changes.
$(VENV)/.with-run: EXTRAS :=
$(VENV)/.with-test: EXTRAS := [test]
$(VENV)/.with-bench: EXTRAS := [bench,bench-loaders]
$(VENV)/.with-dev: EXTRAS := [dev]
$(VENV)/.with-%: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.$(EXTRAS)'
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
