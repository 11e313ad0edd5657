"""Every member of every registry keeps the laws."""

import conformance
import jax
import jax.numpy as jnp
import pytest

from jaxcollapse.base import Generator, Measure
from jaxcollapse.generators import GENERATORS
from jaxcollapse.generators.diffusion import residual
from jaxcollapse.measures import stack_padded
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.metrics import METRICS, POINT_METRICS
from jaxcollapse.references import REFERENCES
from jaxcollapse.references.barycenter import Exchange
from jaxcollapse.selectors import MATCHING, SELECTORS, mahalanobis
from jaxcollapse.workflows import WORKFLOWS

pytestmark = pytest.mark.usefixtures("x64")

DRAWS_AT_RANDOM = {"random", "soft", "k_means"}
NEEDS_POINTS = {"accumulate_subsample"}
BUFFER = buffer_memory(8 * conformance.POOL, conformance.POOL - 1)
WORKFLOW_CASES = [
    (name, memory)
    for name in WORKFLOWS
    for memory in ("moments", "buffer")
    if memory == "buffer" or name not in NEEDS_POINTS
]


def silos():
    """Three silos of unequal sizes, and the same with padding of their own."""
    measures = [Measure(conformance.points(i, size), jnp.ones(size)) for i, size in enumerate((8, 5, 11))]
    filler = Measure(jnp.full((4, conformance.DIM), 1e3), jnp.zeros(4))
    longer = [Measure(*(jnp.concatenate(pair) for pair in zip(m, filler, strict=True))) for m in measures]
    return stack_padded(measures), stack_padded(longer)


def each_column(generator):
    """Model every column by itself, with a generator of one dimension."""

    def columns(data):
        return Measure(data.points.T[..., None], jnp.broadcast_to(data.weights, data.points.T.shape))

    def sample(key, params, num_samples):
        draws = jax.vmap(lambda key, p: generator.sample(key, p, num_samples))
        return draws(jax.random.split(key, conformance.DIM), params)[..., 0].T

    return Generator(
        init=lambda key, data: jax.vmap(generator.init, (None, 0))(key, columns(data)),
        fit=lambda key, params, data: jax.vmap(generator.fit, (None, 0, 0))(key, params, columns(data)),
        sample=sample,
    )


@pytest.mark.parametrize("name", GENERATORS)
def test_generators(name):
    arguments = {
        "kernel_density": (conformance.POOL,),
        "categorical": (8,),
        "diffusion": (residual(8, 1), 3, 4, 3),
    }
    made = GENERATORS[name](*arguments.get(name, ()))
    conformance.check_generator(each_column(made) if name == "categorical" else made)


@pytest.mark.parametrize("name", [*SELECTORS, *MATCHING])
def test_selectors(name):
    references = Measure(conformance.points(3, 24).reshape(2, 12, -1), jnp.ones((2, 12)))
    if name in SELECTORS:
        select = SELECTORS[name](mahalanobis(ridge=0.1), conformance.POOL)
    else:
        select = MATCHING[name](conformance.POOL)
    conformance.check_selector(select, references, deterministic=name not in DRAWS_AT_RANDOM)


@pytest.mark.parametrize(("name", "memory"), WORKFLOW_CASES)
def test_workflows(name, memory):
    made = WORKFLOWS[name](moments_memory() if memory == "moments" else BUFFER)
    conformance.check_workflow(made, max_batch=conformance.NUM_KEPT)


@pytest.mark.parametrize("name", REFERENCES)
def test_references(name):
    exchange = Exchange(epsilon=5.0, step=1.0)
    arguments = {"geodesic": (exchange, 0.5, 6, 1), "barycenter": (exchange, 6, 1), "mixture": (5.0, 2)}
    conformance.check_reference(REFERENCES[name](*arguments.get(name, ())), *silos())


@pytest.mark.parametrize("name", METRICS)
def test_metrics(name):
    conformance.check_metric(METRICS[name])


@pytest.mark.parametrize("name", POINT_METRICS)
def test_point_metrics(name):
    conformance.check_point_metric(POINT_METRICS[name])
