# Everything a newcomer needs: `make demo`, `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench chaos fuzz clean

demo: $(VENV)/installed
	$(BIN)/ich-node demo --out demo

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/benchmarks -s --override-ini=addopts= -p no:randomly

chaos: $(VENV)/installed-dev
	$(BIN)/python -m tests.crash.chaos --out docs/reliability.md

fuzz: $(VENV)/installed-dev
	$(BIN)/python tests/integration/fuzz_receive.py --route direct --cases 50000
	$(BIN)/python tests/integration/fuzz_receive.py --route ordinary --cases 50000
	PYTHONPATH=. $(BIN)/python tests/integration/fuzz_files.py --part header --cases 30000
	PYTHONPATH=. $(BIN)/python tests/integration/fuzz_files.py --part series --cases 2000

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
