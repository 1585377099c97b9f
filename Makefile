# Every target sets up what it needs. `make` alone lists them.
SHELL       := /bin/bash
.DEFAULT_GOAL := help
PYTHON      ?= python3
SITE        ?=
SEED        ?= 1
PORT        ?= 8000
VENV        := .venv
RUN         := $(VENV)/bin/python
UV_VERSION  := 0.13.9
# gpu where an NVIDIA driver answers, openvino on other x86-64 Linux (it serves AMD too), cpu elsewhere. `make setup EXTRA=cpu` overrides.
ifndef EXTRA
EXTRA       := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || { [ "$$(uname -sm)" = "Linux x86_64" ] && echo openvino || echo cpu; })
endif
ifeq ($(filter $(EXTRA),cpu openvino gpu),)
$(error EXTRA is '$(EXTRA)'; it must be cpu, openvino or gpu)
endif
# Packages that overwrite each other's files: those of another extra go before this one's come, once it is known that
# these can be had.
RIVALS      := onnxruntime onnxruntime-gpu onnxruntime-openvino faiss-cpu faiss-gpu
READY       := $(VENV)/.ready-$(EXTRA)
READY_DEV   := $(VENV)/.ready-$(EXTRA)-dev
# Compiled here, on all cores: else every process compiles PyTorch anew where Python may not write its cache, and the
# first one everywhere.
INSTALL     := $(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(RUN) --constraint constraints.txt

.PHONY: help setup demo test lint soak train-site ingest serve bench need-site

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14

setup: $(READY)  ## make .venv with the packages for this machine (EXTRA=cpu|openvino|gpu to choose)
	@echo "ready: $(VENV) with the '$(EXTRA)' packages" >&2

$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys; v=sys.version_info[:2]; sys.exit(0 if (3,11)<=v<=(3,13) else f"error: Python 3.11 to 3.13 is needed, {sys.executable} is {v[0]}.{v[1]}; choose another: make PYTHON=python3.12 ...")'
	@echo "making $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(READY): pyproject.toml constraints.txt | $(VENV)/bin/uv
	@echo "installing the '$(EXTRA)' packages (several GB the first time; the default PyTorch brings CUDA)" >&2
	@$(INSTALL) --dry-run -e '.[$(EXTRA)]'
	@ls $(VENV)/.ready-* 2>/dev/null | grep -qv -e '-$(EXTRA)$$' -e '-$(EXTRA)-dev$$' && \
	    $(VENV)/bin/uv pip uninstall --quiet --python $(RUN) $(RIVALS) 2>/dev/null || true
	@rm -f $(VENV)/.ready-*
	@$(INSTALL) -e '.[$(EXTRA)]'
	@touch $@

$(READY_DEV): $(READY)
	@echo "installing what the tests need" >&2
	@$(INSTALL) -e '.[$(EXTRA),dev]'
	@touch $@

demo: $(READY)  ## the whole way on the rendered demo site, offline; ends with the result table (SEED=n)
	@$(RUN) deploy/demo/run.py --seed $(SEED)

need-site:
	@test -n "$(SITE)" || { echo "error: which site? make train-site SITE=<name in deploy/sites or path to a folder with site.yaml>" >&2; exit 2; }

# Exit status 3 says: done, but some recordings were refused. The rest goes on, and the report ends with that status.
train-site: need-site $(READY)  ## ingest, train, export, index and report SITE; resumable
	@$(RUN) -m ingest run "$(SITE)" || [ $$? -eq 3 ]
	@$(RUN) -m calr train "$(SITE)"
	@$(RUN) -m calr export "$(SITE)"
	@$(RUN) -m gallery_service index "$(SITE)"
	@$(RUN) -m calr report "$(SITE)"

ingest: need-site $(READY)  ## only new recordings of SITE
	@$(RUN) -m ingest run "$(SITE)"

serve: need-site $(READY)  ## search page and API of SITE on http://127.0.0.1:8000 (PORT=n)
	@$(RUN) -m gallery_service serve "$(SITE)" --port $(PORT)

lint: $(READY_DEV)  ## ruff, mypy, the one-way rule of imports, and that every extra resolves
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@for extra in cpu openvino gpu ray s3 postgres; do $(VENV)/bin/uv pip compile --quiet --no-header --extra $$extra --constraint constraints.txt --output-file /dev/null pyproject.toml || exit 1; done
	@echo "the extras cpu, openvino, gpu, ray, s3 and postgres resolve" >&2

test: lint  ## lint, types, unit, integration and end to end on a small slice
	@$(VENV)/bin/pytest -m "not soak and not gpu" --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

soak: $(READY_DEV)  ## the long tests (kills, fuzzing, hours of video); appends to docs/soak.jsonl
	@$(VENV)/bin/pytest -m soak --timeout 7200

bench: $(READY)  ## every benchmark, one JSON object per line
	@$(RUN) tests/bench/run.py
