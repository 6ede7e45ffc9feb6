# The commands of Tunedeck; `make` alone lists them. Everything is installed into .venv, nothing outside it but the home
# folder (TUNEDECK_HOME), and a second `make run` installs nothing.
#
#   PYTHON=python3.12   the interpreter to build .venv with (3.11 to 3.14)
#   WORKERS=2           how many test files run side by side (1: one after another)
#   TORCH=…             what is installed instead of the PyTorch chosen here: a requirement, a file or an address

PYTHON ?= python3
TORCH ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where a shell sets it, every program compiles what it imports anew: PyTorch and transformers in 9 s instead of 4.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run gpu stop test check format bench soak lock tree pictures report clean base-model browser

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(VENV)/.runtime ## install what is missing, start the local workspace and the dashboard
	@exec $(PY) -m core.launcher

gpu: $(VENV)/.runtime ## take PyTorch for this machine's NVIDIA card, train one step on it, go back where that fails
	@$(PY) -m core.installer gpu

stop: ## end the dashboard, the local workspace and all it runs
	@if [ -x $(PY) ]; then exec $(PY) -m core.launcher stop; else echo "Nothing is installed here, so nothing runs."; fi

test: $(VENV)/.dev base-model browser ## run the tests (some 15 minutes on 2 cores); TESTS="path -k word" for some
	@CHROMIUM="$$(sh .ci/find-chromium)" $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

check: $(VENV)/.dev ## ruff and the type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev ## let ruff format the code and put imports in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev base-model ## measure times and memory against their bars, an hour or two; goes on where one is missed
	@missed=""; for name in "" " load" " held" " train" .first_use .chats .chat_checks .data_scale .registries .inventory \
	  .run_index .long_run .viewers .memory; do \
	  echo "== python -m benchmarks$$name"; $(PY) -m benchmarks$$name || missed="$$missed benchmarks$$name"; \
	done; [ -z "$$missed" ] || { echo "Missed a bar:$$missed"; exit 1; }

soak: $(VENV)/.dev base-model browser ## the long tests, hours; goes on where it was, writes docs/reliability.md; SEED=7 anew
	@TUNEDECK_SOAK=$${TUNEDECK_SOAK:-1} TUNEDECK_SEED="$(SEED)" CHROMIUM="$$(sh .ci/find-chromium)" \
	  $(PY) -m pytest -m soak --timeout 7200 $(TESTS)

lock: $(VENV)/.dev ## write requirements.lock and requirements-dev.lock anew
	@echo 'torch; sys_platform == "never"' > $(VENV)/.without-torch
	@for set in requirements requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --override $(VENV)/.without-torch \
	    --no-emit-package torch --no-annotate --upgrade --custom-compile-command 'make lock' -o $$set.lock $$set.txt || exit 1; \
	done

tree: $(VENV)/.dev ## draw the tree of docs/architecture.md anew
	@$(PY) -m tests.architecture.tree

pictures: $(VENV)/.dev base-model browser ## take the README's pictures anew, on a walk of some minutes with the real model
	@CHROMIUM="$$(sh .ci/find-chromium)" $(PY) -m tests.e2e.pictures

report: $(VENV)/.runtime ## write an archive with versions, logs and the last errors, secrets taken out
	@$(PY) -m core.support_bundle

clean: ## remove .venv and caches; the home folder stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

base-model: $(VENV)/.runtime
	@$(PY) -m core.local fetch-model

browser:
	@sh .ci/find-chromium > /dev/null

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 14) else "Tunedeck needs Python 3.11 to 3.14; this is " + sys.version.split()[0] + ". Name another: make run PYTHON=python3.12")'
	@echo "Tunedeck installs into $(CURDIR)/$(VENV): about 1.7 GB on disk with PyTorch for the CPU, 380 MB to fetch."
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.torch: | $(PY)
	@$(PY) -m core.installer torch "$(TORCH)"
	@touch $@

$(VENV)/.runtime: requirements.lock | $(VENV)/.torch
	@echo "Fetching the libraries of requirements.lock: about 180 MB."
	@$(PY) -m core.installer lock requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "Fetching what tests and checks need: about 110 MB."
	@$(PY) -m core.installer lock requirements-dev.lock
	@touch $@
