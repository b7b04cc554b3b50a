# Each target is enough on its own on a machine with Python 3.11, 3.12 or 3.13 and pip: .ci/venv makes .venv when it is missing or stale;
# IMBIK_PYTHON names the Python.
.PHONY: demo test drills check audit gpu-check gpu-wheels engine format venv clean
export DO_NOT_TRACK = 1
# .venv is our own: without bytecode every start would take twice as long.
unexport PYTHONDONTWRITEBYTECODE

demo: venv
	@.venv/bin/imbik run demo --name demo

# Fast tests first, so that a plain mistake shows within seconds; then jobs and whole flows, two files at a time, in the order of the folders:
# by the number of their tests the longest would come last.
test: export OMP_NUM_THREADS = 1
test: export OMP_WAIT_POLICY = PASSIVE
test: venv
	@.venv/bin/python -m pytest -m "not slow and not drill" -n 2
	@.venv/bin/python -m pytest -m "slow and not drill" -n 2 --dist loadfile --no-loadscope-reorder

# What needs a service (Slurm, PostgreSQL, a browser: skipped with a reason where absent), injects faults, or tries every member of a kind
# of which `make test` tries some. .ci/run, which has half an hour, runs Slurm's and the faults': make drills ONLY="tests/drills".
drills: export OMP_NUM_THREADS = 1
drills: export OMP_WAIT_POLICY = PASSIVE
drills: venv
	@.venv/bin/python -m pytest -m drill -n 2 --dist loadfile -rs $(ONLY)

check: venv
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy conf flows tasks jobs
	@.venv/bin/lint-imports

# Published vulnerabilities of the locked packages; says so and passes where no advisory service answers.
audit: venv
	@.venv/bin/python deploy/audit.py

# On a machine with a CUDA GPU: the simulated formats against ModelOpt's own kernels, the whole demo, then a 1B-class model's steps, written
# to tests/bench/results/. Elsewhere each says why it is left out.
gpu-check: venv
	@.venv/bin/python -m pytest -m gpu -rs
	@.venv/bin/python -m tests.bench.gpu --demo

# What a bare PyTorch image lacks, as wheels in parts that can be carried to it.
gpu-wheels: venv
	@.venv/bin/python .ci/gpu-wheels build/gpu-wheels --all

# vLLM for this machine's processor in build/engine, which imbik bench starts for models. For GPUs, IMBIK_VLLM_PYTHON names the Python of
# an environment with vLLM.
engine: venv
	@.ci/engine

format: venv
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

venv:
	@.ci/venv

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
