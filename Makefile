# `make run` and `make test` do everything on a fresh machine; `make setup` is the set-up alone.

UV_VERSION = 0.13.8
PYENV_310 = $(lastword $(sort $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.10.*/bin/python3.10)))
UV = .tools/bin/uv
BIN = .venv/bin
ROOT ?= runs/glyphs
# Processes that share the tests, each with whole files. Each imports TensorFlow and TFX, and takes up to 3 GB.
WORKERS ?= 2
# A package of links to the rooms, for mypy.
TYPED = .tools/typing/longtail
# `make setup CUDA=1` adds the libraries that a GPU needs; they stay until `make clean`.
GPU = $(or $(filter 1,$(CUDA)),$(wildcard .venv/.cuda))
LOCKS = requirements-dev.txt $(if $(GPU),requirements-cuda.txt)

.PHONY: run test setup lint lock clean

run: setup
	$(BIN)/longtail run --recipe glyphs --root $(ROOT)
	$(BIN)/longtail try --root $(ROOT)

test: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	@mkdir -p $(TYPED)
	@ln -sf $(addprefix ../../../,models components pipeline serving benchmarks longtail/__init__.py longtail/py.typed) $(TYPED)
	$(BIN)/mypy

setup: .venv/.ready $(if $(GPU),.venv/.cuda)

# uv finds Python 3.10 (pyenv's, or one on PATH) and downloads it where there is none and it may.
.venv/.ready: $(LOCKS) pyproject.toml setup.py longtail/__init__.py Makefile
	@test -x $(UV) || python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
		--target .tools "uv==$(UV_VERSION)" || \
		{ echo "longtail: pip could not install uv==$(UV_VERSION); install pip for python3, or check its package index" >&2; exit 1; }
	@test -x $(BIN)/python || $(UV) venv --quiet --no-project --python "$(or $(PYENV_310),3.10)" .venv 2>.tools/venv.log || \
		{ echo "longtail: no Python 3.10 (uv's reason is in .tools/venv.log); install one, e.g. 'pyenv install 3.10', and run make again" >&2; exit 1; }
	VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip sync --quiet --require-hashes $(LOCKS)
	VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# An environment that was set up without them gets them on top.
.venv/.cuda: .venv/.ready requirements-cuda.txt
	VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --no-deps --require-hashes -r requirements-cuda.txt
	@touch $@

# Compiles the locks anew: hashes, no index addresses.
lock:
	$(UV) pip compile --quiet --python $(BIN)/python --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-annotate --no-header requirements.in -o requirements.txt
	$(UV) pip compile --quiet --python $(BIN)/python --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-annotate --no-header -c requirements.txt requirements-dev.in -o requirements-dev.txt
	$(UV) pip compile --quiet --python $(BIN)/python --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-annotate --no-header requirements-cuda.in -o requirements-cuda.txt
	$(UV) pip compile --quiet --python $(BIN)/python --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-annotate --no-header tests/pipeline/kubeflow/requirements-kfp.in -o tests/pipeline/kubeflow/requirements-kfp.txt

clean:
	rm -rf .venv .tools build *.egg-info
