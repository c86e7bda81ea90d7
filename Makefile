PYTHON ?= python3
VENV = . .venv/bin/activate &&

.PHONY: repro evidence test docs realism sites bench faults

repro: .venv/stamp
	@$(VENV) python -m ada_repro.pipeline.start && echo "Tables and figures: $$(dvc stage list | sed -n 's|^figures  *Outputs *\(figures/[^/]*\)/.*|\1|p')"

evidence: .venv/stamp
	@$(VENV) python -m ada_repro.pipeline.start dvc.yaml evidence/dvc.yaml && echo "What stands: $$(dvc stage list evidence/dvc.yaml | sed -n 's|.*claims  *Outputs *\(figures/[^/]*\)/.*|\1/claims.md|p')"

test: .venv/stamp
	@$(VENV) pytest

faults: .venv/stamp
	@$(VENV) python tests/project/faults.py

docs: .venv/stamp
	@$(VENV) sphinx-build -qWc docs . _docs/html && cp _docs/html/README.html _docs/html/index.html && echo "The pages: _docs/html/index.html"

bench: .venv/stamp
	@$(VENV) python benchmarks/bench.py

realism: .venv/stamp
	@$(VENV) python benchmarks/realism.py $(RAW)

sites: .venv/stamp
	@$(VENV) python benchmarks/sites.py $(RAW)

.venv/stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing the pinned set into .venv: a few minutes, once"
	@$(PYTHON) -m venv .venv
	@$(VENV) pip install -qq --disable-pip-version-check -r requirements.lock && pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
