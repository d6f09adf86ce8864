# Two commands set everything up on a machine that has Python 3.11+ and make:
#   make demo    run the main job on a simulated night
#   make test    run the tests
# Both make their own environment first (target `install`).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TEST_PROCESSES ?= 2

.PHONY: install install-dev demo test test-fast lint format lock clean

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	@touch $@

demo: install
	$(BIN)/gw-workflow demo

test: install-dev
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES)

test-fast: install-dev
	$(BIN)/python -m pytest -m "not slow and not server and not dask"

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.style --check

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Renew the lock files after a change of pyproject.toml (needs uv).
lock:
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate pyproject.toml requirements-build.in --output-file requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --all-extras --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
