import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxcollapse.base import Measure
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.validation import make_controls
from jaxcollapse.workflows import WORKFLOWS

NUM_KEPT, NUM_FRESH, NUM_STEPS = 4, 3, 5
CONTROLS = make_controls(NUM_KEPT, 0.5, num_fresh=NUM_FRESH)
MEMORIES = {
    "moments": moments_memory,
    "buffer": lambda: buffer_memory(NUM_STEPS * (NUM_KEPT + NUM_FRESH), NUM_KEPT),
}
RNG = np.random.default_rng(0)
POOLS = RNG.standard_normal((NUM_STEPS, 8, 2)).astype(np.float32)
KEPT = np.stack([RNG.permutation(8) < NUM_KEPT for _ in range(NUM_STEPS)])
BATCHES = np.stack([pool[kept] for pool, kept in zip(POOLS, KEPT, strict=True)])
FRESH = RNG.standard_normal((NUM_STEPS, NUM_FRESH, 2)).astype(np.float32) + 5


def run_steps(workflow, fresh=FRESH):
    """Give every training set of a workflow fed with the batches in turn."""
    batches = [
        Measure(jnp.asarray(pool), jnp.asarray(kept, jnp.float32)) for pool, kept in zip(POOLS, KEPT, strict=True)
    ]
    state, trainings = workflow.init(batches[0]), []
    for t, batch in enumerate(batches):
        new = None if fresh is None else uniform_measure(jnp.asarray(fresh[t]))
        state, training = workflow.update(jax.random.key(t), state, batch, new, CONTROLS)
        trainings.append(training)
    return trainings


def assert_trained_on(training, points):
    moments, points = as_moments(training), np.asarray(points, np.float64)
    assert moments.mass == len(points)
    assert_allclose(moments.mean, points.mean(0), rtol=1e-5, atol=1e-6)
    assert_allclose(moments.covariance, np.cov(points.T, bias=True), rtol=1e-5, atol=1e-6)


EXPECTED = {
    "replace": lambda t: BATCHES[t],
    "accumulate": lambda t: BATCHES[: t + 1].reshape(-1, 2),
    "fresh_mix": lambda t: np.concatenate([BATCHES[t], FRESH[t]]),
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
        assert chosen <= {tuple(row) for row in BATCHES[: t + 1].reshape(-1, 2).tolist()}
    later = {tuple(row) for training in trainings[1:] for row in training.points.tolist()}
    assert later & {tuple(row) for row in BATCHES[0].tolist()}


def test_accumulate_subsample_starts_with_the_whole_first_batch():
    first = run_steps(WORKFLOWS["accumulate_subsample"](MEMORIES["buffer"]()), fresh=None)[0]
    assert_array_equal(first.points, BATCHES[0])


@pytest.mark.parametrize("name", ["replace", "accumulate"])
def test_fresh_data_are_ignored_where_no_workflow_asks(name):
    with_fresh, without = (run_steps(WORKFLOWS[name](moments_memory()), fresh)[-1] for fresh in (FRESH, None))
    jax.tree.map(assert_array_equal, with_fresh, without)


def test_accumulate_subsample_needs_points():
    with pytest.raises(ValueError, match="needs a memory that keeps points: use buffer_memory"):
        WORKFLOWS["accumulate_subsample"](moments_memory())


def test_fresh_mix_needs_fresh_data():
    with pytest.raises(ValueError, match="fresh_mix needs fresh real data: give build_collapse a fresh_fn"):
        run_steps(WORKFLOWS["fresh_mix"](moments_memory()), fresh=None)
