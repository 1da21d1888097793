.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: help install run test types tests fuzz bench lock

help:  ## says what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## creates .venv with everything in it

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -e .
# By all cores, where pip takes one; and our own too: where nothing may be written later, each process would compile it anew.
	@$(BIN)/python -m compileall -q -j 0 .venv/lib fhir_server || true
	@touch $@

run: install  ## runs the whole system with a demo clinic on http://127.0.0.1:8000
	@exec $(BIN)/fhir-server serve --demo

test: install  ## runs every check and test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory --jobs=2 types tests

# These two run beside each other, as types are checked by one core alone. If one finds a fault, the other is still heard.
types:
	$(BIN)/mypy

tests:
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

fuzz: install  ## compares search with memory until it differs, or for so long: make fuzz MINUTES=5
	@$(BIN)/python -m tests.search.fuzz $(MINUTES)

bench: install  ## measures speed and memory
	$(BIN)/python -m bench

lock:  ## resolves pyproject.toml anew into requirements.lock
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e . --group dev
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock
	@touch $(STAMP)
