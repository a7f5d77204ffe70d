# Every job of this repository; `make help` lists them, and CI calls the same targets.

VENV := .venv
PYTHON := $(VENV)/bin/python
SETUP := .build/setup.stamp
EXTENSION := .build/extension.stamp
DOCS_SETUP := .build/docs.stamp
RUST_SOURCES := $(shell find rust/core/src rust/mount/src rust/py/src -name '*.rs') Cargo.toml \
	Cargo.lock rust/core/Cargo.toml rust/mount/Cargo.toml rust/py/Cargo.toml
CORPUS ?= .build/corpus
CORPUS_SIZE ?= small
FUZZ_SECONDS ?= 60
ACTIONLINT := go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
# Processes the Python tests run in; auto is one for each processor.
TEST_WORKERS ?= auto
# Those named here; all, if none is.
FUZZ_TARGETS ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

# pip alone is enough: where Python's own venv is missing, virtualenv from PyPI stands in.
$(SETUP): pyproject.toml
	@echo "==> setting up $(VENV) with the tools of pyproject.toml"
	@mkdir -p .build
	@test -x $(PYTHON) && $(PYTHON) -m pip --version >/dev/null 2>&1 \
		|| python3 -m venv --clear $(VENV) 2>/dev/null \
		|| { python3 -m pip install --quiet --target .build/virtualenv virtualenv \
			&& PYTHONPATH=.build/virtualenv python3 -m virtualenv --quiet --clear $(VENV); }
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

$(EXTENSION): $(SETUP) $(RUST_SOURCES)
	@echo "==> building the extension (release)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/maturin develop --release --quiet 2>&1 \
		| grep -v '^Requirement already satisfied' || true
	@$(PYTHON) -c 'import tocsin._core'
	@touch $@

.PHONY: dev
dev: $(EXTENSION) ## Set up .venv and build the extension into it

.PHONY: wheels
wheels: ## Build wheels and the sdist into dist/, and check each
	@python3 packaging/make_wheels.py

.PHONY: share
share: dev ## Write the man pages and completion files again, after a change of a command
	@$(PYTHON) packaging/share.py

.PHONY: protos
protos: ## Generate the messages of containerd's API again, after a change of messages.proto
	@python3 -m venv .build/protos
	@.build/protos/bin/python -m pip install --quiet grpcio-tools==1.68.1 setuptools # protobuf 5.28.1
	@cd python && ../.build/protos/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. \
		tocsin/containerd_api/messages.proto

.PHONY: demo
demo: dev ## Index a real image made from this machine's files, take a file out again, and mount it
	@$(PYTHON) demo/demo.py

.PHONY: test
test: test-rust test-python ## Run every test: Rust, Python, goldens, command line

.PHONY: test-rust
test-rust: ## Run the Rust tests
	@echo "==> Rust tests"
	@cargo test --quiet --package tocsin-core --package tocsin-mount

.PHONY: test-python
test-python: dev ## Run the Python tests, TEST_WORKERS of them at the same time
	@echo "==> Python tests"
# Bytecode is kept: each process that a test starts would compile the package again.
	@PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest -q -n $(TEST_WORKERS) --dist worksteal

.PHONY: lint
lint: dev ## Check style, lints, types and stubs
	@echo "==> rustfmt, clippy"
	@cargo fmt --check
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	@echo "==> ruff, mypy, stubtest"
	@$(PYTHON) -m ruff check --quiet
	@$(PYTHON) -m ruff format --check --quiet
	@$(PYTHON) -m mypy
# Neither system runs the tests; their types at least are checked.
	@$(PYTHON) -m mypy --platform darwin --config-file packaging/mypy-darwin.toml
	@$(PYTHON) -m mypy --platform win32 --config-file packaging/mypy-win32.toml
	@$(PYTHON) -m mypy.stubtest tocsin._core
	@if command -v go >/dev/null; then echo "==> actionlint"; $(ACTIONLINT) .github/workflows/*.yml; \
		else echo "Go is not installed, so the workflows are not checked"; fi

.PHONY: fmt
fmt: $(SETUP) ## Format everything
	@cargo fmt
	@$(PYTHON) -m ruff check --quiet --fix --select I
	@$(PYTHON) -m ruff format --quiet

$(DOCS_SETUP): $(SETUP)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --group docs
	@touch $@

.PHONY: docs
docs: dev $(DOCS_SETUP) ## Build the documentation site into .build/site, and check its links
	@echo "==> documentation site"
	@$(PYTHON) website/cli_reference.py .build/website/cli.md
	@rm -rf .build/site
	@$(PYTHON) -m zensical build --clean --strict
	@$(PYTHON) website/check_site.py .build/site
	@echo "open .build/site/index.html"

.PHONY: bench
bench: dev ## Measure beside the peers: CORPUS_SIZE=full for real figures, recorded in benches/record
	@$(PYTHON) benches/corpus.py --size $(CORPUS_SIZE) --out $(CORPUS)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r benches/requirements.txt
	@rm -rf target/criterion
	@TOCSIN_CORPUS=$(abspath $(CORPUS)) cargo bench --quiet --package tocsin-core --benches \
		$(if $(shell command -v cmake),--features bench-zlib-ng)
	@$(PYTHON) benches/rooms_report.py
	@$(PYTHON) benches/parts_report.py
	@TOCSIN_CORPUS=$(abspath $(CORPUS)) $(PYTHON) -m pytest -q benches --benchmark-only \
		--benchmark-timer=time.process_time --benchmark-json=.build/journeys.json
	@$(PYTHON) benches/journeys_report.py .build/journeys.json
	@$(PYTHON) benches/processes.py --corpus $(CORPUS)
	@$(PYTHON) benches/threads.py --corpus $(CORPUS)
	@$(PYTHON) benches/convert.py --corpus $(CORPUS)
	@$(PYTHON) benches/scaling.py
	@$(PYTHON) benches/memory.py
	@$(PYTHON) benches/tree.py
	@if command -v docker-registry skopeo >/dev/null; then $(PYTHON) benches/registry.py --layer-gib 3 \
		&& $(PYTHON) benches/reading.py --corpus $(CORPUS); \
		else echo "docker-registry or skopeo is not installed, so registries are left out"; fi

.PHONY: fuzz
fuzz: dev ## Run each fuzzer for FUZZ_SECONDS (Rust ones need a nightly toolchain and cargo-fuzz)
	@for target in $(or $(FUZZ_TARGETS),http_answers $$(cargo +nightly fuzz list --fuzz-dir rust/fuzz)); do \
		echo "==> $$target for $(FUZZ_SECONDS) s"; \
		if [ -f tests/fuzz/$$target.py ]; then \
			$(PYTHON) -m pip install --quiet --disable-pip-version-check -r tests/fuzz/requirements.txt \
			&& mkdir -p .build/fuzz/$$target && $(PYTHON) tests/fuzz/$$target.py .build/fuzz/$$target \
				-artifact_prefix=.build/fuzz/$$target- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
		else \
			cargo +nightly fuzz run --fuzz-dir rust/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
		fi; \
	done
