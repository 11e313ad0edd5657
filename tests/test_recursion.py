import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import random_problem

from jaxcollapse.base import Counted, Moments, Run, Target, counted
from jaxcollapse.gaussian.top import top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import uniform_measure
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.metrics import METRICS
from jaxcollapse.record import record_model, record_side_by_side
from jaxcollapse.recursion import advance, build_collapse, run, sample_and_select, side_by_side, start
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import k_means, keep_all, random, top
from jaxcollapse.sizes import sizes
from jaxcollapse.theory.mean_field import mean_field
from jaxcollapse.tree import expand, stack
from jaxcollapse.workflows import WORKFLOWS

KEY, NUM_KEPT, DIM = jax.random.key(3), 12, 2


def problem(dtype=jnp.float32, dim=DIM):
    mean, covariance, location, factor = (jnp.asarray(leaf, dtype) for leaf in random_problem(0, dim))
    return Moments(jnp.ones((), dtype), mean, covariance), Target(location, factor)


def record(key, state, info):
    return {"model": state.params, "mass": info.kept.weights.sum()}


def model(key, state, info):
    return state.params


def sized(num_generations, budget=0.2):
    return sizes(NUM_KEPT, budget, num_generations, num_fresh=NUM_KEPT)


def pool_of(select):
    return sample_and_select(gaussian(), select)


def keep_of(target, *, direct):
    return top_of_gaussian(target) if direct else pool_of(top(mahalanobis(target)))


def fresh_of(truth):
    return lambda key, sizes: uniform_measure(gaussian().sample(key, truth, NUM_KEPT))


def make(workflow):
    return WORKFLOWS[workflow](buffer_memory() if workflow == "accumulate_subsample" else moments_memory())


def simulation(workflow, truth, target, direct=False):
    """Compose a small simulation of one workflow."""
    return build_collapse(gaussian(), keep_of(target, direct=direct), make(workflow), fresh_of(truth))


def assert_close(actual, expected, tolerance=1e-11):
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=tolerance, atol=tolerance), actual, expected)


def assert_same_bits(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(assert_array_equal, actual, expected)


@pytest.mark.usefixtures("x64")
def test_compiled_is_eager_and_mapped_is_looped():
    truth, target = problem(jnp.float64)
    collapse, bounds = simulation("accumulate_subsample", truth, target), sized(3)

    def final(key):
        return run(key, collapse, truth, bounds, record)

    keys = jax.random.split(KEY, 3)
    compiled = jax.jit(final)
    looped = [compiled(key) for key in keys]
    mapped = jax.jit(jax.vmap(final))(keys)
    assert_close(mapped, stack(looped))
    state = collapse.init(truth, bounds)
    for t in range(3):
        state, _ = collapse.step(jax.random.fold_in(keys[0], t), state, bounds)
    assert_close(state, looped[0][0])


def test_a_trajectory_in_pieces_is_the_trajectory_bit_for_bit():
    truth, target = problem()
    whole = Run(KEY, simulation("accumulate", truth, target), truth, sized(4), record)
    state, records = jax.jit(lambda key: run(*whole._replace(key=key)))(KEY)
    part, (first, _) = start(whole)
    pieces = [expand(first)]
    proceed = jax.jit(lambda state, size: advance(whole, state, size), static_argnums=1)
    for size in (3, 1):
        part, (piece, _) = proceed(part, size)
        pieces.append(piece)
    assert_same_bits(part, state)
    assert_same_bits(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *pieces), records)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("direct", [False, True])
def test_workflows_side_by_side_are_the_workflows_one_by_one(direct):
    truth, target = problem(jnp.float64)
    names = ["replace", "accumulate_subsample"] if direct else WORKFLOWS
    together = side_by_side(gaussian(), keep_of(target, direct=direct), [make(w) for w in names], fresh_of(truth))
    record_each = record_side_by_side(model)
    state, records = jax.jit(lambda key: run(key, together, truth, sized(5), record_each))(KEY)
    for i, name in enumerate(names):
        alone = simulation(name, truth, target, direct=direct)
        alone_state, alone_records = jax.jit(lambda key, c=alone: run(key, c, truth, sized(5), model))(KEY)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[:, i], records), alone_records)
        assert_close(state.memory[i], alone_state.memory)


def test_a_budget_of_the_whole_pool_gives_the_same_bits_whether_selected_by_score_by_draw_or_not():
    truth, target = problem()
    bounds = sizes(NUM_KEPT, 1.0, 3, temperature=1.0)

    def final(select):
        collapse = build_collapse(gaussian(), pool_of(select), make("accumulate"))
        return jax.jit(lambda key: run(key, collapse, truth, bounds, record))(KEY)

    expected = final(keep_all())
    for select in (top(mahalanobis(target)), random(), k_means()):
        assert_same_bits(final(select), expected)


def test_generation_zero_is_the_truth_and_nothing_was_kept():
    truth, target = problem()
    whole = Run(KEY, simulation("replace", truth, target), truth, sized(1), record)
    state, (first, trouble) = start(whole)
    assert state.generation == 0
    assert_same_bits(first["model"], truth)
    assert np.isnan(first["mass"])
    assert not any(trouble.values())
    metrics = {name: METRICS[name] for name in ("trace_ratio", "mean_error")}
    _, (first, _) = start(whole._replace(record=record_model(metrics, truth)))
    assert {name: float(value) for name, value in first.items()} == {"trace_ratio": 1, "mean_error": 0}


def test_selectors_compared_share_the_draws_of_the_first_pool():
    truth, target = problem()

    def spy(select):
        return lambda key, pool, sizes: Counted(counted(select(key, pool, sizes)).value, {"pool": pool.points})

    seen = [jax.jit(pool_of(spy(s)))(KEY, truth, sized(1)).trouble for s in (keep_all(), top(mahalanobis(target)))]
    assert_array_equal(*(trouble["pool"] for trouble in seen))


def test_what_goes_wrong_is_counted_in_every_generation():
    truth, target = problem()

    def spoil(key, pool):
        return jnp.where(jnp.arange(len(pool.weights)) < 7, jnp.nan, mahalanobis(target)(key, pool))

    @jax.jit
    def counts(bounds):
        collapse = build_collapse(gaussian(), pool_of(top(spoil)), make("accumulate_subsample"))
        whole = Run(KEY, collapse, truth, bounds, record)
        state, _ = start(whole)
        return advance(whole, state, bounds.num_generations)[1][1]

    def troubles(bounds):
        return {name: count.tolist() for name, count in counts(bounds).items() if count.any()}

    spoiled = {"scores that are not finite": [7, 7, 7]}
    assert troubles(sized(3)) == spoiled
    beyond = dataclasses.replace(sized(3), num_kept=jnp.int32(NUM_KEPT + 2), num_candidates=jnp.int32(70))
    assert troubles(beyond) == spoiled | {
        "num_kept beyond max_kept": [2, 2, 2],
        "num_candidates beyond max_candidates": [10, 10, 10],
        "candidates short of num_kept": [2, 2, 2],
    }


def test_a_run_beyond_its_generations_overfills_the_memory_which_is_counted():
    truth, target = problem()
    whole = Run(KEY, simulation("accumulate_subsample", truth, target), truth, sized(3), record)
    state, _ = start(whole)
    _, (_, trouble) = jax.jit(lambda state: advance(whole, state, 5))(state)
    counts = {name: count.tolist() for name, count in trouble.items() if count.any()}
    # There is room for fresh data, which this workflow does not ask for.
    assert counts == {"points that found no room in the memory": [0, 0, 0, 0, NUM_KEPT]}


@pytest.mark.usefixtures("x64")
def test_mean_field_is_rotation_equivariant():
    truth, target = problem(jnp.float64, dim=3)
    q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    turned = truth._replace(mean=q @ truth.mean, covariance=q @ truth.covariance @ q.T)
    turned_target = Target(q @ target.location, target.factor @ q.T)

    @jax.jit
    def models(truth, target):
        return run(KEY, mean_field(target, make("accumulate")), truth, sizes(100, 0.05, 10), model)[1]

    straight, rotated = models(truth, target), models(turned, turned_target)
    expected = straight._replace(mean=straight.mean @ q.T, covariance=q @ straight.covariance @ q.T)
    assert_close(rotated, expected, 1e-8)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_float32_stays_float32_where_float64_is_enabled(workflow, direct):
    with jax.enable_x64(True):
        truth, target = problem(jnp.float32)
        collapse = simulation(workflow, truth, target, direct=direct)
        result = jax.eval_shape(lambda key: run(key, collapse, truth, sized(4), record), KEY)
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
    collapse = build_collapse(gaussian(ridge), keep_of(target, direct=sampler == "direct"), make(workflow))

    def history(sizes):
        return run(KEY, collapse, truth, sizes, record)[1]

    records = jax.jit(jax.vmap(history))(sizes(num_kept, budgets, num_generations))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(records["model"]))
    assert_array_equal(records["mass"][:, 1:], np.full((len(budgets), num_generations), num_kept))
    variances = np.diagonal(records["model"].covariance, axis1=-2, axis2=-1)
    assert (variances >= 0).all()
    # Models stay in the neighbourhood of truth and target.
    reach = np.abs(np.stack([truth.mean, target.location])).max() + 10 * np.sqrt(np.diag(truth.covariance).max())
    assert np.abs(records["model"].mean).max() < reach
