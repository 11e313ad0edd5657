import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import assert_unbiased

from jaxcollapse.base import Measure, counted
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.memories import MEMORIES, moments_memory
from jaxcollapse.sizes import sizes
from jaxcollapse.workflows import WORKFLOWS, fresh_samples

NUM_KEPT, NUM_FRESH, NUM_STEPS = 4, 3, 5
SIZES = sizes(NUM_KEPT, 0.5, NUM_STEPS, num_fresh=NUM_FRESH)
RNG = np.random.default_rng(0)
POOLS = RNG.standard_normal((NUM_STEPS, 8, 2)).astype(np.float32)
KEPT = np.stack([RNG.permutation(8) < NUM_KEPT for _ in range(NUM_STEPS)])
KEPT_POINTS = np.stack([pool[kept] for pool, kept in zip(POOLS, KEPT, strict=True)])
FRESH = RNG.standard_normal((NUM_STEPS, NUM_FRESH, 2)).astype(np.float32) + 5


def run_steps(workflow, fresh=FRESH):
    """Give every training set of a workflow fed with the kept data in turn."""
    pools = [Measure(*map(jnp.float32, pool)) for pool in zip(POOLS, KEPT, strict=True)]
    state, trainings, update = workflow.init(pools[0], SIZES), [], jax.jit(workflow.update)
    for t, kept in enumerate(pools):
        new = None if fresh is None else uniform_measure(jnp.asarray(fresh[t]))
        state, training = update(jax.random.key(t), state, kept, new, SIZES)
        training, trouble = counted(training)
        assert not any(trouble.values())
        trainings.append(training)
    return trainings


def assert_trained_on(training, points):
    moments, points = jax.jit(as_moments)(training), np.asarray(points, np.float64)
    assert moments.mass == len(points)
    assert_allclose(moments.mean, points.mean(0), rtol=1e-5, atol=1e-6)
    assert_allclose(moments.covariance, np.cov(points.T, bias=True), rtol=1e-5, atol=1e-6)


EXPECTED = {
    "replace": lambda t: KEPT_POINTS[t],
    "accumulate": lambda t: KEPT_POINTS[: t + 1].reshape(-1, 2),
    "fresh_mix": lambda t: np.concatenate([KEPT_POINTS[t], FRESH[t]]),
}


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", EXPECTED)
def test_training_sets(name, memory):
    for t, training in enumerate(run_steps(WORKFLOWS[name](MEMORIES[memory]()))):
        assert_trained_on(training, EXPECTED[name](t))


def test_accumulate_subsample_trains_on_n_distinct_points_of_all_generations():
    trainings = run_steps(WORKFLOWS["accumulate_subsample"](MEMORIES["buffer"]()), fresh=None)
    for t, training in enumerate(trainings):
        assert_array_equal(training.weights, np.ones(NUM_KEPT))
        chosen = {tuple(row) for row in training.points.tolist()}
        assert len(chosen) == NUM_KEPT
        assert chosen <= {tuple(row) for row in KEPT_POINTS[: t + 1].reshape(-1, 2).tolist()}
    later = {tuple(row) for training in trainings[1:] for row in training.points.tolist()}
    assert later & {tuple(row) for row in KEPT_POINTS[0].tolist()}


def test_accumulate_subsample_starts_with_all_that_was_kept_first():
    first = run_steps(WORKFLOWS["accumulate_subsample"](MEMORIES["buffer"]()), fresh=None)[0]
    assert_array_equal(first.points, KEPT_POINTS[0])


@pytest.mark.parametrize("name", ["replace", "accumulate"])
def test_fresh_data_are_ignored_where_no_workflow_asks(name):
    with_fresh, without = (run_steps(WORKFLOWS[name](moments_memory()), fresh)[-1] for fresh in (FRESH, None))
    jax.tree.map(assert_array_equal, with_fresh, without)


def test_accumulate_subsample_needs_points():
    with pytest.raises(ValueError, match="needs a memory that keeps points: use buffer_memory"):
        WORKFLOWS["accumulate_subsample"](moments_memory())


def test_fresh_mix_needs_fresh_data():
    with pytest.raises(
        ValueError, match="fresh_mix needs fresh real data: give build_collapse a function that draws them"
    ):
        run_steps(WORKFLOWS["fresh_mix"](moments_memory()), fresh=None)


def test_fresh_samples_are_drawn_in_proportion_to_mass():
    real = Measure(jnp.float32([[0.0], [1], [2], [3]]), jnp.float32([1, 0, 3, 0]))
    bounds = sizes(10, num_fresh=jnp.array([30_000, 20_000]))
    drawn = jax.device_get(jax.jit(jax.vmap(fresh_samples(real)))(jax.random.split(jax.random.key(0)), bounds))
    assert_array_equal(drawn.weights.sum(axis=1), [30_000, 20_000])
    assert set(np.unique(drawn.points)) == {0, 2}
    shares = (drawn.points[..., 0] == 2).mean(axis=1)
    assert_unbiased((shares - 0.75) / np.sqrt(0.75 * 0.25 / 30_000))
