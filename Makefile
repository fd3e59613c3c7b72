# Everything from a fresh clone, with Python 3.11 or newer and nothing else. `make help` lists it.

SHELL := /bin/sh
PIP := .venv/bin/python -m pip --disable-pip-version-check --quiet
ARGS ?=

.PHONY: help install run test lint bench docs clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

install: .venv/.installed  ## install PayNow into .venv; afterwards .venv/bin/paynow is the program

run: .venv/.installed  ## serve with an embedded PostgreSQL and demo accounts on http://127.0.0.1:8080; Ctrl-C stops all of it
	@exec .venv/bin/paynow serve --demo $(ARGS)

test: .venv/.installed-test  ## run the tests; ARGS goes to pytest, as in make test ARGS="-k replay"
	@exec .venv/bin/python -m pytest $(ARGS)

lint: .venv/.installed-test  ## check style and formatting
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

bench: .venv/.installed-bench  ## measure PayNow against its rivals; ARGS as in make bench ARGS="soak --minutes 2", --help lists all
	@exec .venv/bin/python -m bench $(ARGS)

docs: .venv/.installed  ## write the pages that are made by the code: docs/decision-table.md, docs/events-schema.md
	@.venv/bin/paynow policy table > docs/decision-table.new && mv docs/decision-table.new docs/decision-table.md
	@.venv/bin/paynow events schema --markdown > docs/events-schema.new && mv docs/events-schema.new docs/events-schema.md

clean:  ## remove what was built and installed, never the data in .paynow or the keys in .env
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.paynow/*' -prune -exec rm -rf {} +

# The stamps are newer than what they were made from as long as nothing has to be installed again.
.venv/.installed: .venv/bin/pip setup.cfg pyproject.toml
	@echo 'Installing PayNow into .venv ...'
	@$(PIP) install --editable .
	@touch $@

.venv/.installed-test: .venv/bin/pip setup.cfg pyproject.toml
	@echo 'Installing PayNow and what its tests need into .venv ...'
	@$(PIP) install --editable '.[test]'
	@touch .venv/.installed $@

.venv/.installed-bench: .venv/bin/pip setup.cfg pyproject.toml
	@echo 'Installing PayNow and its rivals into .venv ...'
	@$(PIP) install --editable '.[bench]'
	@touch .venv/.installed $@

.venv/bin/pip: .venv/bin/python
	@.venv/bin/python -m ensurepip --default-pip >/dev/null

.venv/bin/python:
	@python=; \
	for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'PayNow needs Python 3.11 or newer. None was found as python3, python3.11, python3.12, python3.13 or python3.14.' >&2; exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	  echo "$$python comes without the modules that make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	$$python -m venv --without-pip --clear .venv
