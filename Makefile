# Everything a contributor does, on a machine with only Python and make.
#
# Each target makes and uses .venv; versions come from constraints.txt. The stamp
# .venv/.installed is written last and holds this folder's path, so that a .venv which was
# interrupted, moved or has lost its Python is seen for what it is and made anew.

STAMP  := .venv/.installed
VENV   := .venv/bin/python
PYTHON ?= $(shell for found in python3 python3.13 python3.12 python3.11; do \
	$$found -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$found && break; done)

# Python is asked to run, not only to exist: a shim on the path may lead nowhere.
WHOLE := $(shell test "$$(cat $(STAMP) 2>/dev/null)" = "$(CURDIR)" && $(VENV) -c '' 2>/dev/null && echo yes)
ifneq ($(WHOLE),yes)
.PHONY: $(STAMP)
endif

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):[^#]*##\(.*\)/  make \1\t\2/p' Makefile | expand -t 18

demo: $(STAMP)  ## a sweep over a small CNN on real digits, two trials at a time
	PYTHONUNBUFFERED=1 $(VENV) examples/digits.py

test: lint  ## ruff, mypy, doctests and every test; what .ci/run runs
	$(VENV) -m pytest

lint: $(STAMP)  ## ruff check, ruff format --check, mypy --strict
	$(VENV) -m ruff check
	$(VENV) -m ruff format --check
	$(VENV) -m mypy

format: $(STAMP)  ## write the code as ruff formats it
	$(VENV) -m ruff check --fix-only
	$(VENV) -m ruff format

bench:  ## the benchmarks there are
	@found=$$(ls benchmarks/*.py 2>/dev/null); \
	if [ -n "$$found" ]; then printf 'run one with $(VENV):\n%s\n' "$$found"; \
	else echo 'There are no benchmarks yet, so nothing was measured.'; fi

clean:  ## remove .venv and everything else that make and the tools wrote
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A whole .venv is brought up to date; any other is made from nothing. The stamp goes first,
# so that an install which fails halfway leaves none.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'No Python >= 3.11 with venv was found (on Debian: apt install python3-venv). Name one: make PYTHON=/path/to/python'; exit 2; }
ifneq ($(WHOLE),yes)
	$(PYTHON) -m venv --clear .venv
endif
	@rm -f $(STAMP)
	@echo 'Installing into .venv; the first time this takes some minutes.'
	$(VENV) -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[examples,test]'
	@echo '$(CURDIR)' > $(STAMP)
