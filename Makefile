# Two commands do all the set-up: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin

# what the base install holds, tested with nothing beside it
BASE_TESTS := tests/loss tests/evaluation/test_metrics.py tests/evaluation/test_revisited.py \
	tests/evaluation/test_average_precision.py tests/evaluation/test_gap.py tests/retrieval/test_exact.py \
	tests/training/test_large_batch.py tests/training/test_class_batch_sampler.py tests/training/test_kept.py \
	tests/training/test_together.py tests/core/test_precision.py tests/core/test_relevance.py tests/core/test_devices.py

.PHONY: demo test test-slow test-oldest wheel check bench gpu clean

.venv/ready: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "recallk needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: .venv/ready  ## train on characters, about three minutes, no download
	@$(BIN)/recallk demo --overwrite

test: .venv/ready  ## all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadgroup -m "not slow"

test-slow: .venv/ready  ## the slow ones: thousands of generated cases, kills
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadgroup -m slow

test-oldest: build/oldest/ready  ## the base install alone, at the oldest versions that it takes
	build/oldest/bin/python -I tests/installed_base.py
	OMP_NUM_THREADS=1 build/oldest/bin/python -m pytest -q -n 2 -m "not slow" $(BASE_TESTS)

build/oldest/ready: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv --clear build/oldest
	build/oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir -c constraints-oldest.txt -e . pytest pytest-xdist hypothesis
	@touch $@

wheel: .venv/ready  ## build the wheel, install it into an empty environment, and use it there: alone, then with all extras
	rm -rf build/wheel build/lib build/bdist*  # what an earlier version left there would be packed too
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/env
	build/wheel/env/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build/wheel/*.whl
	build/wheel/env/bin/python -I tests/installed_base.py
	build/wheel/env/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(echo build/wheel/*.whl)[all]"
	build/wheel/env/bin/python -I tests/installed.py
	rm -rf build/wheel/env  # gigabytes

check: .venv/ready  ## style, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_documents.py

bench: .venv/ready  ## the loss beside its alternatives: table, CSV and picture (long; QUICK=1: two minutes)
	$(BIN)/python -m benchmarks.loss $(if $(QUICK),--quick)

gpu: .venv/ready  ## on a GPU: all tests, the fused kernels and a training step measured; without one, small ones interpreted
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then $(BIN)/pytest -q -n 4 --dist loadgroup; fi
	$(BIN)/python -m benchmarks.gpu

clean:  ## remove what can be made again
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
