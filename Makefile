PYTHON ?= python3
VENV := .venv
DEMO := .venv-demo
BIN := $(VENV)/bin
# Test sets, published weights and training photographs; tests that need them are skipped where it is absent.
export LKDN_TEST_DATA ?= $(abspath $(wildcard ../shared))

.PHONY: help demo test test-long web-test check docs bench convergence figure1 paper-table repeat gpu clean
.DEFAULT_GOAL := help

help: ## Show this help
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(DEMO)/installed ## Upscale a photograph and a text with the bundled model, in an environment of its own
	$(DEMO)/bin/python tools/demo.py prepare demo
	$(DEMO)/bin/lkdn-upscale --overwrite demo/small demo/large
	$(DEMO)/bin/python tools/demo.py compare demo
	@echo "results: demo/large; beside bicubic and the originals: demo/side_by_side.png"

# Two processes of one thread: most tests start programs or run small networks, which gain little from a second thread.
test: $(VENV)/installed ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-long: $(VENV)/installed ## Run the tests that `make test` leaves out for their length: about an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m long

web-test: $(VENV)/installed ## The page in Chromium (Debian: apt-get install chromium chromium-driver), 5 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long -rs tests/web/browser

check: $(VENV)/installed ## Formatting, lint, types, layers, and that the documentation builds without a warning
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

docs: $(VENV)/installed ## The documentation as a site that asks no other host: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: $(VENV)/installed ## Run the benchmarks; results in benchmarks/results
	$(BIN)/python benchmarks/upscale.py
	$(BIN)/python benchmarks/resample.py
	$(BIN)/python benchmarks/training.py

convergence: $(VENV)/installed ## Train with Adan and with Adam on the photographs in DATA
	$(BIN)/python benchmarks/convergence.py --data $(DATA)

figure1: $(VENV)/installed ## Measure every checkpoint in ../shared through PyTorch and ONNX Runtime, and draw the table
	$(BIN)/python benchmarks/figure1.py --weights $(LKDN_TEST_DATA)/weights --testsets $(LKDN_TEST_DATA)/testsets

paper-table: $(VENV)/installed ## The paper's Set5 and Set14 columns from the published weights in ../shared, by lkdn-eval
	$(BIN)/python benchmarks/paper_table.py --weights $(LKDN_TEST_DATA)/weights --testsets $(LKDN_TEST_DATA)/testsets

repeat: $(VENV)/installed ## Whether lkdn-bench says the same three times, and sees a planted slowdown
	$(BIN)/python benchmarks/repeat.py

# The TensorRT that is made for the GPU: TensorRT for RTX has no kernels for the GPUs of data centres.
gpu: $(VENV)/installed ## The tests that need an NVIDIA GPU, then the benchmark of its engines
	extra=$$($(BIN)/python tools/gpu_extra.py) && \
		$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --editable ".[$$extra]" 'cupy-cuda13x[ctk]'
	$(BIN)/python -m pytest -m gpu -rA
	$(BIN)/lkdn-bench --trt --torch

clean: ## Remove the environments and caches
	rm -rf $(VENV) $(DEMO) demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/installed: pyproject.toml tests/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --editable '.[cpu,native,openvino,bench,dev]'
	@touch $@

$(DEMO)/installed: pyproject.toml
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet --editable '.[cpu]'
	@touch $@
