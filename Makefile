# make repro: the whole pipeline. make test: lint and tests; make test-fast: without the slow ones.
# All make the virtual environment when it is missing.
PYTHON ?= python3.11
VENV := .venv
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: repro lint test test-fast

repro: $(VENV)/.installed
	$(RUN) dvc repro

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
