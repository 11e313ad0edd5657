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
from jaxcollapse.recursion import run, side_by_side
from jaxcollapse.sizes import sizes
from jaxcollapse.targets import published_instance
from jaxcollapse.theory.finite_size import linear_noise, respond, unpack
from jaxcollapse.theory.mean_field import kept_moments
from jaxcollapse.tree import cast, row
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


BUDGET, LAST, NUM_KEPT, NUM_REPLICATES = 0.1, 5, 250, 1500


@pytest.fixture(scope="module")
def both_workflows():
    """Predict the last models and their corrections, and simulate, for both workflows side by side."""
    rules, recursion = [WORKFLOWS[name](moments_memory()) for name in WEIGHTS], sizes(NUM_KEPT, BUDGET, LAST)

    @jax.jit
    def predict(instance, weights):
        exact = side_by_side(gaussian(), kept_moments(instance.target), rules)
        _, models = run(jax.random.key(0), exact, instance.truth, recursion, record)
        correct = jax.vmap(linear_noise, in_axes=(1, 0, None, None))
        correction = correct(models, weights, instance.target, jnp.asarray(BUDGET))
        return row(models, -1), jax.tree.map(lambda leaf: leaf[:, -1], correction)

    def simulate(key):
        collapse = side_by_side(gaussian(), top_of_gaussian(target), rules)
        return run(key, collapse, truth, recursion, record)[0].params

    with jax.enable_x64(True):
        instance = cast(published_instance(10, 3), jnp.float64)
        truth, target = cast(instance, jnp.float32)
        weights = np.stack([weight(np.arange(LAST, dtype=float)) for weight in WEIGHTS.values()])
        keys = jax.random.split(jax.random.key(1), NUM_REPLICATES)
        sample = jax.jit(lambda keys: jax.lax.map(simulate, keys, batch_size=100))(keys)
        return jax.device_get((*predict(instance, weights), cast(sample, jnp.float64)))


@pytest.mark.parametrize("workflow", WEIGHTS)
def test_simulation_confirms_the_correction(both_workflows, workflow):
    models, correction, sample = both_workflows
    place = list(WEIGHTS).index(workflow)
    models, correction = row((models, correction), place)
    sample = listed(jax.tree.map(lambda leaf: leaf[:, place], sample))
    deviation = sample - listed(models)
    standard_error = sample.std(0) / np.sqrt(NUM_REPLICATES)
    left = deviation.mean(0) - listed(correction) / NUM_KEPT
    assert np.abs(deviation.mean(0) / standard_error).max() > 5
    assert np.abs(left / standard_error).max() < 4

    spread = np.sqrt(NUM_KEPT) * sample.std(0)
    np.testing.assert_allclose(spread, np.sqrt(np.diag(correction.spread)), rtol=0.15)
