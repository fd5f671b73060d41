# Everything runs in .venv, which the first target that needs it makes from requirements.lock.
# Assumed: make, and a python3 of version 3.11, 3.12 or 3.13 (another one: make PYTHON=python3.12 test).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.DEFAULT_GOAL := help
.PHONY: help setup demo test crash check browser outside format bench lock clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv, with every package at the version and hash of requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "convpredict needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is another;" \
			"name one that is installed: make PYTHON=python3.12 setup" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## simulate a funnel, check it, train, compare, score, promote, run a night: three minutes
	$(BIN)/convpredict simulate configs/demo.yaml
	$(BIN)/convpredict check configs/demo.yaml --quarantine runs/demo/quarantine
	$(BIN)/convpredict train configs/demo.yaml --out runs/demo
	$(BIN)/convpredict compare runs/demo
	$(BIN)/convpredict score configs/demo.yaml --run runs/demo --out runs/demo/scores.parquet --top 20
	$(BIN)/convpredict promote configs/demo.yaml
	$(BIN)/convpredict nightly configs/demo.yaml --as-of 2025-12-31

test: $(STAMP) ## run every test, the examples in docstrings among them, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

crash: $(STAMP) ## kill 200 nightly runs and take their disk away (six minutes on quiet cores; CONVPREDICT_KILLS says how often)
	CONVPREDICT_KILLS=$${CONVPREDICT_KILLS:-200} $(BIN)/python -m pytest -s tests/crash

check: $(STAMP) ## lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

browser: $(STAMP) ## test the report in a headless Chromium (CONVPREDICT_CHROMIUM names one)
	$(BIN)/python -m pytest tests/browser

outside: $(STAMP) ## serve a model with MLflow's own tools and Spark from a fresh environment (minutes; downloads it)
	CONVPREDICT_OUTSIDE=1 $(BIN)/python -m pytest tests/outside -s

format: $(STAMP) ## rewrite the code the way `make check` wants it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP) ## measure building features on 20 million events (a few minutes, 8 GB of disk)
	$(BIN)/python benchmarks/features.py --scaling
	$(BIN)/python benchmarks/features.py --cold

lock: ## resolve pyproject.toml again and rewrite requirements.lock (ten minutes: it asks for every file's hash)
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check --quiet install pip-tools
	build/lock/bin/pip-compile --quiet --generate-hashes --extra dev --build-deps-for editable \
		--unsafe-package convpredict --strip-extras --no-annotate --no-header --no-emit-options \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file build/resolved.lock pyproject.toml
	{ sed '/^[^#]/,$$d' requirements.lock; sed '/^#/d; /^$$/d' build/resolved.lock; } > build/requirements.lock
	mv build/requirements.lock requirements.lock

clean: ## remove what the other targets made, .venv included
	rm -rf $(VENV) build dist runs demo_data .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks \( -name '*.nbi' -o -name '*.nbc' \) -delete
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	find src -name '*.egg-info' -type d -prune -exec rm -rf {} +
