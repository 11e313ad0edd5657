import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcollapse.base import Moments, Target
from jaxcollapse.gaussian.quadratic_form import Energy
from jaxcollapse.gaussian.top import top_of_gaussian
from jaxcollapse.gaussian.truncation import truncated_moments
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.recursion import build_collapse, run
from jaxcollapse.sizes import sizes
from jaxcollapse.targets import published_instance
from jaxcollapse.theory.finite_size import linear_noise, respond, unpack
from jaxcollapse.theory.mean_field import mean_field
from jaxcollapse.tree import cast
from jaxcollapse.workflows import WORKFLOWS

pytestmark = pytest.mark.usefixtures("x64")

SCALE, OFFSET = np.array([1.0, 0.7, 0.4]), np.array([1.0, -0.2, -0.6])
UNIT = np.sum(2 * SCALE**4 + 4 * SCALE**2 * OFFSET**2) ** -0.5
ENERGY = Energy(UNIT * SCALE**2, UNIT * SCALE * OFFSET)
TARGET = Target(-OFFSET / SCALE, np.diag(SCALE))
WEIGHTS = {"replace": lambda t: np.ones_like(t), "accumulate": lambda t: 1 / (t + 1)}


@jax.jit
def kept_state(change, share):
    """List the state that `truncated_moments` finds for a model near the standard normal."""
    state = jnp.eye(4) + unpack(change)
    mean, second = state[0, 1:], state[1:, 1:]
    model = Moments(jnp.ones(()), mean, second - jnp.outer(mean, mean))
    kept = truncated_moments(model, jax.tree.map(jnp.asarray, TARGET), share)
    second = kept.covariance + jnp.outer(kept.mean, kept.mean)
    return jnp.concatenate([kept.mean, second[jnp.triu_indices(3)]])


def scatter():
    root = np.random.default_rng(0).normal(size=(9, 9)) / 4
    return root @ root.T


@pytest.mark.parametrize("budget", [0.01, 0.2, 0.7])
def test_response_is_the_expansion_of_the_truncated_moments(budget):
    response = jax.jit(respond)(ENERGY, budget, scatter())

    def kept(step):
        return np.asarray(kept_state(step[:9], budget + step[9]))

    np.testing.assert_allclose(response.mean, kept(np.zeros(10)), rtol=0, atol=1e-8)

    size = 1e-4 * np.append(np.ones(9), budget)
    slope = np.stack([(kept(s) - kept(-s)) / s.sum() / 2 for s in np.diag(size)], axis=1)
    np.testing.assert_allclose(response.slope, slope[:, :9], rtol=0, atol=1e-6)

    # Richardson extrapolation of second differences along a square root of the joint covariance.
    joint = np.zeros((10, 10))
    joint[:9, :9], joint[9, 9] = scatter(), budget**2 * (1 - budget)
    root = np.linalg.cholesky(joint).T

    def second(step):
        return sum(kept(step * s) - 2 * kept(0 * s) + kept(-step * s) for s in root) / step**2

    curve = (4 * second(5e-3) - second(1e-2)) / 3
    bias = budget * (1 - budget) * slope[:, 9] + curve / 2
    np.testing.assert_allclose(response.bias, bias, rtol=1e-4, atol=1e-5)


def test_noise_is_that_of_sampled_kept_sets():
    num_sets, num_kept, budget = 10_000, 250, 0.25
    response = jax.jit(respond)(ENERGY, budget, np.zeros((9, 9)))
    rng = np.random.default_rng(1)
    i, j = np.triu_indices(3)
    kept_sets = []
    for _ in range(num_sets // 100):
        w = rng.normal(size=(100, int(num_kept / budget), 3))
        energy = np.sum((SCALE * w + OFFSET) ** 2, axis=-1)
        best = np.argpartition(energy, num_kept, axis=1)[:, :num_kept]
        w = np.take_along_axis(w, best[:, :, None], axis=1)
        second = np.einsum("bni,bnj->bij", w, w) / num_kept
        kept_sets.append(np.concatenate([w.mean(1), second[:, i, j]], axis=1))
    kept_sets = np.concatenate(kept_sets)

    error = kept_sets - kept_sets.mean(0)
    products = num_kept * error[:, :, None] * error[:, None, :]
    z = (products.mean(0) - response.noise) / (products.std(0) / np.sqrt(num_sets))
    assert np.abs(z).max() < 4
    bias = num_kept * (kept_sets.mean(0) - response.mean)
    standard_error = num_kept * kept_sets.std(0) / np.sqrt(num_sets)
    assert np.abs((bias - response.bias) / standard_error).max() < 4


def listed(model):
    return np.concatenate([model.mean, model.covariance[..., *np.triu_indices(3)]], axis=-1)


def record(key, state, info):
    return state.params


@pytest.mark.parametrize("workflow", WEIGHTS)
def test_simulation_confirms_the_correction(workflow):
    dim, budget, num_generations, num_kept, num_replicates = 3, 0.1, 5, 250, 1500
    instance = cast(published_instance(10, dim), jnp.float64)
    rule = WORKFLOWS[workflow](moments_memory())
    recursion = sizes(num_kept, budget, num_generations)

    @jax.jit
    def predict(instance, weights):
        exact = mean_field(instance.target, rule)
        _, models = run(jax.random.key(0), exact, instance.truth, recursion, record)
        correction = linear_noise(models, weights, instance.target, jnp.asarray(budget))
        return jax.tree.map(lambda leaf: leaf[-1], (models, correction))

    weights = WEIGHTS[workflow](np.arange(num_generations, dtype=float))
    models, correction = jax.tree.map(np.asarray, predict(instance, weights))

    truth, target = cast(instance, jnp.float32)
    collapse = build_collapse(gaussian(), top_of_gaussian(target), rule)

    def simulate(key):
        return run(key, collapse, truth, recursion, record)[0].params

    keys = jax.random.split(jax.random.key(1), num_replicates)
    sample = jax.jit(lambda keys: jax.lax.map(simulate, keys, batch_size=100))(keys)
    sample = listed(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), sample))
    deviation = sample - listed(models)
    standard_error = sample.std(0) / np.sqrt(num_replicates)
    left = deviation.mean(0) - listed(correction) / num_kept
    assert np.abs(deviation.mean(0) / standard_error).max() > 5
    assert np.abs(left / standard_error).max() < 4

    spread = np.sqrt(num_kept) * sample.std(0)
    np.testing.assert_allclose(spread, np.sqrt(np.diag(correction.spread)), rtol=0.15)
