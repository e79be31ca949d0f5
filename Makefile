# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: run test pytest faults lint types page-libraries clean

run: $(VENV)/.run-ready  ## a region with a known truth: made, registered, compared
	$(BIN)/tar-pipeline demo

test: $(VENV)/.test-ready lint  ## everything that guards the main branch
	$(MAKE) --no-print-directory --jobs 2 types pytest  # mypy has one core, and pytest waits at times

# One thread each: threads of OpenMP that wait for each other spin, and take the cores from the rest.
# And whatever the shell says, bytecode is kept: else each of many processes compiles every source.
pytest: $(VENV)/.test-ready
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

faults: $(VENV)/.test-ready  ## the full fault table: real processes killed, real servers failing
	$(BIN)/python -m pytest -m faults -s --timeout 1800

lint: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test-ready
	$(BIN)/mypy

# They lie in the repository and in the wheel: only who changes flows/view/package.json needs npm.
page-libraries:  ## what the map's page loads, as flows/view/package-lock.json pins it
	cd flows/view && npm ci --ignore-scripts --no-audit --no-fund && rm -rf page/lib && \
	cd node_modules && for file in \
	  leaflet/dist/leaflet.js leaflet/dist/leaflet.css leaflet/LICENSE \
	  topojson-client/dist/topojson-client.min.js topojson-client/LICENSE \
	  uplot/dist/uPlot.iife.min.js uplot/dist/uPlot.min.css uplot/LICENSE \
	  world-atlas/land-50m.json world-atlas/LICENSE; \
	do install -D -m 644 $$file ../page/lib/$${file%%/*}/$$(basename $$file); done
	rm -rf flows/view/node_modules

$(VENV)/.run-ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.test-ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@ $(VENV)/.run-ready

clean:
	rm -rf $(VENV) .pgstac demo-region .pytest_cache .mypy_cache .ruff_cache
