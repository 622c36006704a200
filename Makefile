# Every target is one line a newcomer can read; `make demo` and `make test` set up all they need in .venv.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test check bench bench-smoke chaos chaos-smoke results-check screenshots schema clean

demo: .venv/run.stamp
	$(BIN)/fewtune run studies/demo.yaml --out out/demo
	test -e out/demo-model || $(BIN)/fewtune fit --from out/demo --rows 32 --folds 2 --save out/demo-model
	printf 'text\nA film to fall in love with.\nTwo hours that I want back.\nI would watch it again tomorrow.\n' | $(BIN)/fewtune predict out/demo-model - --format csv
	@printf '\nYour own rows: a CSV with a column of texts and one of labels.\n  .venv/bin/fewtune fit ROWS.csv --save out/my-model\n  .venv/bin/fewtune predict out/my-model NEW.csv\n  .venv/bin/fewtune serve out/my-model\n'

test: check
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/test.stamp
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: .venv/bench.stamp
	$(BIN)/python -m benchmarks.race

bench-smoke: .venv/bench.stamp
	$(BIN)/python -m benchmarks.race --smoke

chaos: .venv/test.stamp
	$(BIN)/python -m benchmarks.chaos

chaos-smoke: .venv/test.stamp
	$(BIN)/python -m benchmarks.chaos --part local --minutes 0.5

results-check: .venv/run.stamp
	$(BIN)/python -m benchmarks.stated

screenshots: .venv/test.stamp
	$(BIN)/python -m benchmarks.screenshots

schema: .venv/run.stamp
	$(BIN)/fewtune schema > studies/study.schema.json

clean:
	rm -rf .venv out .mypy_cache .ruff_cache .pytest_cache

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fewtune needs Python 3.11 or newer: make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv .venv

.venv/run.stamp: pyproject.toml .venv/bin/python
	$(BIN)/pip install --quiet --editable '.[run]' && touch $@

.venv/bench.stamp: pyproject.toml .venv/bin/python
	$(BIN)/pip install --quiet --editable '.[bench]' && touch $@

.venv/test.stamp: pyproject.toml .venv/bin/python
	$(BIN)/pip install --quiet --editable '.[test]' && touch $@
