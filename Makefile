# Everything a developer does. `make demo` and `make test` need Python 3.11 or 3.12, a JDK 17+ and make; the rest they fetch.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
DBT := dbt/.venv
DAGS := batch/dags/.venv
# A uv on the PATH is used as it is; otherwise one of our own is put beside the project.
UV := $(shell command -v uv || echo .uv/bin/uv)
MEMBERS := schemas services/common services/ingest services/enrich services/sessionize services/lake \
           services/generator infra/local batch/jobs
PROJECTS := pyproject.toml $(addsuffix /pyproject.toml,$(MEMBERS))
WORK_DIR ?= .millrace
export UV_PYTHON_DOWNLOADS := never
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help install dbt-install dbt-lock dags-install dags-lock lock format lint type-check test simulate torture load bench check demo night up down

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

install: $(VENV)/.installed ## Put the locked dependencies and the workspace into .venv

$(VENV)/.installed: requirements.lock $(PROJECTS) | $(UV)
	$(UV) venv --quiet --allow-existing --python '>=3.11,<3.13' $(VENV)
	$(UV) pip install --quiet --python $(VENV) --require-hashes --requirement requirements.lock
	$(UV) pip install --quiet --python $(VENV) --no-deps --no-build-isolation $(addprefix --editable ./,$(MEMBERS))
	@touch $@

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet uv==0.13.8

dbt-install: $(DBT)/.installed ## Put dbt and sqlfluff into an environment of their own, dbt/.venv

$(DBT)/.installed: dbt/requirements.lock | $(UV)
	$(UV) venv --quiet --allow-existing --python '>=3.11,<3.13' $(DBT)
	$(UV) pip install --quiet --python $(DBT) --no-deps --require-hashes --requirement dbt/requirements.lock
	@touch $@

dbt-lock: | $(UV) ## Resolve dbt/requirements.lock again
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --override dbt/overrides.txt dbt/requirements.in \
		--output-file dbt/requirements.lock

dags-install: $(DAGS)/.installed ## Put Airflow into an environment of its own, batch/dags/.venv

$(DAGS)/.installed: batch/dags/requirements.lock | $(UV)
	$(UV) venv --quiet --allow-existing --python '>=3.11,<3.13' $(DAGS)
	$(UV) pip install --quiet --python $(DAGS) --no-deps --require-hashes --requirement batch/dags/requirements.lock
	@touch $@

dags-lock: | $(UV) ## Resolve batch/dags/requirements.lock again
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links batch/dags/requirements.in --output-file batch/dags/requirements.lock

lock: | $(UV) ## Resolve requirements.lock again, for every platform, with hashes and without hosts
	$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --group dev $(PROJECTS) \
		$(foreach member,$(MEMBERS),--no-emit-package $(shell sed -n 's/^name = "\(.*\)"/\1/p' $(member)/pyproject.toml)) \
		--output-file requirements.lock

format: install ## Format and mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lint: install dbt-install ## Look for mistakes and for what is not formatted
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	cd dbt && .venv/bin/sqlfluff lint --disable-progress-bar models tests

type-check: install dags-install ## Check the types, strictly
	$(BIN)/mypy $(wildcard schemas/src services/*/src services/*/tests infra/local/src infra/local/tests batch/jobs/src batch/tests tests)
	$(BIN)/mypy --cache-dir .mypy_cache/dags --python-executable $(DAGS)/bin/python batch/dags

test: install dbt-install dags-install ## Run every test, on a real broker and registry too
	$(DAGS)/bin/pytest --rootdir batch/dags --config-file batch/dags/pytest.ini batch/dags/tests
	$(BIN)/pytest --ignore tests/torture
# Two stacks side by side: under fire, one mostly waits for timeouts.
	$(BIN)/pytest --numprocesses 2 --timeout 1200 tests/torture

SCHEDULES ?= 20000
SESSION_SCHEDULES ?= 5000
simulate: install ## Try SCHEDULES (20000) orders of faults on workers in memory, SESSION_SCHEDULES (5000) on sessionize
	SCHEDULES=$(SCHEDULES) SESSION_SCHEDULES=$(SESSION_SCHEDULES) $(BIN)/pytest --timeout 0 \
		services/common/tests/test_simulation.py services/sessionize/tests/test_simulation.py

torture: install ## Hurt a running pipeline in every way for more than an hour, and write docs/reference/reliability.md
	$(BIN)/python tests/torture/torture.py --long --report docs/reference/reliability.md

# QUICK=1 shows within minutes that everything runs; its figures stay out of the documents.
bench: install ## Measure Millrace beside others for some 40 minutes, and write docs/reference/performance.md; QUICK=1: under 6
	$(BIN)/python tests/bench --work-dir $(WORK_DIR)/bench $(if $(QUICK),--quick --page $(WORK_DIR)/bench/performance.md,--page docs/reference/performance.md)

load: install ## Send a rush, and a history beside live traffic, and write docs/reference/load.md
	$(BIN)/python tests/torture/load.py --long --report docs/reference/load.md

check: lint type-check ## Everything but the tests

demo: install dbt-install ## Start everything, send traffic, check the books, run the night, show the result
	$(BIN)/millrace demo --work-dir $(WORK_DIR)

night: install dbt-install dags-install ## Let Airflow run the nightly DAG for the days of the lake that make demo or make up left
	$(BIN)/millrace night --work-dir $(WORK_DIR)

up: install ## Start the local stack and leave it running
	$(BIN)/millrace up --work-dir $(WORK_DIR)

down: install ## Stop the local stack
	$(BIN)/millrace down --work-dir $(WORK_DIR)
