# Every job of this repository; `make help` lists them. CI calls the same targets.

VENV := .venv
PYTHON := $(VENV)/bin/python
SETUP := .build/setup.stamp
EXTENSION := .build/extension.stamp
RUST_SOURCES := $(shell find rust/core/src rust/py/src -name '*.rs') Cargo.toml Cargo.lock \
	rust/core/Cargo.toml rust/py/Cargo.toml
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help

.PHONY: help
help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# pip alone is enough: where the venv module is missing, virtualenv from PyPI stands in.
$(SETUP): pyproject.toml
	@echo "==> setting up $(VENV) with the tools of pyproject.toml"
	@mkdir -p .build
	@test -x $(PYTHON) || python3 -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); \
		python3 -m pip install --quiet --target .build/virtualenv virtualenv && \
		PYTHONPATH=.build/virtualenv python3 -m virtualenv --quiet $(VENV); }
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(PYTHON) -m pip install --quiet --group dev
	@touch $@

$(EXTENSION): $(SETUP) $(RUST_SOURCES)
	@echo "==> building the extension (release)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(VENV)/bin/maturin develop --release --quiet
	@touch $@

.PHONY: dev
dev: $(EXTENSION) ## Set up .venv and build the extension into it
