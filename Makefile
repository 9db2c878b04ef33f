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

.PHONY: help run ui test test-pythons test-ui test-cluster lint docs pictures format schema bench bench-all bench-rate bench-variants torture clean

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
# Dagster then writes what it plans for the partitions of a run together.
ui: export DAGSTER_EVENT_BATCH_SIZE ?= 500
ui: .venv/.synced $(INSTANCE) ## Open Dagster on the same data, at http://127.0.0.1:3000, or PORT=...
	@$(BIN)/dg dev --host 127.0.0.1 --port $(PORT)

# Or each worker would compile all modules and tests anew, at eight seconds of CPU.
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/.synced ## Run the whole suite; starts the servers that it needs
	@$(BIN)/pytest -n auto

PYTHONS ?= 3.11 3.12 3.13 3.14
SMOKE := $(addprefix tests/,test_package.py test_public_names.py test_image_maker.py cli/test_terminal.py \
	defs/test_assets.py emulator/test_server.py images/test_formats.py ledger/test_sqlite.py lineage/test_table.py \
	produce/test_producer.py prompts/test_load.py provider/test_client_emulator.py store/test_local.py)
# pyenv's shims run only the Python that is chosen there; its folders hold all.
PYENV_BINS = $(shell printf '%s:' $(wildcard $(shell pyenv root 2>/dev/null)/versions/3.*/bin))

test-pythons: .venv/.synced ## Types and a minute of tests on the machine's other Pythons; PYTHONS=3.12 for one
	@unset PYTHONDONTWRITEBYTECODE; export PATH="$(PYENV_BINS)$$PATH" UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=0; \
	for version in $(PYTHONS); do \
	  if $(BIN)/python -V | grep -q "^Python $$version\."; then \
	    echo "Python $$version: skipped, it is that of .venv"; \
	  elif ! $(UV) python find --quiet --system --no-project $$version >/dev/null; then \
	    echo "Python $$version: skipped, this machine has none"; \
	  else \
	    echo "Python $$version:" && export UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-$$version && \
	    $(UV) sync --quiet --frozen --all-extras --python $$version && \
	    .venv-$$version/bin/mypy && \
	    .venv-$$version/bin/pytest -q -n auto $(SMOKE) || exit 1; \
	  fi; \
	done

test-ui: .venv/.synced ## Click through Dagster in a browser, three minutes
	@FLUX_TEST_UI=1 $(BIN)/pytest -n 0 tests/ui

test-cluster: .venv/.synced ## Run backfills over two Celery workers and kill one, 13 minutes
	@FLUX_TEST_CLUSTER=1 $(BIN)/pytest -n 0 tests/cluster

lint: .venv/.synced ## Check format, lint, types and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: .venv/.synced ## Build the documents as a site into build/site, with its links checked
	@$(UV) sync --quiet --frozen --inexact --all-extras --group docs
	@$(BIN)/python -m tools.docs_site

pictures: .venv/.synced ## Take the pictures of the README anew: the gallery, and the graph of a chain
	@$(BIN)/python -m tools.pictures

format: .venv/.synced ## Put the code into its one format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

schema: .venv/.synced ## Write the JSON Schema of a prompt set again, after its form or a model has changed
	@$(BIN)/python -c "from flux_pipeline.prompts.json_schema import write_copy; write_copy()"

bench: .venv/.synced ## CPU of an image beside a bare loop, what it calls, and start-up; three minutes
	@$(BIN)/python -m benchmarks

bench-all: .venv/.synced ## All benchmarks: also whole runs, memory, kills, other libraries, searches and the rate; 40 minutes
	@$(BIN)/python -m benchmarks --all

bench-rate: .venv/.synced ## How much of a provider's rate is used, over sockets; eleven minutes
	@$(BIN)/python -m benchmarks.rate

bench-variants: .venv/.synced ## Compare published variants with plain Pillow: CPU and memory
	@$(BIN)/python -m benchmarks.variants

torture: .venv/.synced ## The long reliability runs
	@$(BIN)/pytest -m torture -n 0 tests/reliability

clean: ## Remove the environment; data/ stays
	@rm -rf build .cache .venv .venv-3.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
