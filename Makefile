# Everything from a bare clone: `make run` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN := runs/demo-$(shell date +%Y%m%d-%H%M%S)
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help run test test-all lint bench export-table onnx-table clean
.DEFAULT_GOAL := help

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tlkeras needs Python 3.11 or newer; name one with 'make PYTHON=/path/to/python3 …'"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,fast,serving]'
	@touch $@

run: $(READY)  ## set up, train the demo, measure it, predict with it
	$(BIN)/tlkeras train demo --backbone mobilenet_0.25 --weights none --size 96 --out $(RUN)
	$(BIN)/tlkeras predict $(RUN) "$$($(BIN)/python -c 'from tlkeras.data.demo import demo_folder; print(demo_folder())')"/*/*0.*

test: $(READY)  ## set up and run the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow"

test-all: $(READY)  ## the heavier tests too
	$(BIN)/python -m pytest

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## figures against peers and the physical floor (needs TLKERAS_ASSETS)
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.heads
	$(BIN)/python -m benchmarks.inputs

export-table: $(READY)  ## docs/export-parity.md: one backbone of every family in every runtime
	$(BIN)/python -m tools.export_table

onnx-table: $(READY)  ## every family of backbones as ONNX against Keras; writes docs/onnx-backbones.md
	$(BIN)/python -m tools.onnx_table

clean:  ## remove the environment and what tools left
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
