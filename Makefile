# Every target installs what it needs, says what it does, and can be run twice.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest
# An editable install is not compiled; where PYTHONDONTWRITEBYTECODE is set, each of the processes that tests start would do it again.
COMPILE := $(BIN)/python -m compileall -q agent_image/ganglion operator/ganglion_operator
# Images of containers often set it; every process of the tests would then compile the project anew, which takes longer than what most of them do.
unexport PYTHONDONTWRITEBYTECODE
# Under another name, so that `make -n test` shows how it runs the tiers, and makes no cluster for them.
TIERS  := $(MAKE)

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

# ---------------------------------------------------------------- environments

$(BIN)/python:
	@echo "· making $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml constraints.txt | $(BIN)/python
	@echo "· installing ganglion"
	@$(PIP) install -c constraints.txt -e .
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "· installing ganglion with everything for development and tests"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@$(COMPILE)
	@touch $@ $(VENV)/.user

.PHONY: install
install: $(VENV)/.dev ## Install everything for development into .venv

.PHONY: constraints
constraints: | $(BIN)/python ## Pin what the extras resolve to today (constraints.txt)
	@$(BIN)/python hack/constraints.py

# ---------------------------------------------------------------- the main job

.PHONY: demo
demo: $(VENV)/.user ## Count the words of the standard library with four agents on this machine
	@echo "· running examples/wordcount without a cluster"
	@$(BIN)/ganglion up -f examples/wordcount

# ---------------------------------------------------------------- checks and tests

.PHONY: check
check: $(VENV)/.dev ## Formatting, lint, types, import layers, generated files
	@echo "· ruff";           $(BIN)/ruff format --check --quiet . ; $(BIN)/ruff check --quiet .
	@echo "· mypy --strict";  $(BIN)/mypy
	@echo "· import-linter";  $(BIN)/lint-imports --no-cache > /dev/null || $(BIN)/lint-imports --no-cache
	@echo "· generated files"; $(BIN)/python hack/generate.py --check

.PHONY: generate
generate: $(VENV)/.dev ## Write CRDs, chart copies and reference docs from the models
	@$(BIN)/python hack/generate.py

.PHONY: test
test: install ## Everything, with the kind cluster, which is made while the two tiers before its own run
	@$(TIERS) --no-print-directory --jobs=2 check test-unit
	@$(TIERS) --no-print-directory test-integration
	@echo "· preparing the kind cluster: building the node image if no engine can pull one"
	@$(BIN)/python -m hack.kind prepare
	@$(BIN)/python -m tests.e2e.ahead $(TIERS) --no-print-directory test-differential test-cluster test-e2e

.PHONY: test-unit
test-unit: $(VENV)/.dev ## Pure tests, some of which wait: three at a time (budget 2 min)
	@echo "· unit tests"
	@$(PYTEST) --numprocesses 3 tests/unit

.PHONY: test-integration
test-integration: $(VENV)/.dev ## Real processes and sockets on loopback, mostly waiting: five tests at a time (budget 5 min)
	@echo "· integration tests"
	@$(PYTEST) --numprocesses 5 tests/integration

.PHONY: test-differential
test-differential: $(VENV)/.dev ## The same programs on osBrain and on Ganglion (budget 3 min)
	@echo "· differential tests: several hundred small programs, each on osBrain, on Ganglion, and there with agents in threads"
	@$(PYTEST) --numprocesses 2 --dist loadfile tests/differential

.PHONY: test-cluster
test-cluster: $(VENV)/.dev ## A real kube-apiserver and etcd, three of each side by side (budget 4 min, cold +10)
	@echo "· cluster tests: building kube-apiserver and etcd if they are not cached"
	@$(BIN)/python -m hack.kind tools apiserver helm
	@$(PYTEST) --numprocesses 3 tests/cluster

.PHONY: test-e2e
test-e2e: $(VENV)/.dev ## The kind cluster, three nodes, three tests at a time (budget 15 min, 12 when it is made already, cold +15)
	@echo "· e2e tests on kind: building the node image if no engine can pull one"
	@$(BIN)/python -m hack.kind prepare
	@$(PYTEST) --numprocesses 3 tests/e2e

.PHONY: test-nightly
test-nightly: $(VENV)/.dev ## Scenarios of the differential tests over two sidecars on this machine (not part of `make test`; 1 min)
	@echo "· nightly tests: programs of osBrain's in a domain of \`ganglion up\`"
	@$(PYTEST) tests/nightly

.PHONY: test-stress
test-stress: $(VENV)/.dev ## 200 agents, two minutes: random bind, connect, close, kill (not part of `make test`; GANGLION_STRESS=400x600: other agents x seconds)
	@echo "· stress test: agents that bind, connect, close and are killed at random"
	@GANGLION_STRESS=$(or $(GANGLION_STRESS),200x120) $(PYTEST) -s tests/integration/imperative/test_stress.py

.PHONY: fuzz
fuzz: $(VENV)/.dev ## Search all decoders for input that crashes them, half a minute (atheris; FUZZ_SECONDS=600 for longer)
	@$(PIP) install -c constraints.txt -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz $(or $(FUZZ_SECONDS),30)

# ---------------------------------------------------------------- kind

.PHONY: kind-up kind-load kind-down deploy
kind-up: $(VENV)/.user ## Create the kind cluster (Docker, podman, or offline)
	@$(BIN)/python -m hack.kind up

kind-load: $(VENV)/.user ## Build the images and load them into the cluster
	@$(BIN)/python -m hack.kind load

deploy: kind-load ## Install or upgrade the chart in the kind cluster
	@eval "$$($(BIN)/python -m hack.kind env)"; helm upgrade --install ganglion charts/ganglion --namespace ganglion-system --create-namespace \
	  --set image.operator.repository=localhost/ganglion-operator,image.operator.tag=dev,image.agent.repository=localhost/ganglion-agent,image.agent.tag=dev \
	  --wait --timeout 3m

kind-down: $(VENV)/.user ## Delete the kind cluster
	@$(BIN)/python -m hack.kind down

# ---------------------------------------------------------------- benches

.PHONY: bench
bench: $(VENV)/.dev ## Ratios to anchors in the same run; tables, JSON and plots in bench/results
	@$(BIN)/python -m bench

.PHONY: clean
clean: ## Remove the environment and build products; caches of the kind tools stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
