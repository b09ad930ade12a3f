# make help lists the targets. Another interpreter or place: make setup PYTHON=python3.12 VENV=/tmp/x
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev,demo,opencv
# sdist (pinned), or git for official main
DETECTRON2_FROM ?= sdist

RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install -qq --disable-pip-version-check --constraint constraints.txt
STAMP := $(VENV)/.setup-done
INSTALLER := scripts/install_detectron2.py scripts/detectron2_patches.py

.DELETE_ON_ERROR:
.PHONY: help setup demo test lint format bench clean

help:  ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 10

setup: $(STAMP)  ## create the environment with every pinned dependency

# Written last: an interrupted installation is taken up again by the next call.
$(STAMP): constraints.txt setup.cfg setup.py pyproject.toml $(INSTALLER)
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(PIP) torch torchvision
	$(RUN) scripts/install_detectron2.py --from $(DETECTRON2_FROM) --constraint constraints.txt
	$(PIP) --editable '.[$(EXTRAS)]'
	touch $@

demo: setup  ## train and compare teacher, student alone and distilled student (about 8 minutes on two cores)
	$(RUN) scripts/demo.py

# One thread a worker: two workers share the cores, and sums are the same on every machine.
test: setup  ## run the tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 -q

lint: setup  ## check style and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: setup  ## format and repair what can be repaired
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

bench: setup  ## time and memory of one training step, throughput of labeling
	$(RUN) scripts/benchmark.py

clean:  ## remove caches and build leftovers; the environment, output/ and datasets/ stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find configs distill projects scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
