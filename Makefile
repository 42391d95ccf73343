# make demo     answer a question about a real video: words and masks
# make test     run the tests (ARGS="-k xmem" picks some)
# make lint     check style
# make format   mend style
# make clean    remove the virtual environment and the caches
#
# Each needs only Python 3.10 to 3.13 (PYTHON=python3.12 picks one) and makes .venv on its first run.

PYTHON ?= python3
# PyTorch's own index has a CPU build; PyPI's build for Linux brings gigabytes of CUDA.
# For CUDA: make demo TORCH_INDEX=https://download.pytorch.org/whl/cu130
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
ARGS ?=

BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test lint format clean
help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(READY)
	$(BIN)/python -m visa.commands.demo

test: $(READY)
	$(BIN)/python -m pytest tests $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An index that does not answer costs one warning: the same torch then comes from PyPI.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info < (3, 14) or sys.exit("need Python 3.10 to 3.13, found " + sys.version.split()[0] + ": try make PYTHON=python3.12")'
	@echo "Setting up .venv: the first time takes a few minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --no-deps --retries 1 --extra-index-url "$(TORCH_INDEX)" $$(grep '^torch==' requirements.txt)
	$(BIN)/pip install -r requirements.txt
	$(BIN)/pip install --no-deps vos-benchmark==0.1.0
	$(BIN)/pip install --no-deps -e .
	@touch $@
