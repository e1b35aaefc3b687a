VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-all check bench-data

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(BIN)/.installed ## install what is locked into .venv

$(BIN)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	$(BIN)/python -m tunemill.exporting.converter
	touch $@

quickstart: install ## install, then tune and evaluate a small real model on the sample data
	$(BIN)/tunemill run pipeline_configs/quickstart.yaml

check: install ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## install and pass the tests; fast ones first
	$(BIN)/pytest
	$(BIN)/pytest -m "flow or model"

test-all: test ## also the slow tier
	$(BIN)/pytest -m slow

bench-data: install ## measure the data stages, other engines and a night at 10k and 100k rows (about 30 minutes)
	$(BIN)/python -m benchmarks.data.nights --rows 100000
	$(BIN)/python -m benchmarks.data.run --rows 10000 --rows 100000
