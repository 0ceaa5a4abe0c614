# Each target sets up what it needs; a second run costs no set-up.
SHELL = /bin/sh
VENV = .venv
PY = $(VENV)/bin/python
BOT = $(VENV)/bin/bot
READY = $(VENV)/.ready
DEMO = build/demo
PYTEST = $(PY) -m pytest
export KERNEL

.PHONY: help demo test test-fast test-kernels check format lint types kernel bench evaluate docs deb test-deb torture pins clean

help:
	@echo 'make demo          the bot on its sample kernel and series'
	@echo 'make test          everything, a real kernel included (downloads 164 MB once)'
	@echo 'make test-fast     what needs neither a real kernel nor services'
	@echo 'make test-kernels  the kernel tests on the two newest series that Debian offers'
	@echo 'make check         format, lint, types, tests'
	@echo 'make kernel        a real kernel into the cache (VERSION=7.2: that one)'
	@echo 'make bench         speed, as ratios'
	@echo 'make evaluate      what the rules find of planted mistakes, and say of harmless patches'
	@echo 'make docs          docs/rules.md, docs/bot.1, the mails in docs/replies.md'
	@echo 'make deb           a Debian package, in build/deb'
	@echo 'make test-deb      that package, in a Debian of its own (downloads 150 MB)'
	@echo 'make pins          requirements/: the hashes of what constraints.txt pins'
	@echo 'make torture       watcher, workers and sender are killed at random (CAMPAIGN=series, mails)'
	@echo '                   or, with CAMPAIGN=mails-in, fuzzed mails come in; CAMPAIGN=machines:'
	@echo '                   databases, networks and clocks fail; CAMPAIGN=inputs: generated patches'
	@echo '                   and threads, compared with git am and b4 am (CASES=N, SEED=N)'

PIP = $(PY) -m pip install --quiet --disable-pip-version-check

$(READY): pyproject.toml requirements/dev.txt .ci/packages
	@sh .ci/packages
	@python3 -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements/dev.txt
	@$(PIP) --no-deps --no-build-isolation --no-index -e .
	@$(PY) -m compileall -q bot rules  # else each program that a test starts does
	@touch $@

demo: $(READY)
	@$(PY) -m bot.demo $(DEMO)
	$(BOT) check --tree $(DEMO)/linux.git $(DEMO)/series.mbox; test $$? -eq 1

test: $(READY)
	@test -n "$(KERNEL)" || $(PY) -m tests.kernel.debian || echo 'tests on a real kernel will be skipped'
	$(PYTEST) -m 'not deb' --hypothesis-profile thorough -n auto --dist loadscope

test-fast: $(READY)
	$(PYTEST) -m 'not kernel and not slow and not deb' -n auto --dist loadscope

test-kernels: $(READY)
	@$(PY) -m tests.kernel.debian --newest 2
	ALL_KERNELS=1 $(PYTEST) -m kernel -n auto --dist loadscope

check: format lint types test

format: $(READY)
	$(PY) -m ruff format --check .

lint: $(READY)
	$(PY) -m ruff check .

types: $(READY)
	$(PY) -m mypy

kernel: $(READY)
	@$(PY) -m tests.kernel.debian $(VERSION)

bench: $(READY)
	@test -n "$(KERNEL)" || $(PY) -m tests.kernel.debian
	$(PY) -m tests.bench

evaluate: $(READY)
	@$(PY) -m tests.kernel.debian --newest 2
	$(PY) -m tests.evaluate

docs: $(READY)
	@$(BOT) rules explain --markdown >docs/rules.md
	@$(PY) -m bot.manual >docs/bot.1
	@$(PYTEST) -q --write-goldens tests/test_docs.py

deb: $(READY)
	@sh debian/build $(PY) build/deb

test-deb: $(READY)
	$(PYTEST) -m deb

torture: $(READY)
	$(PY) -m tests.torture

pins:
	sh .ci/pins

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
