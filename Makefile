# `make demo` and `make test` work from a fresh clone with Python, pip and make; both create .venv.
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
VENV_MINIMUM := .venv-minimum
VENV_PACKAGE := .venv-package
# The lowest torch that is supported. Not in constraints-minimum.txt, so that a machine where only another
# build of torch is to be had can still test the other bounds: make TORCH_MINIMUM=2.13.0 test-minimum
TORCH_MINIMUM ?= 2.6.0

export PIP_DISABLE_PIP_VERSION_CHECK = 1

# Two processes, each with whole test modules, so that no two compile the same kernels. Nothing sets a number of
# threads, here or in the tests: they run as they do for a user.
PYTEST = $(VENV)/bin/python -m pytest -n 2 --dist loadfile

# The estimators from outside: both check suites, containers, files, other libraries' tools, the command line.
ON_EVERY_PYTHON = conformance conformance_forecaster estimators forecaster import interop main meta_estimators \
	meta_estimators_sktime panel panel_forms panel_tables persistence streaming training

.PHONY: demo test test-scripts test-triton test-forecasters test-slow test-python lint docs package test-minimum \
	gpu-check clean

demo: $(VENV)/.installed
	$(VENV)/bin/python examples/quickstart.py

test: $(VENV)/.installed
	$(PYTEST) -m "not slow and not scripts and not triton"

test-scripts: $(VENV)/.installed
	$(PYTEST) -m "scripts and not slow"

# GPU kernels without a GPU: in Triton's interpreter, and compiled for devices.
test-triton: $(VENV)/.installed
	$(PYTEST) -m "triton and not slow"

# What may differ from one Python to another, in an environment of its own: make PYTHON=python3.10 test-python
test-python: VENV = .venv-$(notdir $(PYTHON))
test-python:
	$(MAKE) PYTHON=$(PYTHON) VENV=$(VENV) $(VENV)/.installed
	$(PYTEST) -m "not slow" $(addprefix tests/test_,$(addsuffix .py,$(ON_EVERY_PYTHON)))

# The checks of sktime's suite for forecasters that `make test` has no time for.
test-forecasters: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -n 2 -m slow tests/test_conformance_forecaster.py

test-slow: $(VENV)/.installed
	$(PYTEST) -m slow

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

docs: $(VENV)/.installed-docs
	$(VENV)/bin/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

# What is published, as a stranger gets it: both archives, what an index would say of them, the wheel in an
# environment of its own, and its types as mypy sees them from outside.
package: $(VENV)/.installed-dev
	rm -rf dist $(VENV_PACKAGE)
	$(VENV)/bin/python -m hatchling build -d dist
	$(VENV)/bin/twine check --strict dist/*
	$(PYTHON) -m venv $(VENV_PACKAGE)
	$(VENV_PACKAGE)/bin/python -m pip install --quiet -c constraints.txt torch
	$(VENV_PACKAGE)/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	mkdir dist/outside && cp tests/outside.py dist/outside && cd dist/outside \
	  && ../../$(VENV)/bin/mypy --strict --python-executable ../../$(VENV_PACKAGE)/bin/python outside.py \
	  && ../../$(VENV_PACKAGE)/bin/python outside.py

test-minimum: VENV := $(VENV_MINIMUM)
test-minimum: $(VENV_MINIMUM)/.installed
	$(PYTEST) -m "not slow"

# On a machine with a CUDA device, by an interpreter that has PyTorch built for it and Triton; installs nothing.
# Warnings of versions that CI does not know are no errors here. Tests and figures are both wanted if one fails.
# PYTEST_FLAGS='-n 8' compiles kernels for several tests at once, where pytest-xdist is installed.
GPU_RESULTS ?= examples/benchmarks/results/gpu.json
gpu-check: export PYTHONPATH := $(CURDIR)
gpu-check:
	@$(PYTHON) -c 'import torch; raise SystemExit(not torch.cuda.is_available() and "There is no CUDA device here.")'
	$(PYTHON) -m pytest $(PYTEST_FLAGS) -m gpu -W default -p no:cacheprovider tests/ops/test_gpu_device.py tests/test_gpu.py; tests=$$?; \
	$(PYTHON) examples/benchmarks/gpu.py --json $(GPU_RESULTS) && exit $$tests

clean:
	rm -rf $(VENV) $(VENV_MINIMUM) $(VENV_PACKAGE) dist docs/_build docs/generated docs/pictures .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# torch first and by itself: it decides which build of everything that depends on it fits.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "tsssm needs Python 3.10 or later; try make PYTHON=..."'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt torch
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

$(VENV_MINIMUM)/.installed: pyproject.toml constraints-minimum.txt
	$(PYTHON) -m venv $(VENV_MINIMUM)
	$(VENV_MINIMUM)/bin/python -m pip install --quiet torch==$(TORCH_MINIMUM)
	$(VENV_MINIMUM)/bin/python -m pip install --quiet -c constraints-minimum.txt -e '.[test]'
	touch $@
