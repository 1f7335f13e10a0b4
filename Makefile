# `make run` and `make test` do the whole set-up; both are quick the second time.
PYTHON ?= python3
PY := .venv/bin/python
WANTED := $(shell sed -n 's/^python_requires = >=//p' setup.cfg)
# A worker a core; eight at most, as each takes up to 2 GB. They take each other's tests when they run out of their own.
PYTEST := $(PY) -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

.PHONY: run test smoke lint kernels clean

run: .venv/run kernels
	$(PY) run.py --target aie --precision int

test: .venv/dev .venv/other .venv/gpu kernels lint
	$(PYTEST)
	PYTHONPATH=.venv/quantizers $(PYTEST) tests/toolkit/test_quantizers.py
	TRITON_INTERPRET=1 PYTHONPATH=.venv/triton $(PYTEST) tests/cuda

smoke: .venv/dev kernels
	$(PY) -m pytest tests/smoke

lint: .venv/dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/clang-format --dry-run --Werror operators/csrc/*.cpp operators/csrc/*.h

# Compiles the kernels, or finds them in the cache; without a compiler the Python reference serves, loudly.
kernels: .venv/run
	$(PY) -m operators.build

# in words that the oldest of them reads
define TOO_OLD
import sys
have, wanted = sys.version_info[:2], tuple(map(int, "$(WANTED)".split(".")))
said = "opswap: Python $(WANTED) or later is wanted; %s is %d.%d: make clean, then make PYTHON=a newer one"
sys.exit(said % ((sys.executable,) + have) if have < wanted else 0)
endef
export TOO_OLD

.venv/run: requirements.txt
	@python="$(PYTHON)"; test ! -x $(PY) || python=$(PY); $$python -c "$$TOO_OLD"
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/dev: requirements-dev.txt .venv/run
	$(PY) -m pip install --quiet --requirement requirements-dev.txt
	touch $@

.venv/other: requirements-quantizers.txt .venv/run
	$(PY) -m pip install --quiet --upgrade --target .venv/quantizers --no-deps --requirement requirements-quantizers.txt
	touch $@

.venv/gpu: requirements-triton.txt .venv/run
	$(PY) -m pip install --quiet --upgrade --target .venv/triton --no-deps --requirement requirements-triton.txt
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
