"""Every member of every registry keeps the laws."""

import functools

import conformance
import jax
import jax.numpy as jnp
import pytest
from conformance import POOL, measure, points

from jaxcollapse.base import Generator, Measure
from jaxcollapse.exchanges import EXCHANGES, federated_sinkhorn
from jaxcollapse.features import quadratic_features
from jaxcollapse.generators import GENERATORS, contaminate, expand, gaussian
from jaxcollapse.generators.diffusion import residual
from jaxcollapse.measures import as_moments, stack_padded, union
from jaxcollapse.memories import MEMORIES
from jaxcollapse.metrics import METRICS, POINT_METRICS
from jaxcollapse.scores import SCORES, mahalanobis
from jaxcollapse.selectors import SELECTORS, feature_goal, kernel_goal
from jaxcollapse.targets import fit_target
from jaxcollapse.tree import stack
from jaxcollapse.verifiers import VERIFIERS
from jaxcollapse.workflows import WORKFLOWS

pytestmark = pytest.mark.usefixtures("x64")

DRAWS_AT_RANDOM = {"random", "best_of", "recoloured", "soft", "k_means", "balanced", "capped"}
DRAWS_WITHOUT_TEMPERATURE = {
    "random",
    "recoloured",
    "balanced",
    "kernel_balanced",
    "landmark_balanced",
    "private_balanced",
    "capped",
    "k_means",
}
VERIFIERS_AT_RANDOM = {
    "random",
    "recoloured",
    "moment_ratio",
    "logistic_ratio",
    "tilt",
    "private_tilt",
    "balanced",
    "kernel_balanced",
    "landmark_balanced",
    "private_balanced",
    "capped",
    "k_means",
}
SETTINGS = {"epsilon": 0.5, "num_support": 6, "num_rounds": 2, "num_gradients": 5}


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


@functools.cache
def silos(seed):
    return stack_padded(conformance.silos(seed))


@functools.cache
def shared(seed):
    return union(as_moments(silos(seed)))


@functools.cache
def features(seed):
    return quadratic_features(fit_target(shared(seed)), 1e6)  # a bound that is finite, and never reached


@functools.cache
def goal(seed):
    return features(seed)(points(seed, 40)).mean(axis=0)


score_against = jax.jit(jax.vmap(lambda reference: mahalanobis(reference, 0.1)))


@functools.cache
def scores(seed):
    """Score against each of two references."""
    return score_against(stack(jax.device_get([measure(seed + 3), measure(seed + 4)])))


def score(seed):
    return SCORES["mean"](scores(seed))


def moments_of(seed):
    return as_moments(measure(seed))


MADE = {
    "generator": {
        "kernel_density": lambda make: make(POOL),
        "categorical": lambda make: each_column(make(8)),
        "gaussian_mixture": lambda make: make(3),
        "diffusion": lambda make: make(residual(8, 1), 3, 4, 3),
        "expand": lambda make: make(contaminate(gaussian(), 0.3, moments_of(7)), 0.8),
        "contaminate": lambda make: make(expand(gaussian(), 0.8), 0.3, moments_of(7)),
        "jitter": lambda make: make(gaussian(), 0.8),
        "blend": lambda make: make(gaussian(), 0.3),
    },
    "score": {
        "mahalanobis": lambda make, seed: make(measure(seed + 3), 0.1),
        "calibrated_gradient": lambda make, seed: make(measure(seed + 3), 5.0, 0.5),
        "exchanged_gradient": lambda make, seed: make(federated_sinkhorn(5.0, num_rounds=2), silos(seed)),
        "moment_ratio": lambda make, seed: make(as_moments(silos(seed)), 0.1),
        "logistic_ratio": lambda make, seed: make(silos(seed), shared(seed), num_rounds=5),
        "tilted_ratio": lambda make, seed: make(features(seed), goal(seed)),
        "mean": lambda make, seed: make(scores(seed)),
        "kernel_ratio": lambda make, seed: make(silos(seed), 2.0),
        "standardised": lambda make, seed: make(score(seed)),
    },
    "selector": {
        "keep_all": lambda make, seed: make(),
        "random": lambda make, seed: make(),
        "k_means": lambda make, seed: make(),
        "submodular": lambda make, seed: make(scores(seed)),
        "submodular_greedy": lambda make, seed: make(scores(seed)),
        "balanced": lambda make, seed: make(
            (feature_goal(features(seed), goal(seed)), kernel_goal(silos(seed), 2.0, num_landmarks=5)), score(seed)
        ),
        "capped": lambda make, seed: make(silos(seed), 5.0),
        "center_matching": lambda make, seed: make(shared(seed)),
        "covariance_matching": lambda make, seed: make(shared(seed)),
        "recoloured": lambda make, seed: make(shared(seed)),
    },
    "exchange": {
        "moments": lambda make, seed: make(),
        "feature_means": lambda make, seed: make(features(seed), 0.1),
        "geodesic": lambda make, seed: make(5.0, 0.4, 0.9, num_support=6, num_rounds=2),
        "barycenter": lambda make, seed: make(shared(seed), 5.0, 0.9, num_support=6, num_rounds=2),
        "federated_sinkhorn": lambda make, seed: make(5.0, num_rounds=3),
        "logistic": lambda make, seed: make(features(seed), num_rounds=5),
        "capped_transport": lambda make, seed: make(0.5, 3.0, num_rounds=3),
        "kernel_densities": lambda make, seed: make(5.0),
    },
}


@pytest.mark.parametrize("name", GENERATORS)
def test_generators(name):
    make = MADE["generator"].get(name, lambda make: make())
    conformance.check_generator(make(GENERATORS[name]), ignores_nan=name == "categorical")


@pytest.mark.parametrize("name", SCORES)
def test_scores(name):
    conformance.check_score(lambda seed: MADE["score"][name](SCORES[name], seed))


def make_selector(name, seed=0):
    return MADE["selector"].get(name, lambda make, seed: make(score(seed)))(SELECTORS[name], seed)


@pytest.mark.parametrize("name", SELECTORS)
def test_selectors(name):
    conformance.check_selector(
        lambda seed: make_selector(name, seed), deterministic=name not in DRAWS_AT_RANDOM, exact=name != "keep_all"
    )


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows(name, memory):
    if (name, memory) == ("accumulate_subsample", "moments"):
        with pytest.raises(ValueError, match="points"):
            WORKFLOWS[name](MEMORIES[memory]())
    else:
        workflow = WORKFLOWS[name](MEMORIES[memory]())
        subsamples, with_fresh = name == "accumulate_subsample", name == "fresh_mix"
        conformance.check_workflow(workflow, subsamples=subsamples, with_fresh=with_fresh)


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchanges(name):
    bounded = name in ("feature_means", "logistic")
    conformance.check_exchange(lambda seed: MADE["exchange"][name](EXCHANGES[name], seed), bounded=bounded)


@pytest.mark.parametrize("name", METRICS)
def test_metrics(name):
    conformance.check_metric(METRICS[name])


@pytest.mark.parametrize("name", POINT_METRICS)
def test_point_metrics(name):
    conformance.check_point_metric(POINT_METRICS[name])


@pytest.mark.parametrize("name", VERIFIERS)
def test_verifiers(name):
    conformance.check_verifier(
        name,
        deterministic=name not in VERIFIERS_AT_RANDOM,
        exact=name != "keep_all",
        draws_silos=name == "unbiased_silo",
        draws_without_temperature=name in DRAWS_WITHOUT_TEMPERATURE,
        **SETTINGS,
    )
