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
ORDER = np.random.default_rng(0).permutation(POOL)
SILO_SIZES = (14, 17, 14)
moments = jax.jit(as_moments)


def key(seed=0):
    return jax.random.key(seed)


def points(seed=0, size=POOL):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((DIM, DIM)) + 2 * np.eye(DIM)
    return jnp.asarray(1 + rng.standard_normal((size, DIM)) @ root)


def measure(seed=0, weights=None):
    return Measure(points(seed), jnp.asarray(np.ones(POOL) if weights is None else weights, float))


def silos(seed=0):
    """Make three silos of unequal sizes and masses."""
    return [
        Measure(points(10 * seed + k, size), jnp.asarray(np.full(size, 1 + k / 2))) for k, size in enumerate(SILO_SIZES)
    ]


def empty(size, place=1e3):
    """Make points without mass, far away."""
    return Measure(jnp.asarray(np.full((size, DIM), place)), jnp.asarray(np.zeros(size)))


def versions_of_one_measure(seed=0):
    """Give a measure of the kept points alone, with zero masses in between, and with padding at the end."""
    x = np.asarray(points(seed))
    sliced = x[KEPT], np.ones(KEPT.sum())
    sparse = np.where(KEPT[:, None], x, 1e3), KEPT.astype(float)
    padded = np.pad(x[KEPT], [(0, 6), (0, 0)], constant_values=-1e3), np.pad(np.ones(KEPT.sum()), (0, 6))
    return [Measure(*map(jnp.asarray, version)) for version in (sliced, sparse, padded)]


def permuted(measure):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[ORDER], measure)


def padded_silos(parts):
    """Stack silos with more padding than there must be."""
    return stack_padded([concatenate([part, empty(4)]) for part in parts])


def sized(num_kept, num_candidates=POOL):
    """Make the sizes of a selection from at most `POOL` candidates: all of one structure."""
    return sizes(num_kept, num_kept / num_candidates, temperature=0.7, max_kept=POOL, max_candidates=POOL)


def assert_close(actual, expected):
    chex.assert_trees_all_close(actual, expected, rtol=1e-8, atol=1e-8)


def assert_shape(actual, shape):
    chex.assert_shape(actual, shape)
    chex.assert_type(actual, jnp.float64)


def check_maps(function, *cases):
    """Require vmap = loop, and one trace for all values; a case is a tuple of arguments. Return what is compiled."""
    chex.clear_trace_counter()
    compiled = jax.jit(chex.assert_max_traces(function, n=1))
    looped = [compiled(*case) for case in cases]
    mapped = jax.jit(lambda cases: jax.vmap(function)(*stack(cases)))(cases)
    assert_close(mapped, stack(jax.device_get(looped)))
    chex.assert_tree_all_finite(mapped)
    return compiled


def check_transforms(function, *cases):
    """Require jit = eager, vmap = loop, and one trace for all values."""
    compiled = check_maps(function, *cases)
    assert_close(function(*cases[0]), compiled(*cases[0]))


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

    def fit_and_sample(key, start, data):
        params = generator.fit(key, generator.init(key, start), data)
        return params, generator.sample(key, params, 5)

    compiled = check_maps(fit_and_sample, *[(key(i), measure(i), measure(i)) for i in KEYS])
    sliced, *others = versions_of_one_measure()
    params, samples = fit_and_sample(key(), measure(), sliced)
    assert_shape(samples, (5, DIM))
    first = jax.eval_shape(generator.init, key(), measure())
    chex.assert_trees_all_equal_shapes_and_dtypes(params, first)
    # The same model: also where parameters count or order components.
    for other in others:
        assert_close(compiled(key(), measure(), other)[1], samples)
    if generator.takes_moments:
        assert isinstance(params, Moments)
        assert_close(fit_and_sample(key(), measure(), moments(sliced))[1], samples)
    sample = jax.jit(lambda key: generator.sample(key, params, 5))
    assert_close(sample(key()), samples)
    assert (np.asarray(sample(key(1))) != samples).any()


def check_selector(make, *, deterministic, exact=True):
    """Check a `Select`, which `make` makes from a seed: of one structure, and it knows other arrays.

    Where it is not exact, it keeps the whole pool whatever the sizes.
    """

    def keep(run, data, num_kept, num_candidates=10):
        weights, trouble = run(select, key(), data, sized(num_kept, num_candidates))
        assert not any(map(int, trouble.values())), trouble
        return np.asarray(weights)

    made = [as_pytree(make(i)) for i in KEYS]
    select, pool = made[0], measure(weights=KEPT)
    compiled = check_maps(counted_by, *[(made[i], key(i), measure(i), sized(NUM_KEPT + i)) for i in KEYS])
    for num_kept in (1, NUM_KEPT, 10) if exact else (10,):
        weights = keep(compiled, pool, num_kept)
        assert_shape(weights, (POOL,))
        assert set(np.unique(weights)) <= {0, 1}
        assert weights.sum() == num_kept
        assert not weights[~KEPT].any()
    assert_array_equal(keep(compiled, measure(), POOL, POOL), np.ones(POOL))
    if deterministic:
        sliced, sparse, padded = versions_of_one_measure()
        expected = keep(counted_by, sliced, NUM_KEPT)
        scattered, filled, moved = (keep(compiled, data, NUM_KEPT) for data in (sparse, padded, permuted(sparse)))
        assert_array_equal(scattered[KEPT], expected)
        assert_array_equal(filled[:10], expected)
        assert_array_equal(moved, scattered[ORDER])
    else:
        assert_array_equal(keep(counted_by, pool, NUM_KEPT), keep(compiled, pool, NUM_KEPT))
    check_constants(counted_by, select, key(), pool, sized(NUM_KEPT))


def check_spoiled(select, *, ranks=True):
    """Check that the exact number is kept where two candidates are not numbers: these last, and counted.

    Where a selector does not rank by what candidates are, any may be kept.
    """
    spoiled = np.flatnonzero(KEPT)[[1, 4]]
    pool = measure(weights=KEPT)
    x = np.array(pool.points)
    x[spoiled] = np.nan
    compiled = jax.jit(counted_by)
    for num_kept in (1, NUM_KEPT, 8, 9, 10):
        weights, trouble = compiled(as_pytree(select), key(), pool._replace(points=x), sized(num_kept, 10))
        weights = np.asarray(weights)
        assert weights.sum() == num_kept
        assert set(np.unique(weights)) <= {0, 1}
        assert not weights[~KEPT].any()
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

    made = [as_pytree(make(i)) for i in KEYS]
    compiled = check_maps(run, *[(made[i], key(i), measure(i)) for i in KEYS])
    sliced, *others = versions_of_one_measure()
    expected = run(made[0], key(), sliced)
    assert_shape(expected, (10,))
    scattered, filled, moved = (np.asarray(compiled(made[0], key(), data)) for data in (*others, permuted(others[0])))
    assert_close(scattered[KEPT], expected)
    assert_close(filled[:10], expected)
    assert_close(moved[KEPT[ORDER]], scattered[ORDER][KEPT[ORDER]])
    check_constants(run, made[0], key(), measure())


def check_workflow(workflow):
    """Check a `Workflow`, with its memory, over three generations."""
    bounds = sizes(NUM_KEPT, 0.5, len(KEYS), num_fresh=NUM_KEPT)
    fresh = uniform_measure(points(9, NUM_KEPT))

    def kept(seed):
        return measure(seed, np.random.default_rng(seed).permutation(POOL) < NUM_KEPT)

    def trainings(key, keeps):
        state, found = workflow.init(keeps[0], bounds), []
        for t, new in enumerate(keeps):
            before = state
            state, training = workflow.update(jax.random.fold_in(key, t), state, new, fresh, bounds)
            chex.assert_trees_all_equal_shapes_and_dtypes(state, before)
            found.append(counted(training)._replace(value=as_moments(counted(training).value)))
        return found

    init = jax.jit(lambda kept: workflow.init(kept, bounds))
    poisoned = jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan), kept(0))
    assert_close(init(poisoned), init(kept(0)))
    compiled = check_maps(trainings, *[(key(i), [kept(i + j) for j in KEYS]) for i in KEYS])
    sparse = [kept(i) for i in KEYS]
    sliced = [
        Measure(*(jnp.asarray(np.asarray(leaf)[np.asarray(part.weights) > 0]) for leaf in part)) for part in sparse
    ]
    expected = trainings(key(), sliced)
    for training, trouble in expected:
        assert_shape(training.mean, (DIM,))
        assert_shape(training.covariance, (DIM, DIM))
        assert not any(trouble.values())
    assert_close(compiled(key(), sparse), expected)


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

    def by_rounds(exchange, key, pool, silos):
        servers = rounds(exchange, key, pool, silos)
        chex.assert_tree_shape_prefix(servers, (exchange.num_rounds,))
        return exchange.result(row(servers, -1))

    made, parts = [make(i) for i in KEYS], silos()
    compiled = check_maps(run, *[(made[i], key(i), measure(i), stack_padded(silos(i))) for i in KEYS])
    result = compiled(made[0], key(), measure(), stack_padded(parts))
    for leaf in jax.tree.leaves(result):
        chex.assert_type(leaf, jnp.float64)
    found, messages = by_hand(made[0], key(), measure(), parts)
    missing = expand(empty(max(SILO_SIZES) + 4))
    more = jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)), padded_silos(parts), missing)
    for other in found, jax.jit(by_rounds)(made[0], key(), measure(), more):
        chex.assert_trees_all_equal_shapes(other, result)
        assert_close(other, result)
    exchanged = num_bytes(messages)
    assert {message_bytes(made[0], measure(), silo) for silo in parts} == {exchanged}
    check_constants(run, made[0], key(), measure(), stack_padded(parts))


def check_metric(metric):
    """Check a `Metric` on data and on moments."""
    _check_on_points(metric)
    assert_shape(jax.eval_shape(metric, key(), moments(measure()), moments(measure(5))), ())
    check_transforms(metric, *[(key(i), moments(measure(i)), moments(measure(i + 5))) for i in KEYS])


def check_point_metric(metric):
    """Check a `Metric` that refuses moments."""
    _check_on_points(metric)
    with pytest.raises(TypeError, match="generated = Moments"):
        metric(key(), moments(measure()), measure(5))


def _check_on_points(metric):
    compiled = check_maps(metric, *[(key(i), measure(i), measure(i + 5)) for i in KEYS])
    sliced, *others = zip(versions_of_one_measure(), versions_of_one_measure(5), strict=True)
    expected = metric(key(), *sliced)
    assert_shape(expected, ())
    assert_close([compiled(key(), *pair) for pair in others], [expected] * 2)


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
    few, padded, pool = stack_padded(silos()), padded_silos(silos()), measure(weights=KEPT)
    made = [make(few), make(stack_padded(silos(1)), 1)]
    for num_kept in (1, NUM_KEPT, 10) if exact else (10,):
        for select in made:
            weights, trouble = compiled(select, key(), pool, sized(num_kept, 10))
            assert_shape(weights, (POOL,))
            weights = np.asarray(weights)
            assert set(np.unique(weights)) <= {0, 1}
            assert weights.sum() == num_kept
            assert not weights[~KEPT].any()
            assert not any(map(int, trouble.values())), trouble
    check_constants(counted_by, made[0], key(), pool, sized(NUM_KEPT))

    chosen = np.asarray(compiled(made[0], key(), pool, sized(NUM_KEPT)).value)
    assert_array_equal(counted(jax.jit(choose)(few if draws_silos else padded, pool)).value, chosen)
    if deterministic:
        assert_array_equal(compiled(made[0], key(), permuted(pool), sized(NUM_KEPT)).value, chosen[ORDER])
    twice = stack_padded(silos() * 2)
    costs = np.array([bytes_exchanged(name, stacked, POOL, **settings) for stacked in (few, twice)])
    assert (costs >= 0).all()
    assert_array_equal(costs[1], (1 + VERIFIERS[name].everyone) * costs[0])
    assert bytes_exchanged(name, few, 2 * POOL, **settings)[0] == costs[0, 0]


def bytes_exchanged(name, silos, num_candidates, **settings):
    """Count bytes from shapes alone: no value of the silos is known."""
    counts = []
    jax.eval_shape(lambda silos: counts.extend(verifier_bytes(name, silos, num_candidates, **settings)), silos)
    return counts
