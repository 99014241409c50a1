# Each target is one line that a person can type; `make help` lists them.
CONFIG ?= quickstart
DATA ?= faces
MINUTES ?= 40
WORKDIR ?= runs/$(notdir $(basename $(CONFIG)))
ARGS ?=
SWEEP ?= embedding_size
LAUNCHER ?= local
PYTHON ?= python3
NEWEST ?= python3.13
IN_NEWEST = tests/test_*.py $(addprefix tests/,triplets models datasets input images export)
VENV ?= .venv
BIN = $(VENV)/bin
# The stamp records the installed extras; they stay until EXTRAS names others.
STAMP = $(VENV)/.installed
INSTALLED := $(shell cat $(STAMP) 2>/dev/null)
EXTRAS ?= $(INSTALLED)
comma := ,

.DEFAULT_GOAL := help
.PHONY: dist docs help setup train sweep reproduce test test-cluster test-docs test-newest lint prose describe bench-triplets bench-step bench-loader bench-plan bench-evaluation bench-index bench-latency bench-device storm

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 26

setup: $(STAMP)  ## install into .venv; EXTRAS=cuda or tpu for accelerators

ifneq ($(strip $(EXTRAS)),$(strip $(INSTALLED)))
.PHONY: $(STAMP)
endif
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "facenet-jax needs Python 3.11 or later; $(PYTHON) is older: make setup PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev$(if $(EXTRAS),$(comma)$(EXTRAS))]'
	@echo '$(EXTRAS)' > $@

train: $(STAMP)  ## train, or resume: CONFIG=nn1 WORKDIR=runs/nn1 ARGS="--config.data.path=faces"
	$(BIN)/facenet-jax train --config=$(CONFIG) --workdir=$(WORKDIR) $(ARGS)

sweep: $(STAMP)  ## answer a question by several runs: SWEEP=embedding_size CONFIG=quickstart LAUNCHER=local
	$(BIN)/facenet-jax sweep $(SWEEP) --config=$(CONFIG) --launcher=$(LAUNCHER) $(if $(filter-out file,$(origin WORKDIR)),--workdir=$(WORKDIR)) $(ARGS)

reproduce: $(STAMP)  ## the recipe for a number of minutes: DATA=faces MINUTES=40 ARGS=--peer to compare with PyTorch
	$(BIN)/python -m benchmarks.reproduce --data=$(DATA) --minutes=$(MINUTES) $(ARGS)

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-cluster: $(STAMP)  ## jobs on a Slurm of two nodes on this machine, hosts whose cables are pulled, a bucket; needs root (docs/launch.md)
	$(BIN)/python -m pytest -m cluster tests/launch --durations=0 $(ARGS)

test-docs: $(STAMP)  ## run the commands of the documents, on drawn faces; needs EXTRAS=onnx,parquet,index
	$(BIN)/python -m pytest -m documents tests/docs $(ARGS)

test-newest:  ## a part of the tests with the newest dependencies (constraints-newest.txt): NEWEST=python3.13
	$(NEWEST) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-newest.txt -e '.[dev,onnx,index]'
	.venv-newest/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(IN_NEWEST) $(ARGS)

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

prose: $(STAMP)  ## codespell over documents and code; allowed words are in pyproject.toml
	git ls-files -z | xargs -0 -r $(BIN)/codespell

bench-triplets: $(STAMP)  ## selection and loss against peers and a floor; ARGS="--sizes 180,360" for less
	$(BIN)/python -m benchmarks.triplets $(ARGS)

bench-step: $(STAMP)  ## what a face costs in training on a CPU, compared with PyTorch; ARGS="--turns 2" for less
	$(BIN)/python -m benchmarks.step $(ARGS)

bench-loader: $(STAMP)  ## the loader against PyTorch's DataLoader and the bare decoder; ARGS="--turns 3" for less
	$(BIN)/python -m benchmarks.loader $(ARGS)

bench-plan: $(STAMP)  ## index and plan of 8 million identities: seconds and memory
	$(BIN)/python -m benchmarks.plan $(ARGS)

docs: $(STAMP)  ## the documentation site, in build/site; needs EXTRAS=docs
	@$(BIN)/python -c 'import mkdocs, material, mkdocstrings' || { echo "the site needs the extra docs: make setup EXTRAS=docs"; exit 2; }
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)

dist: $(STAMP)  ## wheel and sdist into dist/; the wheel is tried in an environment without anything else
	rm -rf dist build/wheel
	$(BIN)/hatchling build -d dist
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd build/wheel && bin/facenet-jax --version && bin/facenet-jax config quickstart > config.txt && bin/facenet-jax describe nns2

describe: $(STAMP)  ## print the tables of the six networks
	for network in nn1 nn2 nn3 nn4 nns1 nns2; do echo "$$network"; $(BIN)/facenet-jax describe $$network; echo; done

bench-evaluation: $(STAMP)  ## count 10^10 pairs exactly, against the bare matrix product: ARGS="--faces 20000"
	$(BIN)/python -m benchmarks.evaluation $(ARGS)

bench-index: $(STAMP)  ## search a million faces, as float32 and as bytes; needs EXTRAS=index; ARGS="--faces 100000" for less
	$(BIN)/python -m benchmarks.index $(ARGS)

bench-latency: $(STAMP)  ## NNS1 and NNS2 at batch 1 on one core under ONNX Runtime; needs EXTRAS=onnx; ARGS="--rounds 20" for less
	$(BIN)/python -m benchmarks.latency $(ARGS)

bench-device: $(STAMP)  ## steps, triplets, loader and whole runs on a GPU or TPU, in eight minutes; ARGS="--only networks" for less
	$(BIN)/python -m benchmarks.device $(ARGS)

storm: $(STAMP)  ## ten thousand damaged inputs over every reader, processes killed at random moments; ARGS="--cases 300 --kills 2"
	$(BIN)/python -m benchmarks.storm --kills 10 $(ARGS)
