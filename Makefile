# make repro: the whole pipeline. make test: lint and tests. Both make the virtual environment when it is missing.
PYTHON ?= python3.11
VENV := .venv
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: repro test

repro: $(VENV)/.installed
	$(RUN) dvc repro

test: $(VENV)/.installed
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) python -m stages.report.dependencies --check
	$(RUN) python -m experiments readme --check
	$(RUN) python -m pytest

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement requirements.txt
	touch $@
