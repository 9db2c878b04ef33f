# Every target makes its own environment first: nothing global is installed, and uv is fetched into
# .venv through pip where the machine has none.

PYTHON ?= python3
BIN := .venv/bin
UV := $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
export UV_COMPILE_BYTECODE := 1
# The system's certificates, as pip uses them: some networks have one of their own.
export UV_SYSTEM_CERTS := 1
# Dagster keeps its runs here; dagster.yaml is copied in, because Dagster reads it from there. A
# DAGSTER_HOME of yours is used as it is.
.DEFAULT_GOAL := help
ifeq ($(origin DAGSTER_HOME),undefined)
INSTANCE := $(CURDIR)/data/dagster/dagster.yaml
run ui: export DAGSTER_HOME := $(CURDIR)/data/dagster
$(INSTANCE): dagster.yaml
	@mkdir -p $(@D) && cp $< $@
endif

.PHONY: help run ui test test-ui test-cluster lint format bench torture clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.synced: pyproject.toml uv.lock
	@command -v uv >/dev/null 2>&1 || test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; }
	@$(UV) sync --quiet --frozen --inexact --all-extras
	@touch $@

run: .venv/.synced $(INSTANCE) ## Make the pictures of every prompt set in configs/
	@$(BIN)/flux-pipeline run

# The port is named, or Dagster would take another one where this is taken, and FLUX_UI_URL be wrong.
PORT ?= 3000
ui: export FLUX_UI_URL ?= http://127.0.0.1:$(PORT)
ui: .venv/.synced $(INSTANCE) ## Open Dagster on the same data, at http://127.0.0.1:3000, or PORT=...
	@$(BIN)/dg dev --host 127.0.0.1 --port $(PORT)

# Or each worker would compile all modules and tests anew, at eight seconds of CPU.
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/.synced ## Run the whole suite; starts the servers that it needs
	@$(BIN)/pytest -n auto

test-ui: .venv/.synced ## Click through Dagster in a browser, three minutes
	@FLUX_TEST_UI=1 $(BIN)/pytest -n 0 tests/ui

test-cluster: .venv/.synced ## Run backfills over two Celery workers and kill one, 13 minutes
	@FLUX_TEST_CLUSTER=1 $(BIN)/pytest -n 0 tests/cluster

lint: .venv/.synced ## Check format, lint, types and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv/.synced ## Put the code into its one format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: .venv/.synced ## Compare with a bare loop: CPU per image, and the ratio
	@$(BIN)/python -m benchmarks.overhead

torture: .venv/.synced ## The long reliability runs
	@$(BIN)/pytest -m torture -n 0 tests/reliability

clean: ## Remove the environment; data/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
