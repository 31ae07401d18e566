# CT-Ops: `make help` lists what can be made. Everything lives in .venv; nothing is left running.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): requirements/dev.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked environment into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(READY) ## Create the development environment

.PHONY: test
test: $(READY) ## Lint, check types and contracts, run every test (real TLS, SQLite and PostgreSQL)
	@$(MAKE) --no-print-directory -j2 lint compiled
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: compiled
compiled: $(READY) # tests and what they import, once: every process of pytest would do it for itself
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -qq -p no:cacheprovider >/dev/null || \
		{ echo "collecting the tests failed: $(BIN)/python -m pytest --collect-only"; exit 1; }

.PHONY: lint
lint: $(READY) ## Format check, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: proto
proto: $(READY) ## Regenerate the messages from proto/
	proto/generate $(BIN)/python

.PHONY: golden
golden: $(READY) ## Accept an addition to the wire
	PYTHONPATH=tests $(BIN)/python tests/golden.py

SEEDS ?= 100
SEED ?= 0
.PHONY: simulate
simulate: $(READY) ## Live SEEDS=100 histories of a fleet from SEED=0 on, each HOSTS, DAYS, INTERVAL and EVENTS large, of KINDS (docs/simulation.md)
	PYTHONPATH=tests $(BIN)/python tests/simulation/simulate.py --seeds $(SEEDS) --seed $(SEED) \
		$(if $(HOSTS),--hosts $(HOSTS)) $(if $(DAYS),--days $(DAYS)) \
		$(if $(INTERVAL),--interval $(INTERVAL)) $(if $(EVENTS),--events $(EVENTS)) \
		$(if $(KINDS),--kinds "$(KINDS)")

.PHONY: docs
docs: $(READY) ## Rewrite the generated parts of the documentation
	PYTHONPATH=tests $(BIN)/python tests/generated_docs.py

LOCK = $(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header

.PHONY: lock
lock: $(READY) ## Resolve the dependencies again
	$(LOCK) --extra dev --upgrade --output-file requirements/dev.lock
	$(LOCK) --extra agent --constraint requirements/dev.lock --upgrade --output-file requirements/agent.lock
	$(LOCK) --extra server --constraint requirements/dev.lock --upgrade --output-file requirements/server.lock

.PHONY: agent-binary
agent-binary: $(READY) ## Freeze the agent into dist/: a folder that needs no Python, for hosts like this one
	$(BIN)/python packaging/freeze.py agent

.PHONY: server-binary
server-binary: $(READY) ## The same for the server
	$(BIN)/python packaging/freeze.py server

.PHONY: agent-release
agent-release: $(READY) ## The same in a root of Debian 11, for any host with glibc 2.31 or later (root, debootstrap)
	packaging/release.sh agent

.PHONY: server-release
server-release: $(READY) ## The same of the server
	packaging/release.sh server

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
ARCHITECTURE = $(if $(filter aarch64,$(shell uname -m)),arm64,amd64)
AGENT_ARCHIVE = dist/ct-ops-agent-linux-$(ARCHITECTURE)-v$(VERSION).tar.xz

.PHONY: deb
deb: $(READY) ## Debian package of the agent that is in dist/ (frozen first when there is none)
	@test -e $(AGENT_ARCHIVE) || $(MAKE) agent-binary
	$(BIN)/python packaging/make_deb.py $(AGENT_ARCHIVE)

SERVER_ARCHIVE = dist/ct-ops-server-linux-$(ARCHITECTURE)-v$(VERSION).tar.xz

.PHONY: server-deb
server-deb: $(READY) ## The same of the server
	@test -e $(SERVER_ARCHIVE) || $(MAKE) server-binary
	$(BIN)/python packaging/make_deb.py --program server $(SERVER_ARCHIVE)

.PHONY: server-bundle
server-bundle: $(READY) ## One archive with the server and its installer, for a host without a network
	@test -e $(SERVER_ARCHIVE) || $(MAKE) server-binary
	$(BIN)/python packaging/make_server_bundle.py $(SERVER_ARCHIVE)

.PHONY: rpm
rpm: $(READY) ## rpm of the agent that is in dist/ (needs rpmbuild)
	@command -v rpmbuild >/dev/null || { echo "rpmbuild is missing: apt-get install rpm, or dnf install rpm-build"; exit 1; }
	@test -e $(AGENT_ARCHIVE) || $(MAKE) agent-binary
	$(BIN)/python packaging/make_rpm.py $(AGENT_ARCHIVE)

.PHONY: test-packaging
test-packaging: $(READY) ## Install, reboot, upgrade and take off agent and server in a root without Python (root, Debian)
	@test -e $(AGENT_ARCHIVE) || $(MAKE) agent-binary
	@test -e $(SERVER_ARCHIVE) || $(MAKE) server-binary
	PYTHON=$(BIN)/python packaging/trial/trial.sh $(AGENT_ARCHIVE) $(SERVER_ARCHIVE)

.PHONY: test-package
test-package: $(READY) ## The shorter trial: the agent's package alone, freshly frozen
	@rm -rf build/trial
	$(BIN)/python packaging/freeze.py agent --fast --output build/trial
	PYTHON=$(BIN)/python packaging/trial/trial.sh build/trial/ct-ops-agent-linux-$(ARCHITECTURE)-v$(VERSION).tar.gz
	@rm -rf build/trial

.PHONY: demo
demo: $(READY) ## Enrol this host with a server on loopback and watch its vitals (ONCE=1: print once)
	@$(BIN)/python tests/demo.py $(if $(ONCE),--once,)

.PHONY: capacity
capacity: $(READY) ## Measure what this machine carries: every row of docs/capacity.md (half an hour; ONLY="idle push" for some)
	$(BIN)/python bench/capacity.py $(foreach row,$(ONLY),--only $(row))

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
