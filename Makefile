# `make demo` and `make test` need nothing but Python 3.11 and a package index; both create .venv if it is missing.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := PASSIVE
export HF_HUB_OFFLINE ?= 1

.PHONY: env models demo test test-long bench lint clean

env: $(VENV)/.installed

# The cap on torch in setup.py keeps pip at a release with a processor-only wheel where one is at hand.
$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24" "setuptools>=77.0.3,<82" wheel
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	$(BIN)/python -m pip check
	touch $@

models: env
	$(BIN)/recbole-hellm models

demo: models
	$(BIN)/python run_recbole_hellm.py --model=HeLLM --dataset=ml-100k --preset=demo

# A file to a worker, a thread to a worker: two cores are busy and none waits for the other.
test: models lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not long"

test-long: models
	$(BIN)/python -m pytest -m "long or hypothesis" --hypothesis-profile=search

# DATA: folder of prepared data sets. Hours on two cores; BENCH="--only graphs,stage1" makes some of it.
DATA ?= dataset
bench: models
	$(BIN)/python -m benchmarks --data-path $(DATA) $(BENCH)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist *.egg-info
