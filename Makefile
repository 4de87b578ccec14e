# The targets below are listed by `make`. Everything runs in .venv, which is built on first use.
PROFILE ?= recorded
PARAMS  ?=
PYTHON  ?= python3

PROFILES := smoke laptop pretrained photographs cifar10 imagenette imagenet recorded
ITEMS    := $(sort $(patsubst notebooks/%.ipynb,%,$(wildcard notebooks/profit_*.ipynb notebooks/qil_*.ipynb notebooks/beyond_*.ipynb notebooks/deploy_*.ipynb notebooks/scoreboard.ipynb)))
# what figures are made from, besides their notebooks; a folder changes when something in it comes or goes
LIBRARY  := $(shell find paperlib \( -name exercises -o -name '.*' \) -prune -o \( -name '*.py' -o -name '*.c' \) -print)
SHIPPED  := $(shell find data/recorded data/confirmations data/published.csv data/cifar10-subset -name '.*' -prune -o -print 2>/dev/null)
# a list of the files that a figure consists of, written when all of them are there; other PARAMS have lists of their own
MADE     := figures/.made/$(PROFILE)$(if $(PARAMS)$(PAPERLIB_FIGURES),-$(firstword $(shell printf '%s\n' '$(PARAMS)' '$(PAPERLIB_FIGURES)' | cksum)))
READY    := .venv/.ready
TRAINED  := .venv/.trained-$(PROFILE)
PY       := .venv/bin/python
COMMA    := ,
SHORT    := smoke_vgg7
# what keeps a core busy, but for waits, runs so many at a time
JOBS     := $(shell cores=$$(getconf _NPROCESSORS_ONLN || echo 1); echo $$((cores < 3 ? cores + 1 : 4)))
# a file's tests run one after another, several files at a time, a thread each
TEST     := OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
# these take long, and need not be tested again while they and what they are about are what they were when they passed
SITE     := tests/test_site.py tests/test_browser.py
LONG     := $(SITE) $(wildcard notebooks/*.ipynb)
PASSED   := build/passed

ifneq ($(words $(PROFILE)) $(filter $(PROFILE),$(PROFILES)),1 $(PROFILE))
$(error unknown PROFILE "$(PROFILE)": choose from $(PROFILES))
endif

# notebooks' kernels and workers import this clone's library, whichever one is installed
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

# the runs of all figures are trained first, unless they are recorded; with PARAMS, figures need others and train them
BEFORE   := $(if $(PARAMS)$(filter recorded,$(PROFILE)),,$(if $(filter figures,$(MAKECMDGOALS)),$(TRAINED)))
# then they are only drawn
ifneq ($(BEFORE)$(and $(filter recorded,$(PROFILE)),$(filter figures%,$(MAKECMDGOALS))),)
ONE_CORE := OMP_NUM_THREADS=1
MAKEFLAGS += --jobs=$(JOBS)
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help figures reproduce lab test test-quick site slides handouts data check-env bench notebooks record clean FORCE $(addprefix figures/,$(ITEMS))

help:  ## this list
	@echo 'make TARGET [PROFILE=$(subst $() ,|,$(PROFILES))] [PARAMS="-p seeds 3"]'
	@awk -F ':.*## ' '/^[a-z\/<>-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' '$(firstword $(MAKEFILE_LIST))'
	@echo '  figures/ITEM       one figure; ITEM is $(subst $() ,$(COMMA) ,$(ITEMS))'

figures: $(BEFORE) $(addprefix figures/,$(ITEMS))  ## every figure from the shipped runs, of which one is trained again here to compare; other PROFILEs train
ifeq ($(PROFILE),recorded)
	@echo 'one of these runs, trained again on this machine:'
	$(PY) -m paperlib repeat $(SHORT)
endif
	@echo "all figures are in $$(sed -n 's|/[^/]*\.png$$||p' $(ITEMS:%=$(MADE)/%) | sort -u | paste -s -d ' ' -)"
ifeq ($(PROFILE),recorded)
	@echo 'make reproduce trains the ladder of PROFIT at 3 bits on this machine, in about twenty minutes'
endif

reproduce:  ## train PROFIT's ladder at 3 bits, one seed, from the shipped float network, into figures/pretrained/ (about twenty minutes on two cores); all figures from scratch: make figures PROFILE=laptop
	@$(MAKE) --no-print-directory figures/profit_table3_ablation PROFILE=pretrained

lab: $(READY)  ## JupyterLab, opened at notebooks/00_start_here.ipynb
	$(PY) -m jupyterlab notebooks/00_start_here.ipynb

test: $(LONG:%=$(PASSED)/%) | $(READY)  ## unit tests, and notebooks against their outputs and the site where anything changed since they passed
	$(TEST) --nbval --passed $(PASSED) $(DUE) tests $(patsubst %,--ignore %,$(filter-out $(DUE),$(SITE)))

test-quick: $(READY)  ## unit tests without those that train, start processes, judge all claims, or try many networks
	$(TEST) tests -m "not slow"

site: $(READY)  ## notebooks, figures, glossary and API as pages that need no network: build/site/index.html
	$(PY) site/build.py

slides: $(READY)  ## the lessons as slides: build/slides/learn_N_....html (without a network: see notebooks/teaching/README.md)
	$(PY) site/slides.py

handouts: $(READY)  ## the lessons as handouts, a page of A4 each: build/handouts/learn_N_....pdf (with Chromium)
	$(PY) site/handouts.py

data: $(READY)  ## fetch all of CIFAR-10 into data/ and check it
	$(PY) -m paperlib data

check-env: $(READY)  ## OK or FAIL for each requirement, with the cure
	$(PY) -m paperlib check-env

bench: $(READY)  ## time and memory of a quantized training step beside PyTorch's float one, and what AIWQ adds, as ratios (ten minutes)
	@mkdir -p build
	@rm -f build/steps.csv
	$(PY) benchmarks/qat_step.py --compile float --csv build/steps.csv
	$(PY) benchmarks/steps_table.py build/steps.csv
	$(PY) benchmarks/aiwq.py

notebooks: $(READY)  ## run the committed notebooks again and store their outputs (for authors)
	for name in notebooks/*.ipynb; do $(PY) -m paperlib refresh "$$(basename "$$name" .ipynb)" || exit 1; done

record: $(READY)  ## train what data/recorded/ should hold and does not, what claims need most first: make record [MINUTES=60] (for authors)
	$(PY) -m paperlib record --profile $(PROFILE) $(if $(MINUTES),--minutes $(MINUTES))

clean:  ## remove made figures and caches; trained runs (data/runs) and downloads (data/cifar10) stay
	rm -rf .pytest_cache build/site $(PASSED) figures/.made figures/experiments $(foreach p,$(filter-out recorded,$(PROFILES)),figures/$(p))
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# One figure, which may be several pictures; says where they are.
$(addprefix figures/,$(ITEMS)): figures/%: $(MADE)/%
	@grep '\.png$$' $<

$(ITEMS:%=$(MADE)/%): $(MADE)/%: notebooks/%.ipynb $(LIBRARY) $(SHIPPED) | $(READY) $(BEFORE)
	@mkdir -p $(@D)
	$(ONE_CORE) $(PY) -m paperlib figure $* --profile $(PROFILE) $(PARAMS) > $@.part
	@mv $@.part $@

# pytest writes these files (tests/conftest.py); what is out of date is only collected here
$(LONG:%=$(PASSED)/%): $(PASSED)/%: % $(LIBRARY) $(wildcard paperlib/teaching/exercises/*.py) $(SHIPPED) requirements.lock
	$(eval DUE += $*)
$(SITE:%=$(PASSED)/%): $(wildcard *.md notebooks/*.ipynb site/* site/static/* figures/recorded/* paperlib/teaching/moving/*)

# what has lost a file since is made again
$(shell for made in $(MADE)/*; do while read -r file; do [ -e "$$file" ] || echo "$$made"; done < "$$made"; done 2>/dev/null): FORCE

# the runs of all figures, trained at once: two that begin alike share it, and no core waits for a figure to end
$(TRAINED): $(LIBRARY) $(SHIPPED) | $(READY)
	$(PY) -m paperlib prepare --profile $(PROFILE)
	@touch $@

figures/%:
	@echo 'no figure "$*": choose from $(ITEMS)' >&2; exit 2

# The lock pins uv as well; uv installs the rest.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' || \
	  { echo 'Python 3.10 or newer with venv is needed: install it (Debian: apt install python3-venv), or name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	$(PY) -m uv pip install --python $(PY) --compile-bytecode --requirements requirements.lock
	$(PY) -m uv pip install --python $(PY) --no-deps --no-build-isolation --editable .
	@touch $@
