# Everything a person or CI does here, in one place. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORE := $(VENV)/.core
# Captures that other projects publish, if they are here: more for the fuzz targets to begin with.
CORPUS := $(or $(BUNKER_CORPUS),$(wildcard ../shared/corpus ../../shared/corpus))
CAPTURES := $(if $(CORPUS),$(wildcard $(addsuffix /*/*.pcap,$(CORPUS)) $(addsuffix /*/*.pcapng,$(CORPUS))))
RUST := $(shell find crates -name '*.rs' -o -name 'Cargo.toml' 2>/dev/null) Cargo.toml Cargo.lock

.PHONY: help setup demo demo-live test test-faults test-week test-image check bench test-rust test-python lint fuzz clean

help: ## this list
	@awk 'BEGIN{FS=":.*## "} /^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(CORE) ## install everything into .venv (Debian packages with apt when root)

$(STAMP): pyproject.toml tools/setup.sh
	tools/setup.sh
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -r <($(PYTHON) tools/requirements.py dev)
	touch $@

$(CORE): $(STAMP) $(RUST)
	$(BIN)/maturin develop --release --quiet
	touch $@

demo: setup ## the main job on real captured traffic: from a file, then live over a veth pair
	$(BIN)/python tools/demo.py

test: setup lint test-rust test-python ## lints and all tests (what CI runs)

check: test ## before every commit

lint: setup ## formatting, lints, types, import rules
	cargo fmt --check
	cargo clippy --workspace --all-targets --quiet -- -D clippy::correctness
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-rust: setup
	cargo test --workspace --quiet
	cargo run --quiet -p bunker-fuzz --bin smoke -- 16 $(CAPTURES)

test-python: setup
	$(BIN)/pytest -q -n 2 --dist loadfile

test-faults: setup ## the long fault tests: 100,000 flows, 100 kills
	BUNKER_FLOWS=100000 BUNKER_KILLS=25 $(BIN)/pytest -q --timeout 1800 tests/fault/test_many_flows.py tests/fault/test_killed.py

test-week: setup ## a week of continuous tracing in seven minutes: every packet accounted for, memory flat, the buffer drawn
	BUNKER_DAY_S=60 $(BIN)/pytest -q -s --timeout 1800 tests/fault/test_week.py

test-image: setup ## attacks on the sealed image from outside, emulated (BUNKER_IMAGE=DIR: another image than the quick one)
	$(BIN)/pytest -q tests/image -o python_files='test_*.py attack_*.py' -o timeout=1800

fuzz: ## every target over mutated seeds and the peers' captures, every cut: some minutes; with cargo-fuzz: docs/fuzzing.md
	EVERY_CUT=1 cargo run --quiet --release -p bunker-fuzz --bin smoke -- 240 $(CAPTURES)

bench: setup ## the paper's experiments beside today's tools
	$(BIN)/bunker bench capture
	$(BIN)/bunker bench analysis
	$(BIN)/bunker bench clear
	$(BIN)/bunker bench faults
	$(BIN)/bunker bench patterns

clean: ## remove what was built
	rm -rf target $(VENV) out
