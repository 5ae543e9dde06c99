# The two commands a newcomer needs: `make demo` and `make test`. Each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
STAMPS := .venv/stamps

.PHONY: demo test lint bench clean

demo: $(STAMPS)/demo
	$(BIN)/python examples/tutorial.py
	$(BIN)/python examples/digits.py
	$(BIN)/python examples/scipy_fit.py

test: $(STAMPS)/test
	$(BIN)/python -m pytest

lint: $(STAMPS)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMPS)/demo
	$(BIN)/python benchmarks/run.py

$(STAMPS)/%: pyproject.toml | .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@mkdir -p $(STAMPS) && touch $@

.venv:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
