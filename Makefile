# The commands for people and CI alike.  Each brings the set-up with it; the work is in scripts/.

.DEFAULT_GOAL := help
.PHONY: help setup ready demo test check walk mutation bench fix clean

help:
	@awk -F ' *## ' '/^[a-z]+:.*##/ { sub(/:.*/, "", $$1); printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ready ## get what hairpin needs: Debian packages, uv, and .venv with hairpin in it
	@echo "ready: .venv/bin/hairpin"

ready:
	@scripts/setup

demo: ready ## the guided tour, from start to end without a key pressed
	@.venv/bin/hairpin tour --auto

test: ready ## everything: the checks, then tests on this machine's kernel and in the embedded one
	@scripts/verify all

check: ready ## the quick half: lint, types, import contract, unit tests
	@scripts/verify quick

walk: ready ## the proxy's long random walk in the embedded kernel: 10 000 steps, half an hour
	@HAIRPIN_LONG=10000 .venv/bin/pytest -s tests/proxy/test_guest.py -k walk

mutation: ready ## 10 000 random changes to a kernel in each mode: does hairpin audit find them?
	@.venv/bin/python bench/mutation.py --changes 10000

bench: ready ## the measured comparisons in bench/, one after the other
	@set -e; for bench in bench/*.py; do echo "== $$bench"; .venv/bin/python "$$bench"; done

behaviours: ready ## write docs/behaviours.md anew from a run of hairpin check
	@.venv/bin/hairpin check --mode all -o markdown > docs/behaviours.md.new && mv docs/behaviours.md.new docs/behaviours.md || { rm -f docs/behaviours.md.new; exit 1; }

fix: ready ## mend what a machine can mend: lint and format
	@.venv/bin/ruff check --fix --exit-zero .; .venv/bin/ruff format .

clean: ## remove what the commands above made in this folder
	rm -rf .venv .uv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
