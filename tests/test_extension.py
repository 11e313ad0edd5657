"""A new member is one module and one registry line: here is one of each kind, written against the contracts alone."""

from typing import NamedTuple

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcollapse.base import Counted, Exchange, Generator, Measure, Workflow
from jaxcollapse.exchanges import EXCHANGES, carry_out, message_bytes
from jaxcollapse.generators import GENERATORS
from jaxcollapse.measures import as_moments, stack_padded
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import METRICS
from jaxcollapse.recursion import build_collapse, run, sample_and_select
from jaxcollapse.scores import SCORES
from jaxcollapse.selectors import SELECTORS
from jaxcollapse.selectors.budget import keep_highest
from jaxcollapse.sizes import sizes
from jaxcollapse.tree import as_pytree, closure, row, static
from jaxcollapse.verifiers import VERIFIERS, Verifier, verifier
from jaxcollapse.workflows import WORKFLOWS


class Box(NamedTuple):
    centre: jax.Array
    width: jax.Array


def uniform_box() -> Generator:
    """Fit a box by its moments."""

    def fit(key, params, data):
        _, centre, covariance = as_moments(data)
        return Box(centre, jnp.sqrt(12 * jnp.diagonal(covariance)))

    def sample(key, params, num_samples):
        unit = jax.random.uniform(key, (num_samples, params.centre.shape[-1]), params.centre.dtype)
        return params.centre + (unit - 0.5) * params.width

    return Generator(lambda key, data: fit(key, None, data), fit, sample)


@closure
class along:
    """Score the distance that a candidate has gone in a direction."""

    direction: jax.Array

    def __call__(self, key, pool):
        return pool.points @ self.direction


@closure
class by_rank:
    """Keep the candidates with the highest score; what is no number comes last, and is counted."""

    score: along

    def __call__(self, key, pool, sizes):
        known = (pool.weights > 0) & jnp.isfinite(pool.points).all(axis=1)
        order = jnp.lexsort((-self.score(key, pool), ~known, pool.weights <= 0))
        weights = jnp.zeros_like(pool.weights).at[order].set(jnp.arange(order.size) < sizes.num_kept)
        return Counted(weights * pool.weights, {"no number": jnp.sum((pool.weights > 0) & ~known)})


def first_come(key, pool, sizes):
    """Keep the first candidates."""
    return keep_highest(-jnp.arange(pool.weights.size, dtype=pool.weights.dtype), pool, sizes)


def lazy(memory) -> Workflow:
    """Train on the kept data, their masses doubled."""

    def update(key, state, kept, fresh, sizes):
        return state, Measure(kept.points, 2 * kept.weights)

    return Workflow(lambda kept, sizes: (), update)


@closure
class nearest_mean(Exchange):
    """Find the mean of the silo that is nearest to a place; the server asks twice."""

    place: jax.Array
    num_rounds: int = static(default=2)

    def server_init(self, key, pool):
        return jnp.zeros_like(self.place)

    def request(self, server):
        return self.place

    def reply(self, state, silo, request):
        mass = silo.weights.sum()
        mean = silo.weights @ silo.points / jnp.where(mass > 0, mass, 1)
        return state, {"mass": mass, "mean": mean, "distance": jnp.sum((mean - request) ** 2)}

    def update(self, server, replies):
        return replies["mean"][jnp.argmin(jnp.where(replies["mass"] > 0, replies["distance"], jnp.inf))]


def mean_gap(key, generated, truth):
    """Compare means, in the largest coordinate."""
    one, other = as_moments(generated), as_moments(truth)
    return jnp.where((one.mass > 0) & (other.mass > 0), jnp.abs(one.mean - other.mean).max(), jnp.nan)


def towards_the_nearest(problem):
    """Keep what has gone farthest towards the silo that is nearest to the silos' mean."""
    nearest = carry_out(EXCHANGES["nearest_mean"](problem.moments.mean), problem.key, None, problem.silos)
    return SELECTORS["by_rank"](SCORES["along"](nearest))


def asked(problem, pool):
    """Count what a silo is asked, and what it answers."""
    return message_bytes(EXCHANGES["nearest_mean"](problem.moments.mean), pool, row(problem.silos, 0))


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Add each member by its one line."""
    monkeypatch.setitem(GENERATORS, "uniform_box", uniform_box)
    monkeypatch.setitem(SCORES, "along", along)
    monkeypatch.setitem(SELECTORS, "by_rank", by_rank)
    monkeypatch.setitem(SELECTORS, "first_come", lambda: first_come)
    monkeypatch.setitem(WORKFLOWS, "lazy", lazy)
    monkeypatch.setitem(EXCHANGES, "nearest_mean", nearest_mean)
    monkeypatch.setitem(METRICS, "mean_gap", mean_gap)
    monkeypatch.setitem(VERIFIERS, "towards_the_nearest", Verifier(towards_the_nearest, before=asked))


def place(seed):
    return conformance.points(seed + 20)[0]


CHECKS = {
    "generator": lambda: conformance.check_generator(GENERATORS["uniform_box"]()),
    "score": lambda: conformance.check_score(lambda seed: SCORES["along"](place(seed))),
    "selector, a closure": lambda: conformance.check_selector(
        lambda seed: SELECTORS["by_rank"](SCORES["along"](place(seed))), deterministic=True
    ),
    "selector, a function": lambda: conformance.check_selector(
        lambda seed: SELECTORS["first_come"](), deterministic=False
    ),
    "workflow": lambda: conformance.check_workflow(WORKFLOWS["lazy"](moments_memory())),
    "exchange": lambda: conformance.check_exchange(lambda seed: EXCHANGES["nearest_mean"](place(seed))),
    "metric": lambda: conformance.check_metric(METRICS["mean_gap"]),
    "verifier": lambda: conformance.check_verifier("towards_the_nearest", deterministic=True),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", CHECKS)
def test_a_new_member_keeps_the_laws(kind):
    CHECKS[kind]()


@pytest.mark.usefixtures("x64")
def test_a_selector_that_depends_on_the_order_of_the_pool_is_told_apart():
    with pytest.raises(AssertionError):
        conformance.check_selector(lambda seed: first_come, deterministic=True)


@pytest.mark.parametrize("name", ["by_rank", "first_come", "verifier"])
def test_new_members_run_together(name):
    model, holders = GENERATORS["uniform_box"](), stack_padded(conformance.silos())
    real = row(holders, 2)
    truth = model.init(jax.random.key(0), real)
    select = {
        "by_rank": lambda: SELECTORS["by_rank"](SCORES["along"](jnp.arange(3.0))),
        "first_come": SELECTORS["first_come"],
        "verifier": lambda: verifier("towards_the_nearest", holders),
    }[name]()
    workflow = WORKFLOWS["lazy"](moments_memory())

    def record(key, state, info):
        gap = METRICS["mean_gap"](key, info.kept, real)
        return {"mean_gap": gap, "mass": info.training.weights.sum(), "width": state.params.width}

    @jax.jit
    def trajectory(key, select):
        collapse = build_collapse(model, sample_and_select(model, select), workflow)
        return run(key, collapse, truth, sizes(8, 0.5, 5), record)[1]

    history = trajectory(jax.random.key(1), as_pytree(select))
    assert np.isfinite(history["mean_gap"][1:]).all()
    np.testing.assert_array_equal(history["mass"][1:], np.full(5, 16))
    assert (history["width"] > 0).all()


LAWLESS = {
    "padding counts": lambda key, generated, truth: generated.points.mean(),
    "not a scalar": lambda key, generated, truth: generated.weights @ generated.points,
    "single precision": lambda key, generated, truth: jnp.float32(1),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LAWLESS)
def test_a_lawless_member_is_caught(name):
    with pytest.raises(AssertionError):
        conformance.check_metric(LAWLESS[name])


@pytest.mark.usefixtures("x64")
def test_a_selector_that_keeps_padding_is_caught():
    def greedy(key, pool, sizes):
        return (jnp.arange(pool.weights.shape[0]) < sizes.num_kept).astype(pool.weights.dtype)

    with pytest.raises(AssertionError):
        conformance.check_selector(lambda seed: greedy, deterministic=False)


@pytest.mark.usefixtures("x64")
def test_a_selector_that_keeps_what_is_no_number_is_caught():
    def careless(key, pool, sizes):
        return pool.weights * (jnp.cumsum(pool.weights) <= sizes.num_kept)

    with pytest.raises(AssertionError, match="0 counted of 1"):
        conformance.check_selector(lambda seed: careless, deterministic=False)


@pytest.mark.usefixtures("x64")
def test_a_member_that_recompiles_for_a_new_value_is_caught():
    def restless(key, pool, sizes):
        return pool.weights * (np.arange(conformance.POOL) < int(sizes.num_kept))

    with pytest.raises((AssertionError, jax.errors.ConcretizationTypeError)):
        conformance.check_selector(lambda seed: restless, deterministic=False)

    @closure
    class fixed:
        """Score along a direction that is compiled in."""

        direction: tuple = static()

        def __call__(self, key, pool):
            return pool.points @ jnp.asarray(self.direction)

    with pytest.raises(AssertionError, match="traced > 1 times"):
        conformance.check_score(lambda seed: fixed(tuple(place(seed).tolist())))


@pytest.mark.usefixtures("x64")
def test_a_selector_that_holds_a_silo_is_caught():
    silo = conformance.silos(1)[0]

    def nearest(key, pool, sizes):
        distance = jnp.sum((pool.points[:, None] - silo.points) ** 2, axis=-1).min(axis=1)
        return SELECTORS["top"](lambda key, pool: -distance)(key, pool, sizes)

    with pytest.raises(AssertionError, match="42 numbers is written into the program"):
        conformance.check_selector(lambda seed: nearest, deterministic=True)


@pytest.mark.usefixtures("x64")
def test_an_exchange_that_counts_missing_silos_is_caught():
    @closure
    class unweighted(nearest_mean):
        """Average over all silos, the missing among them."""

        def update(self, server, replies):
            return replies["mean"].mean(axis=0)

    with pytest.raises(AssertionError):
        conformance.check_exchange(lambda seed: unweighted(place(seed)))
