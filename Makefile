# Each target does its own set-up: Python 3.11 or later and make are all that a machine needs.
PYTHON ?= python3
# cpu or auto: torch from PyTorch's own index instead of the registry's CUDA build (smaller; see docs/install.md)
TORCH_BACKEND ?=
BIN := .venv/bin
# uv trusts what pip trusts: a file that pip was told of, else the system's certificates.
PIPS := $(PYTHON) -m pip config list 2>/dev/null | sed -n "s/^global.cert='\(.*\)'/\1/p"
CERT = $(or $(PIP_CERT),$(REQUESTS_CA_BUNDLE),$(CURL_CA_BUNDLE),$(SSL_CERT_FILE),$(shell $(PIPS)))
UV = UV_SYSTEM_CERTS=1 $(if $(CERT),SSL_CERT_FILE="$(CERT)") $(BIN)/uv
INSTALL = $(UV) pip install --python $(BIN)/python
export PYTHONDONTWRITEBYTECODE = # many containers set it: each test process would compile torch anew, for six seconds
QUIET = $(if $(MAKE_TERMOUT),,--quiet)# progress where somebody looks
RUN_DIR ?= runs/demo

.PHONY: setup demo test test-all lowest lab gallery bench levels bench-quick lint lock clean

setup: .venv/installed

.venv/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; name a newer one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "installing into .venv (once; on Linux some 6 GB, most of it torch for CUDA)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
ifeq ($(TORCH_BACKEND),)
	$(INSTALL) $(QUIET) --requirement requirements.lock
else
	$(INSTALL) $(QUIET) --torch-backend=$(TORCH_BACKEND) --requirement pyproject.toml --extra test
endif
	$(INSTALL) --quiet --no-deps --editable .
	@$(BIN)/python -c 'import torch, torchvision.ops' || \
	  { echo "error: torch and torchvision do not fit together; remove .venv and run make setup again" >&2; exit 1; }
	@$(BIN)/python -c 'import torch, torchvision; print("torch", torch.__version__, "and torchvision", torchvision.__version__, "import together")'
	@touch $@

demo: setup
	$(BIN)/mlworkbench notebooks --out $(RUN_DIR)/notebooks --only 01,02,03,04 -p run_dir $(RUN_DIR)
	@echo
	$(BIN)/mlworkbench evaluate $(RUN_DIR)
	@echo "the executed notebooks and their HTML lie in $(RUN_DIR)/notebooks/"

# A test process for each of up to four cores, each with one thread: torch's threads would only wait for each other.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: setup
	$(PYTEST) -m "not slow"

# And what is slow and seldom breaks: the notebooks at their defaults, each of them in a browser, … (docs/testing.md)
test-all: setup
	$(PYTEST)

# The same with the lowest versions that pyproject.toml allows, in an environment of their own
lowest: setup
	$(PYTHON) -m venv .venv-lowest
	$(UV) pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --requirement pyproject.toml --extra test
	$(UV) pip install --quiet --python .venv-lowest/bin/python --no-deps --editable .
	$(subst $(BIN),.venv-lowest/bin,$(PYTEST)) -m "not slow"

lab: setup
	$(BIN)/mlworkbench lab

# The pictures of README and docs, and pages of all notebooks and lessons, from a finished run whose images are at hand;
# notebooks that have not run into RUN_DIR/notebooks run first. Needs Chromium
gallery: setup
	$(BIN)/python docs/gallery.py --run $(RUN_DIR)
	$(BIN)/python docs/pages.py --run $(RUN_DIR)

bench: setup
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/routes.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/widget.py
	$(BIN)/python benchmarks/errors.py
	$(BIN)/python benchmarks/maps.py
	$(BIN)/python benchmarks/noise.py
	$(BIN)/python benchmarks/engines.py

# Whether intervals, tests and guarantees hold what docs/numbers.md says: simulations, some hours; LEVELS=--quick: a tenth
levels: setup
	for file in benchmarks/levels*.py; do $(BIN)/python $$file $(LEVELS) || exit 1; done

bench-quick: setup
	$(BIN)/python benchmarks/data.py --quick
	$(BIN)/python benchmarks/metrics.py --quick
	$(BIN)/python benchmarks/train.py --quick
	$(BIN)/python benchmarks/routes.py --quick
	$(BIN)/python benchmarks/predict.py --quick
	$(BIN)/python benchmarks/widget.py --quick
	$(BIN)/python benchmarks/errors.py --quick
	$(BIN)/python benchmarks/maps.py --quick
	$(BIN)/python benchmarks/noise.py --quick
	$(BIN)/python benchmarks/engines.py --quick

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# After a change of dependencies in pyproject.toml. No rule of its own for the file: a clone's time stamps mean nothing.
lock:
	@test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	$(UV) pip compile --quiet --universal --python-version 3.11 --extra test --no-annotate --no-header pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv build *.egg-info
