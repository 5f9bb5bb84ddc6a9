# `make demo` and `make test` need nothing but Python 3.11-3.13, make and,
# for the fast Lion kernels and reader of examples, a C++ compiler.
PYTHON ?= python3
VENV ?= .venv
# In order, not those of many tests first: long files have few, and end last.
# One more process than cores: some tests wait for a server or another process.
CORES := $(shell getconf _NPROCESSORS_ONLN)
PYTEST := -m pytest --numprocesses $(shell expr $(CORES) + 1) \
  --maxprocesses 4 --dist loadfile --no-loadscope-reorder
BIN := $(VENV)/bin
# Without compiled modules each process takes 25 s to import TFX instead of 10.
unexport PYTHONDONTWRITEBYTECODE

IMAGE ?= lion-ctr
BASE ?= python:3.11-slim-bookworm
CUDA ?= 0

.PHONY: help setup demo check test ci slow coverage docs flink lint format \
  lock bench image clean

help:
	@echo "make demo      set up, generate logs, run the whole pipeline"
	@echo "make check     ruff, mypy, import rules, quick tests: a minute"
	@echo "make test      the tests"
	@echo "make ci        those that CI runs on top, like one of the others"
	@echo "make slow      all tests, the long ones too"
	@echo "make coverage  the tests, with branch coverage: a third slower"
	@echo "make docs      build the manual into build/site; a dead link fails"
	@echo "make flink     fetch what the tests on Flink need (320 MB)"
	@echo "make lint      ruff, mypy, hadolint    make format    ruff format"
	@echo "make bench     speed and memory, from ingest to server: long;"
	@echo "               BENCH=\"join step\" for some, JSON in build/bench.json"
	@echo "make lock      resolve requirements.lock again"
	@echo "make image     IMAGE=registry.example/lion-ctr:1 on today's BASE, by its"
	@echo "               digest; CUDA=1 for GPUs"
	@echo "make setup     create or complete the environment"
	@echo "make clean     remove the environment, caches and builds"

setup:
	@$(PYTHON) deploy/install.py --venv $(VENV)

demo: setup
	@$(BIN)/lionctr generate --rows 50000 --out data/demo --seed 1 --reuse
	@$(BIN)/lionctr run configs/demo.yaml

check: lint
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest --quick --numprocesses 2 --dist loadfile

test: setup
	@$(BIN)/python $(PYTEST)

ci: setup
	@$(BIN)/python $(PYTEST) -m "ci and not slow"

slow: setup
	@$(BIN)/python $(PYTEST) -m "slow or not slow"

coverage: setup
	@$(BIN)/python $(PYTEST) --cov --cov-report term:skip-covered

docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

flink: setup
	@$(BIN)/python deploy/flink/cluster.py fetch

lint: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/ruff check --quiet --preview --select ISC004 .
	@$(BIN)/mypy
	@$(BIN)/hadolint deploy/Dockerfile

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: setup
	@$(BIN)/uv pip compile setup.py --all-extras --generate-hashes \
	  --universal --python-version 3.11 --quiet \
	  --custom-compile-command "make lock" -o requirements.lock
	@cp requirements.lock deploy/requirements.lock  # the same versions
	@$(BIN)/uv pip compile setup.py --extra pipeline --extra serving \
	  --extra signing --extra kubeflow --extra s3 --extra install \
	  --generate-hashes --universal --python-version 3.11 --quiet --no-annotate \
	  --custom-compile-command "make lock" -o deploy/requirements.lock

bench: setup
	@mkdir -p build
	@$(BIN)/python -m benchmarks.perf $(BENCH) --json build/bench.json

# The registry says which digest a tag has today; the build names that alone.
image:
	docker pull $(BASE)
	base=$$(docker image inspect --format '{{index .RepoDigests 0}}' $(BASE)) \
	  && docker build -f deploy/Dockerfile --build-arg BASE="$$base" \
	    --build-arg REVISION="$$(git rev-parse HEAD)" \
	    --build-arg CUDA=$(CUDA) -t $(IMAGE) . \
	  && echo "$(IMAGE) is on $$base"

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache \
	  .pytest_cache .hypothesis .coverage*
