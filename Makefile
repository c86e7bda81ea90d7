PYTHON ?= python3
PY = .venv/bin/python
PYTEST = $(PY) -m pytest -n logical --maxprocesses 8
CODE = ada_repro nbs tests benchmarks docs

# A user's own settings of pip would install elsewhere, or nothing; a shell's PYTHONPATH would win over this checkout.
export PIP_USER = 0
export PIP_REQUIRE_VIRTUALENV = 0
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PIP_TARGET PIP_PREFIX PYTHONHOME

.PHONY: help repro evidence experiments doctor export check test docs publish keep bench exact faults realism
.DEFAULT_GOAL = help

help:  ## List what can be made
	@sed -n 's/^\([a-z]*\):.*  ## /\1	/p' Makefile | while IFS='	' read -r name what; do printf '  make %-11s %s\n' "$$name" "$$what"; done

repro: .venv/stamp  ## Tables and figures of the paper, by the profile in params.yaml; did it reproduce? JOBS=, SRUN=, SCHEDULER= say who runs it; MINUTES=9 stops it then
	@$(PY) -m ada_repro.pipeline.start
	@made="$$($(PY) -m dvc stage list | sed -n 's|^figures  *Outputs *\(figures/[^/]*\)/.*|\1|p')"; echo "Tables and figures: $$made, all in one page: $$made/report.html"; head -n 1 "$$made/reproduced.md"

evidence: .venv/stamp  ## The verdicts on the paper's claims, and all that they need
	@$(PY) -m ada_repro.pipeline.start dvc.yaml evidence/dvc.yaml
	@made="$$($(PY) -m dvc stage list evidence/dvc.yaml | sed -n 's|.*claims  *Outputs *\(figures/[^/]*\)/.*|\1|p')"; echo "What stands: $$made/claims.md, all in one page: $$made/verdicts.html"

experiments: .venv/stamp  ## What was tried with dvc exp run, a row each; only what differs
	@$(PY) -m dvc exp show --only-changed --drop '(?!Exp|Created|State|table|profile\b|data\.)'

doctor:  ## What this machine has, what would run and for how long, and what is wrong
	@PY=$(PY); test -x $$PY || PY=$(PYTHON); $$PY -m ada_repro.pipeline.doctor || true

export: .venv/stamp  ## The modules from the notebooks, formatted
	@nbdev_export
	@$(PY) -m ruff check -q --select I --fix ada_repro
	@$(PY) -m ruff format -q ada_repro

check: .venv/stamp  ## Format, lint, layers, export and the quick tests: under a minute
	@$(PY) -m ruff format -q --check $(CODE) || { echo "Run: $(PY) -m ruff format $(CODE)" >&2; exit 1; }
	@$(PY) -m ruff check -q --output-format concise $(CODE)
	@$(PYTEST) -m "not slow"

test: .venv/stamp  ## Everything, side by side on all cores
	@$(PYTEST)

faults: .venv/stamp  ## Kills, full disks, crowds on the whole graph: half an hour; writes docs/promises.md
	@$(PY) tests/project/faults.py

docs: .venv/stamp  ## The site, in _docs/html
	@$(PY) docs/build.py && echo "The pages: _docs/html/index.html"

publish: .venv/stamp  ## A finished run into figures/published: make publish NAME=phantom-evidence
	@$(PY) docs/publish.py "$(NAME)"

keep: .venv/stamp  ## What is small of each finished run, into figures/published: also of a study that goes on
	@$(PY) docs/keep_runs.py

bench: .venv/stamp  ## Ours against peers, alone on the machine: ten minutes; writes docs/benchmarks.md
	@$(PY) benchmarks/bench.py

exact: .venv/stamp  ## The same bits as on our machine? The smoke profile with machine: {exact: true}, against benchmarks/exact.csv
	@$(PY) benchmarks/exact.py

realism: .venv/stamp  ## Phantom-trained networks on real scans: make realism RAW=folder
	@$(PY) benchmarks/realism.py $(if $(RAW),"$(RAW)")

.venv/stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing the pinned set into .venv: a few minutes, once"
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install -qq -r requirements.lock
	@$(PY) -m pip install -qq --no-deps --no-build-isolation -e .
	@test ! -e .git || ! git rev-parse -q --verify HEAD > /dev/null 2>&1 || $(PY) -m dvc config -q --local core.no_scm false # for dvc exp
	@touch $@
