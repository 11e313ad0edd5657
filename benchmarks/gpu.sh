#!/bin/sh
# What a GPU is to show, within eight minutes: `PYTHON=python benchmarks/gpu.sh`, with jax for the device installed.
# One part that fails, or takes longer than it may, stops no other.
PYTHON=${PYTHON:-python}
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$PWD/.cache/jax-gpu}" TF_CPP_MIN_LOG_LEVEL=3

part() {
    limit=$1
    shift
    echo "== $*"
    timeout "$limit" "$@" || echo "== failed, status $?: $*"
}

part 60 "$PYTHON" -m pytest -q -p no:xdist tests/test_canary.py
for lanes in 10000 100000 1000000; do
    part 60 "$PYTHON" -m benchmarks.throughput --num-lanes $lanes
done
part 60 "$PYTHON" -m benchmarks.transport --num-candidates 200000 --num-reference 5000 --dim 512 --epsilons 0.05 \
    --repeats 3 --num-scored 2000 --num-chosen 500
part 90 "$PYTHON" -m experiments siloed_diffusion --preset quick --out "${OUT:-results/gpu}"
# Programs of recursions multiply in single precision wherever they run; of a test's own, only where they are told to.
part 90 env JAX_DEFAULT_MATMUL_PRECISION=highest "$PYTHON" -m pytest -v -p no:xdist tests/test_top.py \
    tests/test_recursion.py tests/test_gaussian.py tests/test_sums.py tests/test_prng.py
