# Everything a newcomer needs: `make demo`, `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs man deb pictures bench attack chaos cluster fuzz figures lock audit sbom clean

help:  ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/installed  ## set up, send phantom head CTs to a node over the network, write the results to demo/
	$(BIN)/ich-node demo --out demo

test: $(VENV)/installed-dev  ## set up and run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed-dev  ## ruff and mypy, as in CI
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-dev  ## write the tables of the documents that mirror the code
	$(BIN)/python -m tests.documents

pictures: $(VENV)/installed-dev  ## the pictures of results in the documents, with the shipped bundle
	$(BIN)/python -m tests.result_pictures

man: $(VENV)/installed-dev  ## write the man page and the completions of the shells
	$(BIN)/python -m tests.terminal_files

bench: $(VENV)/installed-dev  ## measure; prints figures, judges none
	$(BIN)/python -m pytest tests/benchmarks -s --override-ini=addopts= -p no:randomly --timeout=3600

attack: $(VENV)/installed-dev  ## the attack tests in their long form: a million forged identities, an honest scanner beside each attack
	ICH_NODE_ATTACK=long $(BIN)/python -m pytest -q -rP tests/integration/test_receive_attacks.py \
		tests/integration/test_commitment.py tests/integration/test_receive_tls.py tests/unit/dicom/test_identity.py
	PYTHONPATH=. $(BIN)/python tests/integration/attack_beside.py

deb:  ## a Debian package with its environment: build/ich-node_VERSION_ARCH.deb
	packaging/deb

chaos: $(VENV)/installed-dev  ## faults by the hundred; writes the table of docs/reliability.md
	$(BIN)/python -m tests.crash.chaos --out docs/reliability.md

cluster: $(VENV)/installed-dev  ## hosts in network namespaces and 500 faults; writes the table of docs/reliability.md
	$(BIN)/python -m tests.cluster.chaos --out docs/reliability.md

fuzz: $(VENV)/installed-dev  ## hostile bytes to the port, hostile files to the pipeline, hostile frames to decoders
	$(BIN)/python tests/integration/fuzz_receive.py --route direct --cases 50000
	$(BIN)/python tests/integration/fuzz_receive.py --route ordinary --cases 50000
	PYTHONPATH=. $(BIN)/python tests/integration/fuzz_files.py --part header --cases 30000
	PYTHONPATH=. $(BIN)/python tests/integration/fuzz_files.py --part series --cases 2000
	PYTHONPATH=. $(BIN)/python tests/integration/fuzz_decoders.py --cases 100000

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml config/requirements.lock
	$(BIN)/python -m pip install --quiet --require-hashes --requirement config/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

figures: $(VENV)/installed-dev  ## the form of the house: lengths, imports, docstrings, copies
	$(BIN)/python -m tests.house_figures

lock: $(VENV)/installed-dev  ## write the versions and hashes of everything that an installation brings
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
		--output-file config/requirements.lock pyproject.toml
	for cuda in "" cuda; do \
		echo 'setuptools>=77' | $(BIN)/uv pip compile --quiet --python-platform x86_64-manylinux_2_28 --generate-hashes \
			--no-header --no-annotate --python-version 3.11 --extra postgresql --extra triton $${cuda:+--extra cuda} \
			--output-file packaging/container$${cuda:+-cuda}.lock pyproject.toml - || exit 1; \
	done

audit: $(VENV)/installed-dev  ## known flaws of the installed packages
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --skip-editable

sbom: $(VENV)/installed-dev  ## what is installed, as a CycloneDX bill of materials: sbom.json
	$(BIN)/python -m pip install --quiet cyclonedx-bom
	$(BIN)/cyclonedx-py environment $(BIN)/python --output-file sbom.json

clean:  ## remove everything that make made
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
