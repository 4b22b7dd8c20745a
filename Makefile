# Each target works alone on a machine that has Python 3.11 or newer and nothing else: what it needs goes into .venv,
# once. `make demo` and `make test` are the two to start with.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test docs serve-test ui-test ui-screenshots ui-ready simulate soak fuzz bench bench-quick bench-ready \
	lint format clean

help:
	@echo "make demo    run the bank's loan applications, with three kills on the way (about three minutes on two cores)"
	@echo "make test    run every test: the fast ones first and side by side, then those on real Ray clusters"
	@echo "make docs    build the documents into site/; a warning is an error"
	@echo "make serve-test  the example inside Ray Serve, in a venv of its own (half a gigabyte)"
	@echo "make ui-test drive the console (holdfast ui) in Chromium; make ui-screenshots makes the pictures of its page"
	@echo "make simulate SEEDS=2000  the same classes in so many simulated worlds; SEED=4711 replays one; PARTITIONS=2"
	@echo "make soak MINUTES=5  a real cluster of three nodes, with kills and pauses of everything in it"
	@echo "make fuzz    coverage-guided fuzzing of everything that reads bytes (FUZZ_SECONDS=60 of each)"
	@echo "make bench   every measurement that the documents quote, in full size; make bench-quick, most of it in three"
	@echo "make lint    ruff, mypy strict, pyright strict"
	@echo "make format  put the code into its format"
	@echo "make clean   remove what these targets made"

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "setting up .venv with $(PYTHON), once"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' 2>.venv/setup.log \
		|| { cat .venv/setup.log >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev --editable \
		'.[demo,postgres,kafka,nats,webhooks,otel,metrics,privacy,compression,ui]' \
		>.venv/setup.log 2>&1 || { cat .venv/setup.log >&2; exit 1; }
	@# Type checkers run no import hooks: this path entry shows them an editable install as they would see a wheel.
	@$(BIN)/python -c 'import pathlib, site; \
		pathlib.Path(site.getsitepackages()[0], "holdfast-types.pth").write_text(str(pathlib.Path("tests/types").resolve()))'
	@touch $@

demo: $(READY)
	@$(BIN)/python -m examples.loans

# Hundreds of processes are started, and each would compile the package anew where nothing is kept.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(READY)
	@$(BIN)/python -m pytest -m "not ray" --numprocesses auto --dist worksteal
	@$(BIN)/python -m pytest -m ray --numprocesses 3 --dist loadfile

docs: .venv/.docs-ready
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

.venv/.docs-ready: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	@touch $@

serve-test: .venv-serve/.ready
	@.venv-serve/bin/python -m pytest -W default tests/serve

.venv-serve/.ready: pyproject.toml
	@$(PYTHON) -m venv .venv-serve
	@.venv-serve/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@.venv-serve/bin/python -m pip install --quiet --disable-pip-version-check --editable . --group serve
	@touch $@

# The browser is the system's own: it is installed if this may, and named otherwise.
BROWSER = $(or $(CHROMIUM),$(shell command -v chromium || command -v chromium-browser || command -v google-chrome))

ui-test: ui-ready
	@CHROMIUM=$(BROWSER) $(BIN)/python -m pytest tests/ui/browser

ui-screenshots: ui-ready
	@CHROMIUM=$(BROWSER) $(BIN)/python -m tests.ui.browser.pictures

ui-ready: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group ui-test
	@test -n "$(BROWSER)" || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "installing Chromium, once" \
		&& apt-get update -qq && apt-get install -y -qq chromium fonts-inter fonts-jetbrains-mono >.venv/setup.log 2>&1; } \
		|| { echo "no Chromium: install one (apt-get install chromium), or name it: make ui-test CHROMIUM=/path" >&2; exit 1; }

simulate: $(READY)
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),2000) --first $(or $(FIRST),0)) \
		$(if $(PARTITIONS),--partitions $(PARTITIONS))

soak: $(READY)
	@$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))

fuzz: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz
	@$(BIN)/python -m tests.fuzz --seconds $(or $(FUZZ_SECONDS),60)

bench: bench-ready
	@$(BIN)/python -m benchmarks all

bench-quick: bench-ready
	@$(BIN)/python -m benchmarks all --quick

bench-ready: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pyright

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-serve site out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/.cache
