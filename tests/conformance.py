"""Laws that every member of a registry keeps, whoever wrote it.

Each checker takes the member made, or a function that makes it from a seed, and raises where it breaks its contract in
`jaxcollapse.base`. Run them in double precision.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from numpy.testing import assert_array_equal

from jaxcollapse.base import Measure, Moments, counted
from jaxcollapse.exchanges import carry_out, message_bytes, rounds
from jaxcollapse.measures import as_moments, concatenate, stack_padded, uniform_measure
from jaxcollapse.sizes import sizes
from jaxcollapse.tree import as_pytree, expand, num_bytes, row, stack
from jaxcollapse.verifiers import VERIFIERS, verifier, verifier_bytes

DIM, POOL, NUM_KEPT = 3, 16, 6
KEYS = tuple(range(3))
KEPT = np.arange(POOL) % 3 > 0  # ten of sixteen
SILO_SIZES = (14, 12, 17)


def key(seed=0):
    return jax.random.key(seed)


def points(seed=0, size=POOL):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((DIM, DIM)) + 2 * np.eye(DIM)
    return jnp.asarray(1 + rng.standard_normal((size, DIM)) @ root)


def measure(seed=0, weights=None):
    x = points(seed)
    return Measure(x, jnp.ones(POOL) if weights is None else jnp.asarray(weights, x.dtype))


def silos(seed=0):
    """Make three silos of unequal sizes and masses."""
    parts = [uniform_measure(points(10 * seed + k, size)) for k, size in enumerate(SILO_SIZES)]
    return [part._replace(weights=(1 + k / 2) * part.weights) for k, part in enumerate(parts)]


def empty(size, place=1e3):
    """Make points without mass, far away."""
    return Measure(jnp.full((size, DIM), place), jnp.zeros(size))


def versions_of_one_measure(seed=0):
    """Give a measure of the kept points alone, with zero masses in between, and with padding at the end."""
    x = points(seed)
    sliced = Measure(x[KEPT], jnp.ones(KEPT.sum()))
    sparse = Measure(jnp.where(KEPT[:, None], x, 1e3), jnp.asarray(KEPT, float))
    return sliced, sparse, concatenate([sliced, empty(6, -1e3)])


def versions_of_silos(parts):
    """Stack silos, with as little padding as there can be, with more, and with a silo that is missing."""
    least = stack_padded(parts)
    more = stack_padded([concatenate([part, empty(4)]) for part in parts])
    missing = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), least, expand(empty(max(SILO_SIZES))))
    return least, more, missing


def sized(num_kept, num_candidates=POOL):
    """Make the sizes of a selection from at most `POOL` candidates: all of one structure."""
    return sizes(num_kept, num_kept / num_candidates, temperature=0.7, max_kept=POOL, max_candidates=POOL)


def assert_close(actual, expected):
    chex.assert_trees_all_close(actual, expected, rtol=1e-8, atol=1e-8)


def assert_shape(actual, shape):
    chex.assert_shape(actual, shape)
    chex.assert_type(actual, jnp.float64)


def check_transforms(function, *cases):
    """Require jit = eager, vmap = loop, and one trace for all values; a case is a tuple of arguments."""
    chex.clear_trace_counter()
    compiled = jax.jit(chex.assert_max_traces(function, n=1))
    looped = [compiled(*case) for case in cases]
    assert_close(function(*cases[0]), looped[0])
    mapped = jax.jit(jax.vmap(function))(*stack(cases))
    assert_close(mapped, stack(looped))
    chex.assert_tree_all_finite(mapped)


def check_constants(function, *args):
    """Require that the program of a function holds no array as large as a silo: what it knows are its arguments."""
    program = jax.make_jaxpr(function)(*args)
    largest = max((np.size(value) for value in constants(program)), default=0)
    assert largest < DIM * min(SILO_SIZES), f"an array of {largest} numbers is written into the program"


def constants(program):
    """List what is written into a program, and into the programs in it."""
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    yield from program.consts if isinstance(program, ClosedJaxpr) else ()
    for equation in jaxpr.eqns:
        yield from (of.val for of in equation.invars if isinstance(of, Literal))
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr)):
            if isinstance(inner, ClosedJaxpr | Jaxpr):
                yield from constants(inner)


def check_generator(generator):
    """Check a `Generator`."""
    x, key0 = measure(), key()
    params = generator.init(key0, x)
    samples = generator.sample(key0, params, 7)
    assert_shape(samples, (7, DIM))
    assert_array_equal(samples, generator.sample(key0, params, 7))
    assert (samples != generator.sample(key(1), params, 7)).any()
    chex.assert_trees_all_equal_shapes_and_dtypes(generator.fit(key0, params, x), params)
    versions = list(versions_of_one_measure())
    if generator.takes_moments:
        assert isinstance(params, Moments)
        versions.append(as_moments(versions[0]))
    sliced, *others = (generator.fit(key0, params, data) for data in versions)
    for other in others:
        # The same model: also where parameters count or order components.
        assert_close(generator.sample(key0, other, 5), generator.sample(key0, sliced, 5))

    def fit_and_sample(key, data):
        first = generator.init(key, data)
        return generator.sample(key, generator.fit(key, first, data), 4)

    check_transforms(fit_and_sample, *[(key(i), measure(i)) for i in KEYS])


def check_selector(make, *, deterministic, exact=True):
    """Check a `Select`, which `make` makes from a seed: of one structure, and it knows other arrays.

    Where it is not exact, it keeps the whole pool whatever the sizes.
    """

    def run(select, key, pool, sizes):
        return counted(select(key, pool, sizes))

    def keep(data, num_kept, num_candidates=10):
        weights, trouble = compiled(select, key(), data, sized(num_kept, num_candidates))
        assert not any(map(int, trouble.values())), trouble
        return np.asarray(weights)

    select, compiled, pool = as_pytree(make(0)), jax.jit(run), measure(weights=KEPT)
    for num_kept in (1, NUM_KEPT, 10) if exact else (10,):
        weights = keep(pool, num_kept)
        assert_shape(weights, (POOL,))
        assert set(np.unique(weights)) <= {0, 1}
        assert weights.sum() == num_kept
        assert not weights[~KEPT].any()
    assert_array_equal(keep(measure(), POOL, POOL), np.ones(POOL))
    if deterministic:
        sliced, sparse, padded = versions_of_one_measure()
        expected, scattered, filled = (keep(data, NUM_KEPT) for data in (sliced, sparse, padded))
        assert_array_equal(scattered[KEPT], expected)
        assert_array_equal(filled[:10], expected)
        order = jnp.asarray(np.random.default_rng(0).permutation(POOL))
        assert_array_equal(keep(row(sparse, order), NUM_KEPT), scattered[order])
    check_constants(run, select, key(), pool, sized(NUM_KEPT))
    check_transforms(run, *[(as_pytree(make(i)), key(i), measure(i), sized(NUM_KEPT + i)) for i in KEYS])


def check_spoiled(select, *, ranks=True):
    """Check that the exact number is kept where two candidates are not numbers: these last, and counted.

    Where a selector does not rank by what candidates are, any may be kept.
    """
    spoiled = np.flatnonzero(KEPT)[[1, 4]]
    pool = measure(weights=KEPT)
    pool = pool._replace(points=pool.points.at[spoiled].set(jnp.nan))
    for num_kept in (1, NUM_KEPT, 8, 9, 10):
        weights, trouble = jax.jit(counted_by)(as_pytree(select), key(), pool, sized(num_kept, 10))
        assert weights.sum() == num_kept
        assert set(np.unique(weights)) <= {0, 1}
        assert not np.asarray(weights)[~KEPT].any()
        if ranks:
            assert weights[spoiled].sum() == max(num_kept - 8, 0)
            assert sum(trouble.values()) == len(spoiled)


def counted_by(function, *args):
    """Call a score or a selector that is an argument itself."""
    return counted(function(*args))


def check_score(make):
    """Check a `Score`, which `make` makes from a seed: of one structure, and it knows other arrays."""

    def run(score, key, pool):
        return counted(score(key, pool)).value

    score, compiled = as_pytree(make(0)), jax.jit(run)
    sliced, sparse, padded = versions_of_one_measure()
    expected = compiled(score, key(), sliced)
    assert_shape(expected, (10,))
    assert_close(compiled(score, key(), sparse)[KEPT], expected)
    assert_close(compiled(score, key(), padded)[:10], expected)
    order = jnp.asarray(np.random.default_rng(0).permutation(10))
    assert_close(compiled(score, key(), row(sliced, order)), expected[order])
    check_constants(run, score, key(), measure())
    check_transforms(run, *[(as_pytree(make(i)), key(i), measure(i)) for i in KEYS])


def check_workflow(workflow):
    """Check a `Workflow`, with its memory, over three generations."""
    bounds = sizes(NUM_KEPT, 0.5, len(KEYS), num_fresh=NUM_KEPT)
    fresh = uniform_measure(points(9, NUM_KEPT))

    def kept(seed):
        return measure(seed, np.random.default_rng(seed).permutation(POOL) < NUM_KEPT)

    def trainings(key, keeps):
        state, moments = workflow.init(keeps[0], bounds), []
        for t, new in enumerate(keeps):
            before = state
            state, training = workflow.update(jax.random.fold_in(key, t), state, new, fresh, bounds)
            chex.assert_trees_all_equal_shapes_and_dtypes(state, before)
            moments.append(counted(training)._replace(value=as_moments(counted(training).value)))
        return moments

    poisoned = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), kept(0))
    assert_close(workflow.init(poisoned, bounds), workflow.init(kept(0), bounds))
    sparse = [kept(i) for i in KEYS]
    sliced = [row(part, part.weights > 0) for part in sparse]
    expected = jax.jit(trainings)(key(), sparse)
    for training, trouble in expected:
        assert_shape(training.mean, (DIM,))
        assert_shape(training.covariance, (DIM, DIM))
        assert not any(trouble.values())
    assert_close(jax.jit(trainings)(key(), sliced), expected)
    check_transforms(trainings, *[(key(i), [kept(i + j) for j in KEYS]) for i in KEYS])


def by_hand(exchange, key, pool, parts):
    """Run an exchange as a deployment does, one silo at a time and each with nothing but its own data.

    Returns:
        The result, and the list of everything that was exchanged with the last silo.
    """
    server = exchange.server_init(key, pool)
    opening = exchange.opening(server)
    keys = jax.random.split(jax.random.fold_in(key, 2**32 - 1), len(parts))
    states = [exchange.silo_init(k, silo, opening) for k, silo in zip(keys, parts, strict=True)]
    messages = [opening]
    for _ in range(exchange.num_rounds):
        request, replies = exchange.request(server), []
        for k, silo in enumerate(parts):
            states[k], reply = exchange.reply(states[k], silo, request)
            replies.append(reply)
        server = exchange.update(server, stack(replies))
        messages += [request, reply]
    return jax.tree.map(jnp.asarray, (exchange.result(server), messages))


def check_exchange(make):
    """Check an `Exchange`, which `make` makes from a seed: of one structure, and it knows other arrays."""

    def run(exchange, key, pool, silos):
        return carry_out(exchange, key, pool, silos)

    exchange, compiled, parts = make(0), jax.jit(run), silos()
    versions = versions_of_silos(parts)
    results = [compiled(exchange, key(), measure(), stacked) for stacked in versions]
    for leaf in jax.tree.leaves(results[0]):
        chex.assert_type(leaf, jnp.float64)
    found, messages = by_hand(exchange, key(), measure(), parts)
    servers = rounds(exchange, key(), measure(), versions[0])
    chex.assert_tree_shape_prefix(servers, (exchange.num_rounds,))
    for other in (*results[1:], found, jax.tree.map(jnp.asarray, exchange.result(row(servers, -1)))):
        chex.assert_trees_all_equal_shapes(other, results[0])
        assert_close(other, results[0])
    exchanged = num_bytes(messages)
    assert {message_bytes(exchange, measure(), silo) for silo in parts} == {exchanged}
    check_constants(run, exchange, key(), measure(), versions[0])
    check_transforms(run, *[(make(i), key(i), measure(i), stack_padded(silos(i))) for i in KEYS])


def check_metric(metric):
    """Check a `Metric` on data and on moments."""
    _check_on_points(metric)
    assert_shape(jax.eval_shape(metric, key(), as_moments(measure()), as_moments(measure(5))), ())
    check_transforms(metric, *[(key(i), as_moments(measure(i)), as_moments(measure(i + 5))) for i in KEYS])


def check_point_metric(metric):
    """Check a `Metric` that refuses moments."""
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


def check_verifier(name, *, deterministic, exact=True, draws_silos=False, **settings):
    """Check a `Verifier`: the selector that it makes, from what silos, and what it says that this costs.

    What it is made of keeps the laws of scores, selectors and exchanges. Padding changes no choice, unless some of the
    silos' points are drawn for it.
    """

    def make(silos, seed=0):
        return as_pytree(verifier(name, silos, key(seed), **settings))

    def choose(silos, pool):
        return make(silos)(key(), pool, sized(NUM_KEPT))

    chex.clear_trace_counter()
    compiled = jax.jit(chex.assert_max_traces(counted_by, n=1))
    (few, padded, _), pool = versions_of_silos(silos()), measure(weights=KEPT)
    for num_kept in (1, NUM_KEPT, 10) if exact else (10,):
        for seed in (0, 1):
            weights, trouble = compiled(make(stack_padded(silos(seed)), seed), key(), pool, sized(num_kept, 10))
            assert_shape(weights, (POOL,))
            assert set(np.unique(weights)) <= {0, 1}
            assert weights.sum() == num_kept
            assert not np.asarray(weights)[~KEPT].any()
            assert not any(map(int, trouble.values())), trouble
    check_constants(counted_by, make(few), key(), pool, sized(NUM_KEPT))

    chosen = compiled(make(few), key(), pool, sized(NUM_KEPT)).value
    inside = jax.jit(choose)
    assert_array_equal(counted(inside(few, pool)).value, chosen)
    if not draws_silos:
        assert_array_equal(counted(inside(padded, pool)).value, chosen)
    if deterministic:
        order = jnp.asarray(np.random.default_rng(0).permutation(POOL))
        shuffled = compiled(make(few), key(), row(pool, order), sized(NUM_KEPT)).value
        assert_array_equal(shuffled, chosen[order])
    twice = stack_padded(silos() * 2)
    costs = np.array([verifier_bytes(name, stacked, POOL, **settings) for stacked in (few, twice)])
    assert (costs >= 0).all()
    assert_array_equal(costs[1], (1 + VERIFIERS[name].everyone) * costs[0])
    assert verifier_bytes(name, few, 2 * POOL, **settings)[0] == costs[0, 0]
