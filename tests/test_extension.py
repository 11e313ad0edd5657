"""A new member is one module and one registry line: here are six, written against `jaxcollapse.base` alone."""

from typing import NamedTuple

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_conformance import silos

from jaxcollapse.base import Generator, Measure, Moments, Workflow
from jaxcollapse.batches import sampled
from jaxcollapse.generators import GENERATORS
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import METRICS
from jaxcollapse.references import REFERENCES
from jaxcollapse.selectors import SELECTORS, mahalanobis
from jaxcollapse.trajectory import build_collapse, run
from jaxcollapse.validation import make_controls
from jaxcollapse.workflows import WORKFLOWS


class Box(NamedTuple):
    centre: jax.Array
    width: jax.Array


def uniform_box() -> Generator:
    """Fit a box by its moments."""

    def fit(key, params, data):
        share = data.weights / data.weights.sum()
        centre = share @ data.points
        return Box(centre, jnp.sqrt(12 * share @ (data.points - centre) ** 2))

    def sample(key, params, num_samples):
        unit = jax.random.uniform(key, (num_samples, params.centre.shape[-1]), params.centre.dtype)
        return params.centre + (unit - 0.5) * params.width

    return Generator(lambda key, data: fit(key, None, data), fit, sample)


def first_come(score_fn, max_kept):
    """Keep the first candidates."""

    def select(key, pool, references, controls):
        return pool.weights * (jnp.cumsum(pool.weights) <= controls.num_kept)

    return select


def lazy(memory) -> Workflow:
    """Train on the batch, its masses doubled."""

    def update(key, state, batch, fresh, controls):
        return state, Measure(batch.points, 2 * batch.weights)

    return Workflow(lambda batch: (), update)


def largest_silo():
    """Show the silo with the greatest mass."""

    def reference(key, silos, pool, controls):
        index = jnp.argmax(silos.weights.sum(-1))
        return jax.tree.map(lambda leaf: leaf[index][None], silos)

    return reference


def mean_gap(key, generated, truth):
    """Compare means, in the largest coordinate."""
    means = [data.mean if isinstance(data, Moments) else data.weights @ data.points / data.weights.sum()
             for data in (generated, truth)]  # fmt: skip
    return jnp.abs(means[0] - means[1]).max()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Add each member by its one line."""
    monkeypatch.setitem(GENERATORS, "uniform_box", uniform_box)
    monkeypatch.setitem(SELECTORS, "first_come", first_come)
    monkeypatch.setitem(WORKFLOWS, "lazy", lazy)
    monkeypatch.setitem(REFERENCES, "largest_silo", largest_silo)
    monkeypatch.setitem(METRICS, "mean_gap", mean_gap)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["generator", "selector", "workflow", "reference", "metric"])
def test_a_new_member_keeps_the_laws(kind):
    if kind == "generator":
        conformance.check_generator(GENERATORS["uniform_box"]())
    elif kind == "selector":
        select = SELECTORS["first_come"](mahalanobis(), conformance.POOL)
        with pytest.raises(AssertionError):  # it depends on the order of the pool
            conformance.check_selector(select, silos()[0], deterministic=True)
        conformance.check_selector(select, silos()[0], deterministic=False)
    elif kind == "workflow":
        conformance.check_workflow(WORKFLOWS["lazy"](moments_memory()), max_batch=conformance.NUM_KEPT)
    elif kind == "reference":
        conformance.check_reference(REFERENCES["largest_silo"](), *silos())
    else:
        conformance.check_metric(METRICS["mean_gap"])


def test_new_members_run_together():
    model, (holders, _) = GENERATORS["uniform_box"](), silos()
    truth = model.init(jax.random.key(0), Measure(holders.points[2], holders.weights[2]))
    select = SELECTORS["first_come"](mahalanobis(), 8)
    batch_fn = sampled(model, select, REFERENCES["largest_silo"](), holders, 16)
    collapse = build_collapse(model, batch_fn, WORKFLOWS["lazy"](moments_memory()))

    def record(key, state, info):
        kept = METRICS["mean_gap"](key, info.batch, Measure(holders.points[2], holders.weights[2]))
        return {"mean_gap": kept, "mass": info.training.weights.sum(), "width": state.params.width}

    _, history = jax.jit(lambda key: run(key, collapse, truth, make_controls(8, 0.5), 5, record))(jax.random.key(1))
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
    def greedy(key, pool, references, controls):
        return (jnp.arange(pool.weights.shape[0]) < controls.num_kept).astype(pool.weights.dtype)

    with pytest.raises(AssertionError):
        conformance.check_selector(greedy, silos()[0], deterministic=False)


@pytest.mark.usefixtures("x64")
def test_a_member_that_recompiles_for_a_new_value_is_caught():
    def restless(key, pool, references, controls):
        return pool.weights * (np.arange(conformance.POOL) < int(controls.num_kept))

    with pytest.raises((AssertionError, jax.errors.ConcretizationTypeError)):
        conformance.check_selector(restless, silos()[0], deterministic=False)
