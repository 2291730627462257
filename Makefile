# Everything sets itself up: a clean clone, Python 3.11 and make are enough. `make` lists the targets.

PROFILE ?= tiny
SEEDS ?= $(if $(filter tiny,$(PROFILE)),$(shell seq -s " " 0 19),0 1 2)
CORES ?= 2
COMPUTE ?=
FULL ?=
SWEEP ?= sweeps/example.yaml
DRY ?=
SHIPPED ?=
ON ?=
SNAKEMAKE ?=
FUZZ ?= 5000
SECONDS ?= 60
VENV ?= .venv

BIN := $(VENV)/bin
PARALLEL := -n $(CORES) --dist loadscope --no-loadscope-reorder
# The tests execute every notebook for the book; nbval runs one of them again, from its own folder.
READING := notebooks/07_claims.ipynb
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout 300
# One thread per process: jobs run side by side, and a sum does not depend on how many cores a machine has.
export OMP_NUM_THREADS ?= 1
# Where Python may not keep its bytecode, every process compiles PyTorch and Sphinx again: half a minute of each book.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup book sweep test quick fuzz fuzz-guided notebooks lint lock audit launchers notebook-clean clean

help: ## list the targets (this list)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\n  make book PROFILE=smollm2-135m SEEDS="0 1 2" CORES=4     another scale, other seeds, more cores\n'
	@printf '  make book COMPUTE="0 1 2"     the main runs of more seeds on this machine, in place of the shipped records\n'
	@printf '  make book FULL=1     compute the mixed setting and the ablations too (hours), in place of the shipped records\n'

setup: ## install the locked dependencies into .venv
	@tools/setup.sh $(VENV)

# Snakemake's lock outlives a killed run, so locked.py holds one that does not (--nolock); what a killed run left
# half written is made again (--rerun-incomplete).
book: ## execute the notebooks and build the book, doing only what changed
	@tools/setup.sh $(VENV) "$(PROFILE)"
	@$(BIN)/python tools/locked.py _build/lock $(BIN)/python -m snakemake --cores $(CORES) --nolock \
		--rerun-incomplete --quiet host rules reason --config profile="$(PROFILE)" seeds="$(SEEDS)" $(if $(COMPUTE),compute="$(COMPUTE)") $(if $(FULL),full=1)
	@echo "The book: $(CURDIR)/_build/html/index.html"

sweep: ## compute what is missing of a grid of runs, SWEEP=sweeps/<name>.yaml; DRY=1 lists its jobs, ON=slurm takes a cluster
	@tools/setup.sh $(VENV)
	@for profile in $$($(BIN)/python -c "$(PROFILES)" "$(SWEEP)" 2> /dev/null); do tools/setup.sh $(VENV) "$$profile"; done
	@$(BIN)/python tools/sweep.py "$(SWEEP)" --cores $(CORES) $(if $(DRY),--dry-run) $(if $(SHIPPED),--shipped) $(if $(ON),--on "$(ON)") -- $(SNAKEMAKE)

test: setup ## run all tests: notebooks, units, and the built book in a browser
	@$(BIN)/python -m pytest $(PARALLEL) $(NBVAL) tests $(READING)

notebooks: setup ## run every notebook with nbval, from its own folder, at its smoke setting
	@$(BIN)/python -m pytest $(PARALLEL) $(NBVAL) notebooks

quick: setup ## run the tests that take seconds: no notebooks, no browser
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not browser" tests

fuzz: setup ## damage files in FUZZ other ways for each reader (an hour); the tests try a few hundred
	@FUZZ=$(FUZZ) $(BIN)/python -m pytest $(PARALLEL) --dist load tests/test_readers.py

fuzz-guided: setup ## let coverage guide the damage, with atheris, SECONDS for each reader
	@$(BIN)/python -m pip install --quiet --target _build/atheris --upgrade "atheris>=3,<4"
	@PYTHONPATH=_build/atheris $(BIN)/python tools/fuzz.py $(SECONDS)

lint: setup ## check the style of code and notebooks, and who imports whom
	@$(BIN)/python -m ruff check .
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/python -m nbstripout --verify --keep-count --keep-id $(STRIP) notebooks/*.ipynb sweeps/job.ipynb

notebook-clean: setup ## strip the outputs from the notebooks before a commit
	@$(BIN)/python -m nbstripout --keep-count --keep-id $(STRIP) notebooks/*.ipynb sweeps/job.ipynb

lock: setup ## resolve the dependencies anew and rewrite both lock files
	@$(BIN)/python tools/lock.py

# In an environment of its own: what it needs is no part of the lock. --strict: a package that cannot be asked for is named.
audit: setup ## ask PyPI for known vulnerabilities of the locked versions (needs a network)
	@$(BIN)/python -m venv _build/audit
	@_build/audit/bin/python -m pip install --quiet "pip-audit>=2.10,<3"
	@_build/audit/bin/pip-audit --strict --disable-pip --no-deps -r requirements.lock
	@_build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements-smollm2-135m.lock

launchers: setup ## run the steps of Dockerfile, apptainer.def, .binder and Colab in fresh clones (an hour or less)
	@$(BIN)/python tools/launchers.py

clean: ## remove the built book and the executed notebooks; records and .venv stay
	@rm -rf _build .snakemake book/executed

PROFILES := import sys, yaml; print(*yaml.safe_load(open(sys.argv[1]))['profiles'])
STRIP := --extra-keys "metadata.language_info.version"
