# `make` alone lists the targets. Each installs what it needs first; a step that is done is skipped.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
PYTHON := .venv/bin/python
ALCOVE := .venv/bin/alcove
STATE ?= /var/lib/alcove
RUN ?= /run/alcove

help:  ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: packages .venv/.done  ## Debian packages and the virtual environment .venv

packages:
	@scripts/install-packages

.venv/.done: requirements-dev.lock pyproject.toml scripts/install-python $(wildcard src/alcove/policy/eslint/*) | packages
	@scripts/install-python
	@touch $@

guest: setup  ## Build the guest image: kernel, agent and language runtimes
	@$(ALCOVE) image build --state $(STATE)

examples: setup  ## Build the example functions into build/examples
	@scripts/build-examples

demo: setup examples  ## The main job: three functions, each called cold, from the pool and warm
	@$(PYTHON) scripts/demo

test: setup lint examples  ## Every test, with real virtual machines (needs root)
	@scripts/test

test-fast: setup  ## Unit tests only, in parallel
	@scripts/install-packages tests/packages.txt
	@$(PYTHON) -m pytest tests/unit -n auto -q

mutants: setup examples  ## Take each defence away in turn: its test must fail (needs root)
	@scripts/mutants

lint: setup  ## Style, types and layers
	@echo "==> Lint"
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench: setup examples  ## Measure start-up times, density and bursts
	@$(ALCOVE) bench startup

serve: setup  ## Run the server here, until Ctrl-C
	@$(ALCOVE) serve --state $(STATE) --run $(RUN)

lock:
	@scripts/lock

clean:  ## Remove what was built here (not the server's state)
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup packages guest examples demo test test-fast mutants lint bench serve lock clean
