# Targets for a checkout. Each installs everything that it needs; `make` alone lists them.
#   make demo PYTHON=python3.12     another interpreter
#   make test ARGS="-k resume -x"   arguments for pytest; tests/conftest.py lists settings
#   make test VENV=/fast/disk/venv  the environment somewhere else

VENV ?= .venv
ARGS ?=
# One more than cores, since tests of Slurm mostly wait; more than four cost more memory than they save time.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -lt 4 ] && echo $$((n + 1)) || echo 4)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test chaos lint docs fuzz bench gpu lock clean install tools
.NOTPARALLEL:

help: ## list what can be made
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

demo: install ## install, run the whole chain on a small corpus, end with a table and a page
	@"$(VENV)/bin/kd" run recipe=demo

install: ## install kd and all it runs with into .venv
	@containers/install.sh "$(VENV)" cpu

tools: ## the same, with the tools for tests and lint
	@containers/install.sh "$(VENV)" cpu --with-tools

# One thread each for torch in the workers: two workers with two threads on two cores wait for each other.
test: tools ## run the tests
	@tests/system/install.sh >"$(VENV)/not-run"
	@set +e; \
	OMP_NUM_THREADS=1 "$(VENV)/bin/python" -m pytest -q -n $(WORKERS) --dist loadgroup --no-loadscope-reorder \
	    $$(cut -f 1 "$(VENV)/not-run" | sed 's/^/--deselect=/') $(ARGS); \
	code=$$?; \
	while IFS=$$'\t' read -r file why; do echo "Not run: $$file wants $$why"; done <"$(VENV)/not-run"; \
	exit $$code

lint: tools ## ruff, formatting, types, shell scripts
	@"$(VENV)/bin/ruff" check .
	@"$(VENV)/bin/ruff" format --check .
	@"$(VENV)/bin/mypy"
	@"$(VENV)/bin/shellcheck" .ci/run $$(find containers tests -name '*.sh')

docs: tools ## build the documentation site into site/
	@NO_MKDOCS_2_WARNING=1 "$(VENV)/bin/mkdocs" build --strict --quiet

chaos: tools ## fail every file operation of the main stages, one at a time; KD_CHAOS=10: every tenth
	@KD_CHAOS="$${KD_CHAOS:-1}" OMP_NUM_THREADS=1 "$(VENV)/bin/python" -m pytest -q -s tests/system/test_crash_points.py $(ARGS)

fuzz: tools ## give 10,000 mutated inputs to each reader (ARGS="300 tmx": another number, some readers)
	@"$(VENV)/bin/python" -m tests.fuzz $(ARGS)

bench: install ## run the benchmarks: speed and memory as ratios to the stock tools
	@found=; \
	for file in benchmarks/bench_*.py; do \
	    [ -e "$$file" ] || continue; \
	    found=yes; \
	    echo "== $$file"; \
	    "$(VENV)/bin/python" "$$file" $(ARGS); \
	done; \
	[ -n "$$found" ] || echo "There is no benchmark yet: benchmarks/ has no bench_*.py."

# An environment of its own, so that .venv keeps the CPU variant. AMD GPUs: make gpu TORCH_OF=/path/to/python/with/torch
GPU_VENV ?= .venv-gpu
TORCH_OF ?=

gpu: ## measure this computer's GPUs in ten minutes; a JSON file and a page in benchmarks/gpu/
	@if nvidia-smi >/dev/null 2>&1; then \
	    containers/install.sh "$(GPU_VENV)" cuda; \
	    device=cuda; \
	elif rocm-smi >/dev/null 2>&1; then \
	    [ -n "$(TORCH_OF)" ] || { echo "make gpu: on AMD GPUs, name a Python that has torch: make gpu TORCH_OF=PATH" >&2; exit 2; }; \
	    containers/install.sh "$(GPU_VENV)" rocm --torch-of "$(TORCH_OF)"; \
	    device=rocm; \
	else \
	    echo "make gpu: neither nvidia-smi nor rocm-smi finds a GPU here; run it on a computer that has one." >&2; \
	    exit 2; \
	fi; \
	"$(GPU_VENV)/bin/kd" doctor bench=true machine=localhost_gpu machine.device=$$device folder=benchmarks/gpu

lock: ## resolve pyproject.toml's ranges anew and write containers/locks/
	@containers/lock.sh cpu
	@containers/lock.sh cuda
	@containers/lock.sh rocm

clean: ## remove .venv and caches; never store/ or runs/
	@rm -rf .venv build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find kd tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
