# Two commands on a fresh machine with Python 3.11, git and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all lint types unit unit-all reports clean

demo: $(VENV)/installed  ## HalfCheetah from 700 answers beside the true reward, with a figure (minutes)
	$(BIN)/prefrl compare --env HalfCheetah-v5 --labels 700 --steps 1000000 --seeds 2 --out runs/demo
	@echo "figure: runs/demo/compare.png   table: runs/demo/compare.md   raw curves: runs/demo/compare.csv"

test: lint types unit  ## everything that must pass before a change lands, the wheel outside the checkout too

test-all: lint types unit-all  ## and what takes minutes by itself

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

unit: $(VENV)/installed-dev
	$(BIN)/pytest -n 2 -m "not long"

unit-all: $(VENV)/installed-dev
	$(BIN)/pytest -n 2

reports: $(VENV)/installed-dev  ## both READMEs' tables from the committed data, with what is stale by now marked (a minute)
	$(BIN)/python -m benchmarks.fresh

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[fast]"
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) -e ".[fast,sweep,people,postgresql,exchange,judge,dev]"
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
