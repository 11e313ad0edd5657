import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import random_problem

from jaxcollapse.base import Moments, Target
from jaxcollapse.batches import proposals_needed, sampled, top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import uniform_measure
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.metrics import METRICS
from jaxcollapse.references import all_silos
from jaxcollapse.selectors import SELECTORS, keep_all, mahalanobis
from jaxcollapse.sweep import Trajectory, complete, sweep
from jaxcollapse.theory.mean_field import mean_field
from jaxcollapse.trajectory import advance, build_collapse, record_model, record_side_by_side, run, side_by_side, start
from jaxcollapse.validation import make_controls
from jaxcollapse.workflows import WORKFLOWS

KEY, NUM_KEPT, DIM = jax.random.key(3), 12, 2


def problem(dtype=jnp.float32, dim=DIM):
    mean, covariance, location, factor = (jnp.asarray(leaf, dtype) for leaf in random_problem(0, dim))
    return Moments(jnp.ones((), dtype), mean, covariance), Target(location, factor)


def pool_batch(target, select, max_candidates):
    silos = jax.tree.map(lambda leaf: leaf[None], target)
    return sampled(gaussian(), select, all_silos(), silos, max_candidates)


def top(target, num_kept, max_candidates):
    return pool_batch(target, SELECTORS["top"](mahalanobis(), num_kept), max_candidates)


def record(key, state, info):
    return {"model": state.params, "mass": info.batch.weights.sum()}


def model(key, state, info):
    return state.params


def batch_of(target, *, direct):
    num_proposals = proposals_needed(NUM_KEPT, 0.2, DIM)
    return top_of_gaussian(target, NUM_KEPT, num_proposals) if direct else top(target, NUM_KEPT, 60)


def fresh_of(truth):
    return lambda key, controls: uniform_measure(gaussian().sample(key, truth, NUM_KEPT))


def simulation(workflow, truth, target, num_generations=6, direct=False):
    """Compose a small simulation of one workflow."""
    buffered = workflow == "accumulate_subsample"
    memory = buffer_memory(NUM_KEPT * num_generations, NUM_KEPT) if buffered else moments_memory()
    return build_collapse(gaussian(), batch_of(target, direct=direct), WORKFLOWS[workflow](memory), fresh_of(truth))


def assert_close(actual, expected, tolerance=1e-11):
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=tolerance, atol=tolerance), actual, expected)


def assert_same_bits(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(assert_array_equal, actual, expected)


@pytest.mark.usefixtures("x64")
def test_compiled_is_eager_and_mapped_is_looped():
    truth, target = problem(jnp.float64)
    collapse = simulation("accumulate_subsample", truth, target)
    controls = make_controls(NUM_KEPT, 0.2)

    def final(key):
        return run(key, collapse, truth, controls, 3, record)

    keys = jax.random.split(KEY, 3)
    compiled = jax.jit(final)
    looped = [compiled(key) for key in keys]
    mapped = jax.jit(jax.vmap(final))(keys)
    assert_close(mapped, jax.tree.map(lambda *leaves: jnp.stack(leaves), *looped))
    state = collapse.init(truth, controls)
    for t in range(3):
        state, _ = collapse.step(jax.random.fold_in(keys[0], t), state, controls)
    assert_close(state, looped[0][0])


def test_a_trajectory_in_pieces_is_the_trajectory_bit_for_bit():
    truth, target = problem()
    collapse, controls = simulation("accumulate", truth, target), make_controls(NUM_KEPT, 0.2)
    state, whole = jax.jit(lambda key: run(key, collapse, truth, controls, 4, record))(KEY)
    part, first = start(KEY, collapse, truth, controls, record)
    pieces = [jax.tree.map(lambda leaf: leaf[None], first)]
    proceed = jax.jit(lambda state, size: advance(KEY, collapse, state, controls, size, record), static_argnums=1)
    for size in (3, 1):
        part, records = proceed(part, size)
        pieces.append(records)
    assert_same_bits(part, state)
    assert_same_bits(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *pieces), whole)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("direct", [False, True])
def test_workflows_side_by_side_are_the_workflows_one_by_one(direct):
    truth, target = problem(jnp.float64)
    workflows, memories = list(WORKFLOWS.values()), []
    for name in WORKFLOWS:
        buffered = name == "accumulate_subsample"
        memories.append(buffer_memory(NUM_KEPT * 6, NUM_KEPT) if buffered else moments_memory())
    together = side_by_side(
        gaussian(),
        batch_of(target, direct=direct),
        [make(memory) for make, memory in zip(workflows, memories, strict=True)],
        fresh_of(truth),
    )
    controls, record_each = make_controls(NUM_KEPT, 0.2), record_side_by_side(model)
    state, records = jax.jit(lambda key: run(key, together, truth, controls, 5, record_each))(KEY)
    for i, name in enumerate(WORKFLOWS):
        alone = simulation(name, truth, target, direct=direct)
        alone_state, alone_records = jax.jit(lambda key, c=alone: run(key, c, truth, controls, 5, model))(KEY)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[:, i], records), alone_records)
        assert_close(state.memory[i], alone_state.memory)


def stack_controls(budgets, num_kept=NUM_KEPT):
    controls = [make_controls(num_kept, budget) for budget in budgets]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *controls)


def axes(num_seeds, budgets=(0.2, 0.5)):
    return {"controls": stack_controls(budgets), "key": jax.random.split(KEY, num_seeds)}


def small_sweep(direct, num_generations, **chunks):
    truth, target = problem()

    def build(controls, key):
        collapse = simulation("accumulate", truth, target, direct=direct)
        return Trajectory(key, collapse, truth, controls, record)

    return list(sweep(build, axes(3), num_generations, **chunks))


def test_a_sweep_in_chunks_is_the_sweep_bit_for_bit():
    whole, chunks = small_sweep(True, 5), small_sweep(True, 5, chunk_size=2)
    # Chunks have one size: what is computed beyond the last generation is dropped.
    assert [int(progress.generation) for progress in chunks] == [0, 2, 4, 5]
    assert_same_bits(chunks[-1].history, whole[-1].history)
    assert chunks[-1].history["model"].mean.shape == (2, 3, 6, DIM)


def test_a_resumed_sweep_is_the_sweep_bit_for_bit():
    chunks = small_sweep(False, 6, chunk_size=2)
    # As a checkpoint stores them.
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(chunks[1])]
    resumed = small_sweep(False, 6, chunk_size=2, resume=leaves)
    assert [int(progress.generation) for progress in resumed] == [2, 4, 6]
    assert_same_bits(resumed[-1], chunks[-1])


def test_a_sweep_is_traced_once_whatever_the_length_of_its_axes():
    traces = []

    def build(controls, key):
        traces.append(1)
        truth, target = problem()
        return Trajectory(key, simulation("replace", truth, target), truth, controls, record)

    history = complete(sweep(build, axes(256, (0.2, 0.25, 0.5, 1.0)), 3, chunk_size=1))
    assert history["mass"].shape == (4, 256, 4)
    assert_array_equal(history["mass"][..., 1:], np.full((4, 256, 3), NUM_KEPT))
    assert len(traces) == 2  # the start, and the chunk


def test_a_budget_of_the_whole_pool_gives_the_same_bits_for_all_selectors():
    truth, target = problem()
    controls = make_controls(NUM_KEPT, 1.0, temperature=1.0)

    def final(select):
        batch_fn = pool_batch(target, select, NUM_KEPT)
        collapse = build_collapse(gaussian(), batch_fn, WORKFLOWS["accumulate"](moments_memory()))
        return jax.jit(lambda key: run(key, collapse, truth, controls, 3, record))(KEY)

    expected = final(keep_all)
    for make in SELECTORS.values():
        assert_same_bits(final(make(mahalanobis(), NUM_KEPT)), expected)


def test_generation_zero_is_the_truth_and_has_no_batch():
    truth, target = problem()
    collapse = simulation("replace", truth, target)
    state, first = start(KEY, collapse, truth, make_controls(NUM_KEPT, 0.2), record)
    assert state.generation == 0
    assert_same_bits(first["model"], truth)
    assert np.isnan(first["mass"])
    metrics = {name: METRICS[name] for name in ("trace_ratio", "mean_error")}
    _, first = start(KEY, collapse, truth, make_controls(NUM_KEPT, 0.2), record_model(metrics, truth))
    assert {name: float(value) for name, value in first.items()} == {"trace_ratio": 1, "mean_error": 0}


def test_methods_compared_share_the_draws_of_the_first_pool():
    truth, target = problem()
    keys = []

    def spy(select):
        def spied(key, pool, references, controls):
            keys.append(pool.points)
            return select(key, pool, references, controls)

        return spied

    for select in (keep_all, SELECTORS["top"](mahalanobis(), NUM_KEPT)):
        pool_batch(target, spy(select), 60)(KEY, truth, make_controls(NUM_KEPT, 0.2))
    assert_array_equal(*keys)


@pytest.mark.usefixtures("x64")
def test_mean_field_is_rotation_equivariant():
    truth, target = problem(jnp.float64, dim=3)
    q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    turned = truth._replace(mean=q @ truth.mean, covariance=q @ truth.covariance @ q.T)
    turned_target = Target(q @ target.location, target.factor @ q.T)

    @jax.jit
    def models(truth, target):
        collapse = mean_field(target, WORKFLOWS["accumulate"](moments_memory()))
        history = run(KEY, collapse, truth, make_controls(100, 0.05), 10, lambda key, state, info: state.params)
        return history[1]

    straight, rotated = models(truth, target), models(turned, turned_target)
    expected = straight._replace(mean=straight.mean @ q.T, covariance=q @ straight.covariance @ q.T)
    assert_close(rotated, expected, 1e-8)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_float32_stays_float32_where_float64_is_enabled(workflow, direct):
    with jax.enable_x64(True):
        truth, target = problem(jnp.float32)
        collapse, controls = simulation(workflow, truth, target, direct=direct), make_controls(NUM_KEPT, 0.2)
        result = jax.eval_shape(lambda key: run(key, collapse, truth, controls, 4, record), KEY)
    floating = [leaf.dtype for leaf in jax.tree.leaves(result) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert set(floating) == {jnp.dtype(jnp.float32)}


# Workflow, sampler, dimension, generations, budgets, ridge. As few samples are kept as a covariance needs.
LONG_RUNS = [
    ("replace", "pool", 2, 300, (0.01, 0.05, 0.5, 1.0), 0.0),
    ("replace", "direct", 2, 300, (0.01, 0.05, 0.5, 1.0), 0.0),
    ("replace", "pool", 64, 300, (0.5, 1.0), 0.0),
    ("replace", "direct", 64, 8, (0.01, 0.5), 0.0),
    ("accumulate", "direct", 2, 10_000, (0.01, 0.05, 0.5), 0.0),
    ("accumulate", "pool", 2, 10_000, (0.01, 0.5, 1.0), 0.0),
    ("accumulate", "pool", 64, 1_000, (0.5, 1.0), 0.0),
]


@pytest.mark.parametrize(("workflow", "sampler", "dim", "num_generations", "budgets", "ridge"), LONG_RUNS)
def test_long_float32_runs_stay_finite(workflow, sampler, dim, num_generations, budgets, ridge):
    num_kept = dim + 2
    truth, target = problem(dim=dim)
    if sampler == "direct":
        batch_fn = top_of_gaussian(target, num_kept, proposals_needed(num_kept, min(budgets), dim))
    else:
        batch_fn = top(target, num_kept, round(num_kept / min(budgets)))
    collapse = build_collapse(gaussian(ridge), batch_fn, WORKFLOWS[workflow](moments_memory()))

    def history(controls):
        return run(KEY, collapse, truth, controls, num_generations, record)[1]

    records = jax.jit(jax.vmap(history))(stack_controls(budgets, num_kept))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(records["model"]))
    assert_array_equal(records["mass"][:, 1:], np.full((len(budgets), num_generations), num_kept))
    variances = np.diagonal(records["model"].covariance, axis1=-2, axis2=-1)
    assert (variances >= 0).all()
    # Models stay in the neighbourhood of truth and target.
    reach = np.abs(np.stack([truth.mean, target.location])).max() + 10 * np.sqrt(np.diag(truth.covariance).max())
    assert np.abs(records["model"].mean).max() < reach
