# Everything a contributor does, on a machine with only Python and make.
#
# Each target makes and uses .venv; versions come from constraints.txt. Real MLflow clients, which
# the tests need, live in environments of their own, with versions from constraints-mlflow.txt. The
# stamp .installed in each is written last and holds this folder's path, so that an environment
# which was interrupted, moved or has lost its Python is seen for what it is and made anew.

STAMP  := .venv/.installed
VENV   := .venv/bin/python
MLFLOW := .venv-mlflow/.installed .venv-mlflow-skinny/.installed
PYTHON ?= $(shell for found in python3 python3.13 python3.12 python3.11; do \
	$$found -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$found && break; done)

.DEFAULT_GOAL := help
.PHONY: help demo test simulate lint format mlflow bench bench-checkpoints bench-commits bench-overhead bench-replay bench-samplers bench-scale bench-tracking profile chaos chaos-controller clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*##\(.*\)/  make \1\t\2/p' Makefile | expand -t 24

demo: $(STAMP)  ## a sweep over a small CNN on real digits, two trials at a time
	PYTHONUNBUFFERED=1 $(VENV) examples/digits.py

test: lint mlflow  ## ruff, mypy, doctests and every test; what .ci/run runs
	$(VENV) -m pytest

simulate: $(STAMP)  ## 10,000 sweeps in which everything breaks, or SEEDS=... of them
	$(VENV) tests/core/simulate.py --seeds $(or $(SEEDS),10000)

lint: $(STAMP)  ## ruff check, ruff format --check, mypy --strict
	$(VENV) -m ruff check
	$(VENV) -m ruff format --check
	$(VENV) -m mypy

format: $(STAMP)  ## write the code as ruff formats it
	$(VENV) -m ruff check --fix-only
	$(VENV) -m ruff format

mlflow: $(MLFLOW)  ## the environments with real MLflow clients, for the tests

bench:  ## the benchmarks there are
	@sed -n 's/^\(bench-[a-z-]*\):[^#]*##\(.*\)/  make \1\t\2/p' Makefile | expand -t 24

bench-checkpoints: $(STAMP)  ## checkpoints beside torch.save, safetensors, Ray Train; QUICK=1 for less
	PYTHONUNBUFFERED=1 PYTHONPATH=benchmarks $(VENV) benchmarks/checkpoints/checkpoints.py

bench-commits: $(STAMP)  ## a commit of the journal on a disk, in memory, in a bucket
	PYTHONPATH=benchmarks:tests/storage $(VENV) benchmarks/commits/commits.py

bench-overhead: $(STAMP)  ## raysweep beside Ray Tune, most of an hour; QUICK=1 for three minutes
	PYTHONUNBUFFERED=1 PYTHONPATH=benchmarks $(VENV) benchmarks/overhead/overhead.py

bench-replay: $(STAMP)  ## what a new controller takes to know a million reports again
	PYTHONPATH=benchmarks $(VENV) benchmarks/replay/replay.py

bench-samplers: $(STAMP)  ## samplers beside Optuna's, some hours, kept as it goes; QUICK=1 for five minutes
	$(VENV) benchmarks/samplers/bench.py

bench-scale: $(STAMP)  ## the controller with up to a million simulated trials and 10,000 slots
	PYTHONUNBUFFERED=1 PYTHONPATH=benchmarks $(VENV) benchmarks/scale/scale.py

bench-tracking: $(STAMP) $(MLFLOW)  ## a log_metric against our endpoint and against mlflow server
	PYTHONPATH=benchmarks $(VENV) benchmarks/tracking/log_metric.py

profile: $(STAMP)  ## where the controller's time goes while 16 trials report as fast as they can
	PYTHONUNBUFFERED=1 PYTHONPATH=benchmarks $(VENV) benchmarks/profile/controller_profile.py

chaos: $(STAMP)  ## break a real sweep on purpose in every way; SEED=... for other moments
	PYTHONUNBUFFERED=1 PYTHONPATH=benchmarks $(VENV) benchmarks/chaos/chaos.py

chaos-controller: $(STAMP)  ## a sweep of 2,000 trials whose controller is killed every 5 seconds
	PYTHONUNBUFFERED=1 PYTHONPATH=benchmarks $(VENV) benchmarks/chaos/controller_kills.py

clean:  ## remove .venv and everything else that make and the tools wrote
	rm -rf .venv .venv-mlflow .venv-mlflow-skinny .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call environment,FOLDER,CONSTRAINTS,WHAT IS INSTALLED,WHAT ELSE IT DEPENDS ON) says how one is
# made. A whole one is brought up to date; any other is made from nothing. The stamp goes first, so
# that an install which fails halfway leaves none.
#
# Python is asked to run, not only to exist: a shim on the path may lead nowhere.
comma := ,
define environment
WHOLE := $$(shell test "$$$$(cat $(1)/.installed 2>/dev/null)" = "$(CURDIR)" && $(1)/bin/python -c '' 2>/dev/null && echo yes)
ifneq ($$(WHOLE),yes)
.PHONY: $(1)/.installed
endif
$(1)/.installed: $(2) $(4)
	@test -n "$$(PYTHON)" || { echo 'No Python >= 3.11 with venv was found (on Debian: apt install python3-venv). Name one: make PYTHON=/path/to/python'; exit 2; }
ifneq ($$(WHOLE),yes)
	$$(PYTHON) -m venv --clear $(1)
endif
	@rm -f $(1)/.installed
	@echo 'Installing into $(1); the first time this takes some minutes.'
	$(1)/bin/python -m pip install --disable-pip-version-check --quiet -c $(2) $(3)
	@echo '$(CURDIR)' > $(1)/.installed
endef

$(eval $(call environment,.venv,constraints.txt,-e '.[bench$(comma)test]',pyproject.toml))
$(eval $(call environment,.venv-mlflow,constraints-mlflow.txt,mlflow scikit-learn pandas,))
$(eval $(call environment,.venv-mlflow-skinny,constraints-mlflow.txt,mlflow-skinny,))
