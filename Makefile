# The verbs people type. On a fresh machine Python >= 3.11 and make are enough: every verb makes
# the environments it needs, once. `make` alone lists the verbs.

PYTHON ?= python3
# The one pin of torch; on Linux pip takes the build that the machine's index prefers. Another:
#   make test TORCH="torch==2.11.0"
TORCH ?= torch==2.13.0

BIN := .venv/bin
LOWEST := .venv-lowest
PIP := -m pip -qq --disable-pip-version-check --no-input
# Python compiles what it imports, once, and most of what comes with torch nobody does. Where an
# image forbids it to keep that, each of some hundred processes would compile torch anew: seconds.
INSTALL := $(PIP) install --no-compile
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test environments check test-lowest test-all browser bench torture real signatures scanners clean FORCE
.DELETE_ON_ERROR:

help:  ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: .venv/.installed  ## train a small detector, kill it in the middle of a save, resume, compare bit for bit
	@$(BIN)/python -m examples.demo

test: environments check test-lowest test-all browser  ## every check and the whole suite

# Side by side: half of an installation is waiting for what is fetched.
environments:
	@$(MAKE) --no-print-directory -j2 .venv/.installed $(LOWEST)/.installed

check: .venv/.installed  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Each leg tells the suite whether torch is to be there; a test fails where that is not so.
# Fault injection and the corpus of the fuzzer depend on no release: once, below, is enough.
test-lowest: $(LOWEST)/.installed  ## the half that needs no torch, without it, on the oldest dependencies
	SUITE_TORCH=absent $(LOWEST)/bin/python -m pytest -n 2 --ignore tests/testing --ignore tests/fuzz

test-all: .venv/.installed  ## the whole suite with branch coverage
	SUITE_TORCH=present $(BIN)/python -m pytest -n 2 --cov --cov-report=term

# Where Chromium cannot be had the tests are skipped and say so; pictures go to artifacts/report.
browser: .venv/.installed  ## install Chromium (Debian, as root) and try the report in it
	scripts/install_browser.sh || echo 'without Chromium: the report is not tried in a browser'
	$(BIN)/python $(INSTALL) --group browser
	$(BIN)/python -m pytest -n 2 -m browser -rs tests/view

bench: .venv/.installed  ## what the README claims about speed
	@$(BIN)/python $(PIP) install --group bench
	@$(BIN)/python benchmarks/run.py

torture: .venv/.installed  ## kill and fail every call, cut the power of ext4 and xfs, rot files, fuzz, draw thousands of examples: hours
	@scripts/install_torture.sh
	$(BIN)/python $(PIP) install --group fuzz || echo 'without atheris: nothing is fuzzed by coverage'
	$(BIN)/python -m smartcash_format.testing --full
	$(BIN)/python -m pytest -n 2 -m 'torture or hypothesis' --hypothesis-profile explore

real: .venv/.installed  ## fetch published files of others and convert them; whole training runs
	$(BIN)/python -m pytest -m real

signatures: .venv/.installed  ## install OpenSSF model-signing and try signatures with offline keys
	$(BIN)/python $(PIP) install --editable '.[torch,sign]'
	$(BIN)/python -m pytest tests/disk/test_signatures.py tests/cli/test_sign.py

scanners: .venv/.installed  ## install public scanners and let them look at what is written, and at what is refused
	$(BIN)/python $(PIP) install --group scanners
	$(BIN)/python -m pytest -m scanners tests/scanners

clean:  ## remove the environments and everything that the verbs left
	rm -rf .venv $(LOWEST) build dist .coverage* .hypothesis .mypy_cache .pytest_cache \
	    .ruff_cache .import_linter_cache

# $(call make_venv,DIRECTORY): an empty environment with a pip that knows dependency groups. Colab's
# Python and Debian's without python3-venv have no ensurepip: there the pip outside installs one.
define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo 'Python 3.11 or newer is missing: install it, or name it: make PYTHON=python3.13'; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(PYTHON) -m pip --version >/dev/null 2>&1 || { \
	    echo 'Python has neither ensurepip nor pip: install one of them (Debian: apt install python3-venv)'; \
	    exit 1; }
	@echo 'making $(1)'
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv --clear $(1); \
	else $(PYTHON) -m venv --clear --without-pip $(1) && $(PYTHON) $(PIP) --python $(1)/bin/python install pip; fi
	@$(1)/bin/python $(PIP) install --upgrade 'pip>=25.1'
endef

# torch first and by its pin, so that nothing else chooses it. The file says what it was made with: the
# interpreter itself, which may have several names.
MADE_WITH = $(shell $(PYTHON) -c 'import sys; print(sys.base_prefix, *sys.version_info[:3])' 2>/dev/null) $(TORCH)
.venv/.torch: FORCE
	@echo '$(MADE_WITH)' | cmp -s - $@ || $(MAKE) --no-print-directory .venv-anew

.PHONY: .venv-anew
.venv-anew:
	$(call make_venv,.venv)
	@echo 'installing $(TORCH), once: gigabytes with what it needs, so some minutes'
	@$(BIN)/python $(INSTALL) $(TORCH)
	@echo '$(MADE_WITH)' > .venv/.torch

.venv/.installed: .venv/.torch pyproject.toml
	@echo 'installing the package and its tools, once'
	@$(BIN)/python $(INSTALL) --editable '.[torch]' --group dev
	@touch $@

# Exactly the lower bounds of the core dependencies, and no torch.
$(LOWEST)/.installed: pyproject.toml
	$(call make_venv,$(LOWEST))
	@$(LOWEST)/bin/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	    print(*(bound.replace(">=", "==") for bound in project["dependencies"]), sep="\n")' > $(LOWEST)/bounds.txt
	@echo 'installing the oldest dependencies, once:' $$(cat $(LOWEST)/bounds.txt)
	@$(LOWEST)/bin/python $(INSTALL) --editable . --group test --constraint $(LOWEST)/bounds.txt
	@touch $@
