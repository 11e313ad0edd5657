"""Laws that every member of a registry keeps, whoever wrote it.

Each checker takes the member made, or a function that makes it from a seed, and raises where it breaks its contract in
`jaxcollapse.base`. Run them in double precision.
"""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from numpy.testing import assert_array_equal

from jaxcollapse.base import Counted, Measure, Moments, counted
from jaxcollapse.exchanges import carry_out, message_bytes, rounds
from jaxcollapse.measures import as_moments, concatenate, stack_padded, uniform_measure
from jaxcollapse.selectors.budget import scored
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


def spoiled(measure, bad, value=np.nan):
    """Write a value over some points, whatever their mass."""
    return measure._replace(points=jnp.asarray(np.where(bad[:, None], value, measure.points)))


def masked(measure, there):
    """Leave mass to some points only."""
    return measure._replace(weights=jnp.asarray(np.where(there, measure.weights, 0)))


def is_finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


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


def counts(trouble):
    """Pick the counts: magnitudes are floating."""
    return {name: int(each) for name, each in trouble.items() if np.issubdtype(each.dtype, np.integer)}


def assert_no_trouble(trouble):
    assert not any(counts(trouble).values()), trouble


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
    return compiled


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


def check_generator(generator, *, ignores_nan=False):
    """Check a `Generator`. What it makes of data with NaN is NaN, unless it ignores such points."""

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
    if generator.law is not None:
        check_law(jax.device_get(generator.law(params)), generator.sample(key(2), params, 4096))
    sample = jax.jit(lambda key: generator.sample(key, params, 5))
    assert_close(sample(key()), samples)
    assert (np.asarray(sample(key(1))) != samples).any()

    pool, index = measure(weights=KEPT), np.arange(POOL)
    first, place = np.asarray(pool.points[:1]), np.flatnonzero(KEPT)
    two = pool._replace(points=jnp.asarray(np.where(index[:, None] % 2, first, -first)))
    degenerate = masked(pool, index == place[3]), spoiled(pool, KEPT, 2.0), two, masked(pool, index < 0)
    for data in degenerate:
        assert is_finite(compiled(key(), data, data))
        assert is_finite(compiled(key(), measure(), data)[1])
    assert_close(compiled(key(), spoiled(pool, ~KEPT), spoiled(pool, ~KEPT)), compiled(key(), pool, pool))
    assert is_finite(compiled(key(), measure(), spoiled(pool, index == place[3]))[1]) == ignores_nan


def check_law(law, samples):
    """Require that samples have the mean and the covariance of a mixture, to five standard errors."""
    mass, means, covariances = law
    assert_close(mass.sum(), 1.0)
    mean = mass @ means
    second = np.einsum("k,kij->ij", mass, covariances + np.einsum("ki,kj->kij", means - mean, means - mean))
    centred = np.asarray(samples) - mean
    for expected, found in ((0, centred), (second, np.einsum("ni,nj->nij", centred, centred))):
        error = found.std(axis=0, ddof=1) / len(found) ** 0.5
        assert (abs(found.mean(axis=0) - expected) < 5 * error).all()


def check_selector(make, *, deterministic, exact=True):
    """Check a `Select`, which `make` makes from a seed: of one structure, and it knows other arrays.

    Where it is not exact, it keeps the whole pool whatever the sizes.
    """

    def keep(run, data, num_kept, num_candidates=10):
        weights, trouble = run(select, key(), data, sized(num_kept, num_candidates))
        assert_no_trouble(trouble)
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
    _check_odd_pools(compiled, select, exact=exact)


def _check_odd_pools(compiled, select, *, exact):
    """Check what is kept where candidates are not finite: the same as if these were not there, then they, counted.

    And that the exact number is kept where all candidates are equal, or as many as are kept.
    """

    def keep(pool, num_kept):
        weights, trouble = compiled(select, key(), pool, sized(num_kept, 10))
        weights = np.asarray(weights)
        assert set(np.unique(weights)) <= {0, 1}
        assert weights.sum() == (num_kept if exact else np.sum(pool.weights > 0))
        assert not weights[np.asarray(pool.weights) == 0].any()
        return weights, sum(counts(trouble).values())

    pool, place = measure(weights=KEPT), np.flatnonzero(KEPT)
    for bad_places, value in ((place[[1]], np.nan), (place[[1, 4]], np.inf), (place[[0, 9]], -np.inf), (place, np.nan)):
        bad = np.isin(np.arange(POOL), bad_places)
        num_finite = 10 - len(bad_places)
        for num_kept in {1, min(NUM_KEPT, num_finite), num_finite, 9, 10} - {0}:
            weights, count = keep(spoiled(pool, bad, value), num_kept)
            # Without any other candidate there is more to count: no transport converges.
            more = num_finite == 0 and count > len(bad_places)
            assert more or count == len(bad_places), f"{count} counted of {len(bad_places)}"
            if exact:
                assert weights[bad].sum() == max(num_kept - num_finite, 0)
            if exact and num_kept <= num_finite:
                assert_array_equal(weights, keep(masked(pool, ~bad), num_kept)[0])
    for num_kept in (1, NUM_KEPT, 10):
        assert keep(spoiled(pool, KEPT, 2.0), num_kept)[1] == 0


def counted_by(function, *args):
    """Call a score or a selector that is an argument itself; of a selector that moves points, tell the masses."""
    found, trouble = counted(function(*args))
    return Counted(found.weights if isinstance(found, Measure) else found, trouble)


def check_score(make):
    """Check a `Score`, which `make` makes from a seed: of one structure, and it knows other arrays."""

    def run(score, key, pool):
        return scored(score, key, pool).value

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

    pool, bad = measure(weights=KEPT), np.arange(POOL) == np.flatnonzero(KEPT)[4]
    there = KEPT & ~bad
    expected = np.asarray(compiled(made[0], key(), masked(pool, there)))
    for value in (np.nan, np.inf):
        found = compiled(made[0], key(), spoiled(pool, bad, value))
        assert_close(np.asarray(found)[there], expected[there])
    assert is_finite(np.asarray(compiled(made[0], key(), spoiled(pool, KEPT, 2.0)))[KEPT])


def check_workflow(workflow, *, subsamples=False, with_fresh=False):
    """Check a `Workflow`, with its memory, over three generations.

    Which points one subsamples depends on their order.
    """
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
        assert_no_trouble(trouble)
    assert_close(compiled(key(), sparse), expected)
    padded_with_nan = [spoiled(part, np.asarray(part.weights) == 0) for part in sparse]
    assert_close(compiled(key(), padded_with_nan), expected)
    if not subsamples:
        assert_close(compiled(key(), [permuted(part) for part in sparse]), expected)
    for num_given, num_lost in ((2, [0]), (POOL, [0, POOL - NUM_KEPT])):
        given = [measure(i, np.arange(POOL) < num_given) for i in KEYS]
        training, trouble = compiled(key(), given)[0]
        lost = sum(counts(trouble).values())
        assert lost in num_lost
        if not (lost or with_fresh):
            assert_close(training[1:], moments(given[0])[1:])


@functools.partial(jax.jit, static_argnums=0)
def do(part, exchange, *args):
    """Let one party do its part."""
    return getattr(exchange, part)(*args)


def by_hand(exchange, key, pool, parts):
    """Run an exchange as a deployment does, one silo at a time and each with nothing but its own data.

    Returns:
        The result, and the list of everything that was exchanged with the last silo.
    """
    server = do("server_init", exchange, key, pool)
    opening = do("opening", exchange, server)
    keys = jax.random.split(jax.random.fold_in(key, 2**32 - 1), len(parts))
    states = [do("silo_init", exchange, k, silo, opening) for k, silo in zip(keys, parts, strict=True)]
    messages = [opening]
    for _ in range(exchange.num_rounds):
        request, replies = do("request", exchange, server), []
        for k, silo in enumerate(parts):
            states[k], reply = do("reply", exchange, states[k], silo, request)
            replies.append(reply)
        server = do("update", exchange, server, stack(jax.device_get(replies)))
        messages += [request, reply]
        assert not do("finished", exchange, server)
    return do("result", exchange, server), messages


def check_exchange(make, *, bounded=False):
    """Check an `Exchange`, which `make` makes from a seed: of one structure, and it knows other arrays.

    What it finds from a silo with NaN is NaN, unless it bounds what a point can do.
    """

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

    together, (name_of_silo, index) = stack_padded(parts), np.indices((3, max(SILO_SIZES)))
    second = name_of_silo == 1
    for there in index < 1, (index < 1) | ~second, (index < 2) | ~second:
        assert is_finite(compiled(made[0], key(), measure(), masked(together, there)))
    equal = together._replace(points=jnp.asarray(np.where(second[..., None], 2.0, together.points)))
    assert is_finite(compiled(made[0], key(), measure(), equal))
    with_nan = together._replace(points=jnp.asarray(np.where(second[..., None], np.nan, together.points)))
    found = compiled(made[0], key(), measure(), masked(with_nan, ~second))
    assert is_finite(found)
    assert_close(found, compiled(made[0], key(), measure(), masked(together, ~second)))
    found = compiled(made[0], key(), measure(), with_nan)
    assert is_finite(found) == bounded


def check_metric(metric):
    """Check a `Metric` on data and on moments."""
    _check_on_points(metric)
    assert_shape(jax.eval_shape(metric, key(), moments(measure()), moments(measure(5))), ())
    compiled = check_transforms(metric, *[(key(i), moments(measure(i)), moments(measure(i + 5))) for i in KEYS])
    generated, truth = jax.device_get([moments(measure()), moments(measure(5))])
    no_number = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), generated)
    for bad in no_number, no_number._replace(mass=generated.mass), generated._replace(mass=np.zeros(())):
        assert np.isnan(compiled(key(), bad, truth))


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

    generated, truth = measure(weights=KEPT), measure(5, KEPT)
    assert_close(compiled(key(), spoiled(generated, ~KEPT), spoiled(truth, ~KEPT, np.inf)), expected)
    looks_at_truth = compiled(key(), generated, measure(6, KEPT)) != compiled(key(), generated, truth)
    bad = np.arange(POOL) == np.flatnonzero(KEPT)[4]
    for spoil in (
        lambda data: spoiled(data, bad),
        lambda data: spoiled(data, bad, np.inf),
        lambda data: masked(data, np.zeros(POOL, bool)),
    ):
        assert np.isnan(compiled(key(), spoil(generated), truth))
        assert np.isnan(compiled(key(), generated, spoil(truth))) == looks_at_truth


def check_verifier(name, *, deterministic, exact=True, draws_silos=False, draws_without_temperature=False, **settings):
    """Check a `Verifier`: the selector that it makes, from what silos, and what it says that this costs.

    What it is made of keeps the laws of scores, selectors and exchanges. Padding changes no choice, unless some of the
    silos' points are drawn for it. Silos of few points are refused, or taken for what they are: what is kept does not
    depend on the order of candidates, but for what is drawn.
    """

    def make(silos, seed=0):
        return as_pytree(verifier(name, silos, key(seed), **settings))

    def choose(silos, pool):
        return counted_by(make(silos), key(), pool, sized(NUM_KEPT))

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
            assert_no_trouble(trouble)
    check_constants(counted_by, made[0], key(), pool, sized(NUM_KEPT))

    chosen = np.asarray(compiled(made[0], key(), pool, sized(NUM_KEPT)).value)
    assert_array_equal(jax.jit(choose)(few if draws_silos else padded, pool).value, chosen)
    if deterministic:
        assert_array_equal(compiled(made[0], key(), permuted(pool), sized(NUM_KEPT)).value, chosen[ORDER])
    _check_odd_pools(compiled, made[0], exact=exact)

    cold = dataclasses.replace(sized(NUM_KEPT, 10), temperature=jnp.float32(0))
    index = np.arange(max(SILO_SIZES))
    equal = few._replace(points=few.points.at[1].set(few.points[1, 0]))
    for degenerate in masked(few, index < 1), equal:
        try:
            select = make(degenerate)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        weights, trouble = compiled(select, key(), pool, cold)
        assert_no_trouble(trouble)
        moved = compiled(select, key(), permuted(pool), cold).value
        if draws_without_temperature:
            assert (moved != weights).any() or not exact
        else:
            assert_array_equal(moved, np.asarray(weights)[ORDER])

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
