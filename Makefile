# Everything here needs only make and a Python 3.11 to 3.13 (`make PYTHON=python3.12 …` to choose).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup local-run chaos campaign test test-long faults test-torch check lint types bench docs docs-check goldens lock dist sbom tools emulator monitoring \
	chart-tools chart-test k8s image push image-sbom image-local image-test cluster-up cluster-down e2e clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## Install what the project needs into .venv

$(READY): requirements/dev.txt pyproject.toml scripts/setup.py
	@$(PYTHON) scripts/setup.py

local-run: $(READY) ## Train a small model on this machine's CPU (ARGS="--set KEY=VALUE …")
	@$(BIN)/trainer train -c fashion_mnist $(ARGS)

# Two processes, because most tests wait for processes of their own; by file, so that each file's
# fixtures are made once; and in the order of their names, because xdist's own order, by number of
# tests, keeps the files of a few long tests for the end.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

chaos: $(READY) ## Disturb a training, and see that its result stays the same; kept without ARGS="--kills 5"
	@$(BIN)/python -m scripts.chaos $(ARGS)

campaign: $(READY) ## Kill trainings 1,000 times; can be stopped, and goes on (ARGS="--minutes 60"; --help)
	@$(BIN)/python -m tests.campaign $(ARGS)

test: $(READY) ## Run the tests; names those left out for want of a tool (ARGS="-k NAME")
	@$(PYTEST) -m "not long and not e2e" $(ARGS)

test-long: $(READY) ## Run campaigns and rarer variants; keeps the result in docs/results/
	@$(BIN)/python -m scripts.test_long $(ARGS)

faults: $(READY) ## Run the tests of docs/faults.md; keeps the result, which `make docs` puts there
	@$(BIN)/python -m scripts.test_long --as faults -m "fault and not e2e" $(ARGS)

test-torch: $(READY) ## Run the backends' tests on PyTorch, in .venv-torch; keeps the result, too
	@scripts/torch_venv.sh
	@TEST_BACKEND=torch .venv-torch/bin/python -m scripts.test_long --as torch tests/faults/test_backends.py $(ARGS)

check: tools chart-tools lint types docs-check ## All that a change must pass; here a missing tool is a failure
	@REQUIRE_TOOLS=1 $(PYTEST) -m "not long and not e2e" $(ARGS)

lint: $(READY) ## Check style, formatting and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/hadolint docker/Dockerfile trainer/recipes/template/Dockerfile

types: $(READY) ## Check types
	@$(BIN)/mypy

bench: $(READY) ## Run the benchmarks (ARGS="--json FILE")
	@$(BIN)/python -m bench $(ARGS)

docs: $(READY) ## Write the generated parts of docs/ anew
	@$(BIN)/python scripts/generate_docs.py

goldens: $(READY) ## Record the commands' help, the schema, metric names and exit codes anew
	@$(BIN)/python -m tests.contracts.goldens

docs-check: $(READY)
	@$(BIN)/python scripts/generate_docs.py --check

lock: $(READY) ## Solve requirements/*.txt anew (ARGS="--upgrade" for newer versions)
	@BIN=$(BIN) scripts/lock.sh $(ARGS)

dist: $(READY) ## Build the wheel and the source distribution into dist/
	@$(BIN)/python -m hatchling build --clean

sbom: dist ## Write what the wheel is run with, as CycloneDX, into dist/ (VARIANT=gpu)
	@scripts/sbom.sh

tools: ## Install a GCS emulator, Prometheus, graphviz and original images, which some tests need
	@scripts/tools.sh

chart-tools: $(READY) ## Build helm 4 and 3, and what else the charts are tested with, by Go
	@scripts/chart_tools.sh

chart-test: chart-tools ## Test the charts and k8s/ alone
	@REQUIRE_TOOLS=1 $(PYTEST) tests/charts $(ARGS)

k8s: chart-tools ## Write k8s/*.yaml, the charts' READMEs and the dashboards anew
	@$(BIN)/python scripts/manifests.py
	@$(BIN)/python -m scripts.dashboards
	@.tools/helm-docs --chart-search-root helm --log-level warning

monitoring: $(READY) ## Start Prometheus and Alertmanager for runs on this machine (ARGS="--ports 9400-9407")
	@$(BIN)/python scripts/monitoring.py $(ARGS)

emulator: $(READY) ## Start a GCS emulator with data in it, and say how to train from it
	@scripts/tools.sh emulator
	@$(BIN)/python scripts/emulator.py

image: ## Build the image (IMAGE=NAME VARIANT=gpu PLATFORM=linux/arm64 BASE=… ENGINE=…)
	@scripts/image.sh build

push: ## Push it, as in: make image push IMAGE=REGISTRY/trainer
	@scripts/image.sh push

image-sbom: ## Write all that IMAGE consists of, its base too, as CycloneDX, into dist/ (by syft)
	@scripts/image.sh sbom

image-local: ## Build it on a stand-in of its base, into a file; needs no registry (Linux, as root)
	@docker/stand-in.sh

image-test: $(READY) ## Build it so, and run it as the chart does (3 minutes; builds base and syft at first; ARGS="-k NAME")
	@scripts/tools.sh syft
	@docker/stand-in.sh $(BIN)/python -m scripts.test_long --as image docker $(ARGS)

cluster-up: $(READY) ## Start a Kubernetes on this Linux machine, as root; from nothing 15 min, else one
	@$(BIN)/python -m k8s.cluster up

cluster-down: $(READY) ## Remove all of it
	@$(BIN)/python -m k8s.cluster down

e2e: $(READY) ## Test the chart and the image on that cluster or KUBECONFIG's (ARGS="-k NAME")
	@$(BIN)/python scripts/e2e.py $(ARGS)

clean: ## Remove .venv, caches and builds; never the runs
	@rm -rf .venv .venv-torch build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -not -path './runs/*' -type d -prune -exec rm -rf {} +
