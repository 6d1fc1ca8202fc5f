# Everything one needs on one machine. `make help` lists the commands.

PYTHON := $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
BIN := .venv/bin
# Import and start-up times double without bytecode.
unexport PYTHONDONTWRITEBYTECODE
# Only a USER given on the command line is meant; the shell's own is somebody's login name.
TOKEN_USER = $(if $(filter command line,$(origin USER)),$(USER))

.DEFAULT_GOAL := help
.PHONY: help setup demo up down url token test check openapi bench drill fuzz clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: ## Make .venv with the locked dependencies, and get Node and the npm tools
	@test -n "$(PYTHON)" || { echo "Python is missing: install Python 3.11 or newer." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Install one, or: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" infra/local/setup.py

demo: setup ## Run the main job on real data from start to end, then keep serving
	@$(BIN)/python -m infra.local demo

up: setup ## Start the local AWS, deploy the app to it, serve the API until Ctrl-C
	@$(BIN)/python -m infra.local up

down: setup ## Stop what is running; the data stays
	@$(BIN)/python -m infra.local down

url: setup ## Print the addresses of the running stack
	@$(BIN)/python -m infra.local url

token: setup ## Print a bearer token of a local user: make token USER=alice@example.com
	@test -n "$(TOKEN_USER)" || { echo "Say whose: make token USER=alice@example.com" >&2; exit 2; }
	@$(BIN)/python -m infra.local token "$(TOKEN_USER)"

test: setup ## Check and test everything (about as long as a coffee)
	@$(BIN)/python -m tests

check: setup ## Lint, format and type checks
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

openapi: setup ## Write openapi.json from the composed app
	@$(BIN)/python -m functions.openapi openapi.json

bench: setup ## Measure speed and memory, and print the ratios
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv sync --frozen --inexact --quiet --group bench
	@$(BIN)/python -m tests.load

drill: setup ## Let AWS fail in every way, then recount all: make drill MINUTES=5 SEED=1
	@$(BIN)/python -m tests.drills --minutes "$(or $(MINUTES),0)" $(if $(SEED),--seed "$(SEED)")
	@PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -q -p no:cacheprovider --timeout 600 tests/e2e/test_faults.py -k emulator

fuzz: setup ## Send each operation all that its schema allows and forbids (some eight minutes): make fuzz SEED=1
	@FUZZ_DEEPLY=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/contract/test_fuzz.py $(if $(SEED),--hypothesis-seed="$(SEED)")

clean: setup ## Stop everything and delete the local data and all that was built
	@$(BIN)/python -m infra.local down
	rm -rf .local build cdk.out openapi.json .pytest_cache .mypy_cache .ruff_cache .hypothesis
