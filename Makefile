# `make sandbox` and `make test` are the two commands of the README; everything else is part of them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
# The SDKs of the clouds are large: let Python keep what it compiles.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: sandbox
sandbox: $(VENV)/.installed ## Everything set up, the fleet brought up on this machine, and proved with real mail
	@$(RUN)mailinfra sandbox up
	@$(RUN)mailinfra probe

.PHONY: down
down: $(VENV)/.installed ## Take the sandbox away
	@$(RUN)mailinfra sandbox down

.PHONY: test
test: host lint types unit engine system ## Every test, with everything that they need installed first

.PHONY: host
host: $(VENV)/.installed
	@tools/test-host.sh

.PHONY: lint
lint: $(VENV)/.installed
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)lint-imports
	cd tools/pulumi && test -z "$$(gofmt -l .)" && go vet ./...

.PHONY: types
types: $(VENV)/.installed
	$(RUN)mypy

.PHONY: unit
unit: $(VENV)/.installed
	$(RUN)pytest tests/unit -n auto

.PHONY: engine
engine: $(VENV)/.installed
	$(RUN)python -m mailinfra.sandbox.engine
	cd tools/pulumi && go test ./...
	$(RUN)pytest tests/engine -n auto

.PHONY: system
system: $(VENV)/.installed
	$(RUN)pytest tests/system

.PHONY: bench
bench: host ## Ratios against named references, measured here and now
	$(RUN)python -m bench

.PHONY: mutate
mutate: $(VENV)/.installed ## Our own stacks, spoilt property by property: do the policies bite?
	$(RUN)python -m tools.mutate

.PHONY: format
format: $(VENV)/.installed ## Put the code in form
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

.PHONY: docs
docs: $(VENV)/.installed ## Write the generated pages and the component schema anew
	$(RUN)python -m mailinfra.reference
	$(RUN)python -m mailinfra_policy.reference
	$(RUN)python -m tools.schema

.PHONY: lock
lock: $(VENV)/.installed ## Resolve the dependencies anew into requirements.lock
	$(RUN)uv pip compile pyproject.toml --extra sandbox --group dev --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --upgrade -o requirements.lock

$(VENV)/.installed: requirements.lock pyproject.toml
	@tools/venv.sh $(PYTHON) $(VENV)
