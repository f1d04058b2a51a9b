# cnnforge: `make train` trains a first network, `make test` tests everything, `make help` lists the rest.
# Nothing has to be installed by hand beside Python 3.11 or newer, make and git.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)
# uv is used where it is present; pip is enough.
INSTALL = $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check)
# Installers compile what they install, but not an editable package: without this the first commands would.
COMPILE = $(BIN)/python -m compileall -q cnnforge

.DEFAULT_GOAL := help
.PHONY: help train test test-full lint check format docs site ui bench clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

train: $(VENV)/.installed ## Install, train LeNet on the embedded digits, say where to look
	@$(BIN)/cnnforge train experiment=lenet_digits

test: $(VENV)/.installed-dev ## Install what tests need, run them
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" --durations 5

test-full: $(VENV)/.installed-dev ## The same, with the long tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile --durations 15

lint: $(VENV)/.installed-dev ## Format, lint, types, import contracts
	@$(BIN)/ruff format --check --quiet . || (echo "make format would mend this" && false)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

check: lint ## The same and the fast tests: before each commit
	@$(BIN)/python -m pytest -q -x -n 2 -m "not slow" -k "not mnist" $(addprefix --ignore tests/,tracking parity train/test_command.py cli/test_sync.py cli/test_ui.py docs/test_plugins.py conformance/test_forecast.py)

format: $(VENV)/.installed-dev ## Put the code into its one format
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

docs: $(VENV)/.installed ## Write generated pages and pictures, the output that pages show, and the schemas anew
	@$(BIN)/python -m cnnforge.report.reference > docs/reference.md.new && mv docs/reference.md.new docs/reference.md
	@$(BIN)/python -m cnnforge.report.zoo > docs/zoo.md.new && mv docs/zoo.md.new docs/zoo.md
	@$(BIN)/python -m cnnforge.course.pages docs/course
	@$(BIN)/python -m cnnforge.report.pictures docs/pictures
	@$(BIN)/python -m tests.docs.shown
	@$(BIN)/cnnforge schema --write configs

site: $(VENV)/.installed-dev ## Build the documentation site into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --config-file .ci/mkdocs.yml

ui: $(VENV)/.installed ## Open the MLflow UI on this machine
	@$(BIN)/cnnforge ui

# For every benchmark: BENCH=--quick, BENCH=--markdown, BENCH="--backend numpy".
BENCH ?=

bench: $(VENV)/.installed-dev ## Speed, memory and start-up beside PyTorch's, where it is installed
	@for script in machine train_step inference scaling batches serve memory cold_start; do \
		echo; $(BIN)/python -m benchmarks.$$script $(BENCH) || exit 1; done

clean: ## Remove what was installed and cached; runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "cnnforge needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; make PYTHON=python3.12 ...")'
	@echo "creating $(VENV)"
	@$(if $(UV),$(UV) venv --quiet --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing cnnforge (one to three minutes the first time)"
	@$(INSTALL) --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing cnnforge with what its tests need (one to three minutes the first time)"
	@$(INSTALL) --editable '.[dev]'
	@$(COMPILE)
	@touch $@ $(VENV)/.installed
