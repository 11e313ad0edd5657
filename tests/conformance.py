"""Laws that every member of a registry keeps, whoever wrote it.

Each checker takes the member made, and raises where it breaks its contract in `jaxcollapse.base`. Run them in
double precision.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxcollapse.base import Measure
from jaxcollapse.measures import as_moments
from jaxcollapse.validation import make_controls

DIM, POOL, NUM_KEPT = 3, 16, 6
KEYS = tuple(range(3))
KEPT = np.arange(POOL) % 3 > 0  # ten of sixteen


def key(seed=0):
    return jax.random.key(seed)


def points(seed=0, size=POOL):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((DIM, DIM)) + 2 * np.eye(DIM)
    return jnp.asarray(1 + rng.standard_normal((size, DIM)) @ root)


def measure(seed=0, weights=None):
    x = points(seed)
    return Measure(x, jnp.ones(POOL) if weights is None else jnp.asarray(weights, x.dtype))


def versions_of_one_measure(seed=0):
    """Give a measure of the kept points alone, with zero masses in between, and with padding at the end."""
    x = points(seed)
    far = jnp.where(KEPT[:, None], x, 1e3)
    sliced = Measure(x[KEPT], jnp.ones(KEPT.sum()))
    padded = Measure(jnp.concatenate([x[KEPT], jnp.full((6, DIM), -1e3)]), jnp.append(jnp.ones(10), jnp.zeros(6)))
    return sliced, Measure(far, jnp.asarray(KEPT, float)), padded


def layout(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def assert_close(actual, expected):
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-8, atol=1e-8), actual, expected)


def assert_shape(actual, shape):
    assert actual.shape == shape
    assert actual.dtype == jnp.float64


def check_transforms(function, *cases):
    """Require jit = eager, vmap = loop, and one trace for all values; a case is a tuple of arguments."""
    traces = []

    def counted(*args):
        traces.append(1)
        return function(*args)

    compiled = jax.jit(counted)
    looped = [compiled(*case) for case in cases]
    assert len(traces) == 1, "compiled again for a new traced value"
    assert_close(function(*cases[0]), looped[0])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cases)
    mapped = jax.jit(jax.vmap(function))(*stacked)
    assert_close(mapped, jax.tree.map(lambda *leaves: jnp.stack(leaves), *looped))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(mapped))


def check_generator(generator):
    """Check a `Generator`."""
    x, key0 = measure(), key()
    params = generator.init(key0, x)
    samples = generator.sample(key0, params, 7)
    assert_shape(samples, (7, DIM))
    assert_array_equal(samples, generator.sample(key0, params, 7))
    assert (samples != generator.sample(key(1), params, 7)).any()
    refitted = generator.fit(key0, params, x)
    assert layout(refitted) == layout(params)
    sliced, *others = (generator.fit(key0, params, data) for data in versions_of_one_measure())
    for other in others:
        # The same model: also where parameters count or order components.
        assert_close(generator.sample(key0, other, 5), generator.sample(key0, sliced, 5))

    def fit_and_sample(key, data):
        first = generator.init(key, data)
        return generator.sample(key, generator.fit(key, first, data), 4)

    check_transforms(fit_and_sample, *[(key(i), measure(i)) for i in KEYS])


def check_selector(select, references, *, deterministic):
    """Check a `SelectFn` made for at most `POOL` kept."""
    compiled = jax.jit(lambda key, pool, controls: select(key, pool, references, controls))

    def controls(num_kept, num_candidates=POOL):
        return make_controls(num_kept, num_kept / num_candidates, temperature=0.7)

    pool = measure(weights=KEPT)
    for num_kept in (1, NUM_KEPT, 10):
        weights = compiled(key(), pool, controls(num_kept, 10))
        assert_shape(weights, (POOL,))
        assert set(np.unique(weights)) <= {0, 1}
        assert weights.sum() == num_kept
        assert not np.asarray(weights)[~KEPT].any()
    assert_array_equal(compiled(key(), measure(), controls(POOL)), np.ones(POOL))
    if deterministic:
        sliced, sparse, padded = versions_of_one_measure()
        expected, scattered, filled = (
            np.asarray(compiled(key(), data, controls(NUM_KEPT, 10))) for data in (sliced, sparse, padded)
        )
        assert_array_equal(scattered[KEPT], expected)
        assert_array_equal(filled[:10], expected)
        order = np.random.default_rng(0).permutation(POOL)
        mixed = Measure(*(leaf[order] for leaf in sparse))
        shuffled = compiled(key(), mixed, controls(NUM_KEPT, 10))
        assert_array_equal(shuffled, scattered[order])
    check_transforms(
        lambda key, pool, controls: select(key, pool, references, controls),
        *[(key(i), measure(i), controls(NUM_KEPT + i)) for i in KEYS],
    )


def check_workflow(workflow, *, max_batch):
    """Check a `Workflow` that was made for batches of at most `max_batch` points, over three generations."""
    controls = make_controls(NUM_KEPT, 0.5, num_fresh=POOL)
    fresh = Measure(points(9, max_batch), jnp.ones(max_batch))

    def batch(seed):
        return measure(seed, np.random.default_rng(seed).permutation(POOL) < max_batch)

    def trainings(key, batches):
        state, moments = workflow.init(batches[0]), []
        empty = layout(state)
        for t, new in enumerate(batches):
            state, training = workflow.update(jax.random.fold_in(key, t), state, new, fresh, controls)
            assert layout(state) == empty
            moments.append(as_moments(training))
        return moments

    poisoned = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), batch(0))
    assert_close(workflow.init(poisoned), workflow.init(batch(0)))
    for training in jax.eval_shape(trainings, key(), [batch(i) for i in KEYS]):
        assert_shape(training.mean, (DIM,))
        assert_shape(training.covariance, (DIM, DIM))
    sparse = [batch(i) for i in KEYS]
    sliced = [Measure(b.points[b.weights > 0], b.weights[b.weights > 0]) for b in sparse]
    assert_close(jax.jit(trainings)(key(), sparse), jax.jit(trainings)(key(), sliced))
    check_transforms(trainings, *[(key(i), [batch(i + j) for j in KEYS]) for i in KEYS])


def check_reference(reference_fn, silos, padded_silos):
    """Check a `ReferenceFn` on a stack of silos, and on the same silos with more padding."""
    controls, pool = make_controls(NUM_KEPT), measure()
    references = reference_fn(key(), silos, pool, controls)
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(references)}
    assert len(sizes) == 1, "the leaves of a stack of references share their leading axis"
    for leaf in jax.tree.leaves(references):
        assert leaf.dtype == jnp.float64
    if isinstance(references, Measure):
        assert_close(as_moments(reference_fn(key(), padded_silos, pool, controls)), as_moments(references))
    check_transforms(
        lambda key, silos, pool: reference_fn(key, silos, pool, controls),
        *[(key(i), silos._replace(points=silos.points + i), measure(i)) for i in KEYS],
    )


def check_metric(metric):
    """Check a `MetricFn` on data and on moments."""
    _check_on_points(metric)
    assert_shape(jax.eval_shape(metric, key(), as_moments(measure()), as_moments(measure(5))), ())
    check_transforms(metric, *[(key(i), as_moments(measure(i)), as_moments(measure(i + 5))) for i in KEYS])


def check_point_metric(metric):
    """Check a `MetricFn` that refuses moments."""
    _check_on_points(metric)
    with pytest.raises(TypeError, match="generated = Moments"):
        metric(key(), as_moments(measure()), measure(5))


def _check_on_points(metric):
    compiled = jax.jit(metric)
    pairs = zip(versions_of_one_measure(), versions_of_one_measure(5), strict=True)
    expected, *others = (compiled(key(), *pair) for pair in pairs)
    assert_shape(expected, ())
    assert_close(others, [expected] * 2)
    check_transforms(metric, *[(key(i), measure(i), measure(i + 5)) for i in KEYS])
