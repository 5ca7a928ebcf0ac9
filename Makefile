# Two commands on a fresh clone: `make train` and `make test`. Each makes .venv on first use.

PYTHON ?= python3
EXPERIMENT ?= denoise
# Passed to train.py as they are: make train ARGS="trainer.max_epochs=3 seed=1"
ARGS ?=
# Optional dependencies, each with a lock of its own: make setup EXTRAS="kaggle wandb"
EXTRAS ?=
PORT ?= 6006

BIN := .venv/bin
READY := .venv/.ready
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
UV_COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	--custom-compile-command "make lock"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup train test test-slow lint board report studies results reliability bench bench-housing bench-scaling bench-streaming lock clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) $(EXTRAS:%=$(READY)-%)  ## Make .venv from the lock (PYTHON=python3.12, EXTRAS="kaggle wandb mlflow export peers submitit ray")

train: $(READY)  ## Train and test one experiment (EXPERIMENT=denoise, ARGS="key=value ...")
	$(BIN)/python train.py experiment=$(EXPERIMENT) $(ARGS)

# One thread per worker: two that each take every core slow each other down many times over. Work is stolen, for some
# tests take a thousand times as long as others.
test test-slow: export OMP_NUM_THREADS ?= 1

test: $(READY)  ## Run the tests (5 minutes)
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: $(READY)  ## Run the slow tests alone: fuzzing, kills, browsers, clusters (30 minutes)
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

lint: $(READY)  ## Check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

board: $(READY)  ## Compare runs in TensorBoard (PORT=6006)
	@echo "TensorBoard is at http://localhost:$(PORT); from WSL, open that in the Windows browser."
	@echo "On a remote server, first run this on your own machine: ssh -L $(PORT):localhost:$(PORT) USER@SERVER"
	$(BIN)/tensorboard --logdir logs --port $(PORT)

RUNS ?= $(lastword $(sort $(wildcard logs/sweeps/*)))
report: $(READY)  ## Compare runs (RUNS="logs/sweeps/A logs/housing/B"; the newest sweep without)
	$(BIN)/triptych report $(RUNS)

# Each study has a folder of its own, so that a second `make studies` continues where the first was stopped.
STUDIES := $(filter-out seeds,$(basename $(notdir $(wildcard conf/study/*.yaml))))
SEEDS := $(addprefix seeds-,$(filter-out %_best,$(basename $(notdir $(wildcard conf/experiment/*.yaml)))))

studies: $(addprefix study-,$(STUDIES) $(SEEDS))  ## Run all studies, or continue them, and write docs/studies.md
	$(BIN)/python -m triptych.results.study.page $(addprefix logs/studies/,$(STUDIES) $(SEEDS)) --output docs/studies.md

study-%: $(READY)
	$(BIN)/python train.py -m $(if $(wildcard logs/studies/$*/multirun.yaml),resume=logs/studies/$*,hydra.sweep.dir=logs/studies/$* \
		$(if $(filter seeds-%,$*),study=seeds experiment=$(*:seeds-%=%),study=$*) hydra/launcher=joblib) $(ARGS)

TASK ?= denoise
results: $(READY)  ## Run a task's models, or continue them, and write its part of docs/results.md (TASK=denoise)
	$(BIN)/python -m benchmarks.results $(TASK) --output docs/results.md $(ARGS)

reliability: $(READY)  ## Count kills, corrupt inputs and attacks, measure large predictions, write docs/reliability.md
	$(BIN)/python -m benchmarks.reliability --output docs/reliability.md $(ARGS)

bench: $(READY)  ## Measure steps and starts beside a bare loop and the usual way, write docs/performance.md
	$(BIN)/python -m benchmarks.performance --output docs/performance.md $(ARGS)

bench-housing: $(READY) $(READY)-peers  ## Train our housing network beside LightGBM, XGBoost and CatBoost
	$(BIN)/python -m benchmarks.housing_peers $(ARGS)

bench-scaling: $(READY)  ## Draw how time and memory of an epoch grow, and write that part of docs/performance.md
	$(BIN)/python -m benchmarks.scaling --output docs/performance.md $(ARGS)

bench-streaming: $(READY)  ## Train from disk on more than fits in memory, and write that part of docs/performance.md
	$(BIN)/python -m benchmarks.streaming --output docs/performance.md $(ARGS)

# The extras are held to the first lock, so that each adds packages and never changes a version.
lock:  ## Remake requirements.lock and locks/ from pyproject.toml (needs uv; ARGS=--upgrade takes newer releases)
	$(UV_COMPILE) $(ARGS) --extra dev --constraints locks/constraints.txt --output-file requirements.lock pyproject.toml
	for extra in kaggle wandb mlflow export peers submitit ray; do \
		$(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['$$extra'], sep='\n')" \
		| $(UV_COMPILE) $(ARGS) --constraints requirements.lock --output-file locks/$$extra.txt - || exit; \
	done

# The data cache is the user's cache folder for triptych, or data.cache_dir: README.md says where, and how to empty it.
clean:  ## Remove .venv and tools' caches; logs/, data/ and the data cache (on Linux ~/.cache/triptych) stay
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
		echo "triptych needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)." \
			"Name one that is installed, for example: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv

# Touched last, so that an interrupted set-up starts over. The package itself has no hash to check and the build
# backend is in the lock, hence --no-deps and --no-build-isolation.
$(READY): requirements.lock pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) --require-hashes -r requirements.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(READY)-%: locks/%.txt $(READY)
	$(PIP_INSTALL) --require-hashes -r requirements.lock -r $<
	@touch $@
