# make repro: the whole pipeline. make test: lint and tests; make test-fast: without the slow ones.
# make ci-report: what a pull request changed, from the shared remote (docs/ci.md).
# All make the virtual environment when it is missing.
PYTHON ?= python3.11
VENV := .venv
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: repro lint test test-fast ci-report

repro: $(VENV)/.installed
	$(RUN) dvc repro

# BASE: what to compare with; LINK: where the report can be opened; BENCH=1: measure every item of the plan again
ci-report: $(VENV)/.installed
	$(RUN) python -m experiments ci_report $(if $(BASE),--base "$$BASE") $(if $(LINK),--link "$$LINK") $(if $(BENCH),--bench)

lint: $(VENV)/.installed
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) python -m stages.report.dependencies --check
	$(RUN) python -m experiments readme --check

test: lint
	$(RUN) python -m pytest

test-fast: lint
	$(RUN) python -m pytest -m fast --durations 5

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement requirements.txt
	touch $@
