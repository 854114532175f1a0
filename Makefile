# The two commands of the README are `make run` and `make test`. Both set up what they need in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test simulate crash disk fuzz faults soak reliability lint docs bench clean

run: $(VENV)/installed
	@exec $(BIN)/inboundmx demo

test: $(VENV)/installed-for-tests
	@sh tests/programs.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Days of a gateway in a hostile world, each replayed by its number: make simulate SEEDS=10000, FROM=4711 SEEDS=1.
SEEDS ?= 1000
FROM ?= 1000
simulate: $(VENV)/installed-for-tests
	$(BIN)/python tests/simulation/simulate.py $(SEEDS) $(FROM)

# Kills, stops and reloads of the real program under load, with books of what was promised: make crash SEED=7, or
# PARTS="kills stops" for some of it. EVERY=10 takes each tenth boundary of a system call alone. Figures go to JSON,
# and with KEEP=--keep into docs/reliability.md.
KILLS ?= 100
SEED ?= 1
EVERY ?= 1
JSON ?= build/crash.json
crash: MESSAGES = 10000
crash: $(VENV)/installed-for-tests
	@sh tests/programs.sh
	@mkdir -p $(dir $(JSON))
	$(BIN)/python tests/crash/harness.py $(PARTS) --kills $(KILLS) --messages $(MESSAGES) --seed $(SEED) \
		--every $(EVERY) --json $(JSON) $(KEEP)

# Power cuts, calls that fail, full disks and damage: many more of each than the tests look at, with figures.
disk: $(VENV)/installed-for-tests
	@sh tests/programs.sh
	INBOUNDMX_LONG=1 $(BIN)/python -m pytest -s --timeout 3600 tests/disk

# Octets that break something, led by the code they reach: make fuzz SECONDS=3600 TARGET=strange_client. Without TARGET
# all of them share the time. KEEP=--keep writes the fewest inputs that reach all of what was found into the tree.
SECONDS ?= 3600
TARGET ?=
KEEP ?=
fuzz: $(VENV)/installed-for-fuzz
	$(BIN)/python tests/fuzz/fuzz.py $(SECONDS) $(TARGET) $(KEEP)

# Every fault of docs/reliability.md on the real program, with its figure: make faults NAMES="scanners memory".
# KEEP=--keep writes the figures into that page.
NAMES ?=
faults: $(VENV)/installed-for-tests
	$(BIN)/python tests/faults/faults.py $(KEEP) $(NAMES)

# Mixed mail in a changing world, and what every process keeps of it in memory: make soak MESSAGES=20000 SECONDS=600.
# KEEP=--keep as above.
MESSAGES ?= 150000
soak: SECONDS = 0
soak: $(VENV)/installed-for-tests
	$(BIN)/python tests/faults/soak.py $(KEEP) --seconds $(SECONDS) $(MESSAGES)

# The tables of docs/reliability.md from the results that these left; a test holds them true.
reliability: $(VENV)/installed-for-tests
	$(BIN)/python tests/faults/page.py

lint: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/mypy

# etc/inboundmx.ini and docs/reference.md are written by the program; a test holds them true.
docs: $(VENV)/installed
	$(BIN)/python -m inboundmx.app.reference

# Ours beside stock peers in one run, as root: about 30 minutes, QUICK=1 about 6, ONLY=50x1,idle those. All of it writes
# docs/performance.md; a part of it is written beside its figures.
QUICK ?=
ONLY ?=
FIGURES := .cache/benchmarks.json
bench: $(VENV)/installed-for-tests
	@sh tests/programs.sh --benchmarks
	@mkdir -p .cache && rm -f $(FIGURES)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only '$(ONLY)') --json $(FIGURES); status=$$?; \
	    $(BIN)/python -m benchmarks.report $(FIGURES) $(if $(QUICK)$(ONLY),--to .cache) && exit $$status

$(VENV)/created:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || sh tests/programs.sh --venv
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/created setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,dev]'
	@touch $@

$(VENV)/installed-for-fuzz: $(VENV)/installed-for-tests
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
