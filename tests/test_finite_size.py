import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcollapse.base import Moments, Target
from jaxcollapse.batches import proposals_needed, top_of_gaussian
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.targets import cast, published_instance
from jaxcollapse.theory.finite_size import linear_noise, pack, respond, unpack
from jaxcollapse.theory.mean_field import mean_field
from jaxcollapse.theory.truncation import separate, truncated_moments
from jaxcollapse.trajectory import build_collapse, run
from jaxcollapse.validation import make_controls
from jaxcollapse.workflows import WORKFLOWS

MODEL = Moments(np.float64(1), np.zeros(3), np.eye(3))
TARGET = Target(np.array([1.5, -1.0, 0.3]), np.diag([0.4, 1.0, 0.7]))
WEIGHTS = {"replace": lambda t: np.ones_like(t), "accumulate": lambda t: 1 / (t + 1)}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@jax.jit
def kept_state(state, share):
    """List the moments that `truncated_moments` finds for a model given by its state."""
    mean, second = state[0, 1:], state[1:, 1:]
    model = Moments(jnp.ones(()), mean, second - jnp.outer(mean, mean))
    kept = truncated_moments(model, TARGET_IN_FRAME, share)
    second = kept.covariance + jnp.outer(kept.mean, kept.mean)
    return jnp.concatenate([kept.mean, second[jnp.triu_indices(3)]])


with jax.enable_x64(True):
    FRAME = separate(cast(MODEL, jnp.float64), cast(TARGET, jnp.float64))
    TARGET_IN_FRAME = Target(
        np.asarray(-FRAME.energy.offset / FRAME.energy.scale), np.diag(FRAME.energy.scale)
    )


def spread():
    root = np.random.default_rng(0).normal(size=(9, 9)) / 4
    return root @ root.T


@pytest.mark.parametrize("budget", [0.01, 0.2, 0.7])
def test_response_is_the_expansion_of_the_truncated_moments(budget):
    response = respond(FRAME.energy, jnp.float64(budget), jnp.asarray(spread()))

    def kept(step):
        return np.asarray(kept_state(np.eye(4) + unpack(jnp.asarray(step[:9])), budget + step[9]))

    np.testing.assert_allclose(response.mean, kept(np.zeros(10)), rtol=0, atol=1e-8)

    size = 1e-4 * np.append(np.ones(9), budget)
    slope = np.stack([(kept(s) - kept(-s)) / s.sum() / 2 for s in np.diag(size)], axis=1)
    np.testing.assert_allclose(response.slope, slope[:, :9], rtol=0, atol=1e-6)

    # Richardson extrapolation of second differences along a square root of the joint covariance.
    joint = np.zeros((10, 10))
    joint[:9, :9], joint[9, 9] = spread(), budget**2 * (1 - budget)
    root = np.linalg.cholesky(joint).T

    def second(step):
        return sum(kept(step * s) - 2 * kept(0 * s) + kept(-step * s) for s in root) / step**2

    curve = (4 * second(5e-3) - second(1e-2)) / 3
    bias = budget * (1 - budget) * slope[:, 9] + curve / 2
    np.testing.assert_allclose(response.bias, bias, rtol=1e-4, atol=1e-5)


def test_noise_is_that_of_sampled_batches():
    num_batches, num_kept, budget = 20_000, 250, 0.25
    response = respond(FRAME.energy, jnp.float64(budget), jnp.zeros((9, 9)))
    rng = np.random.default_rng(1)
    scale, offset = np.asarray(FRAME.energy.scale), np.asarray(FRAME.energy.offset)
    i, j = np.triu_indices(3)
    batches = []
    for _ in range(num_batches // 100):
        w = rng.normal(size=(100, int(num_kept / budget), 3))
        energy = np.sum((scale * w + offset) ** 2, axis=-1)
        best = np.argpartition(energy, num_kept, axis=1)[:, :num_kept]
        w = np.take_along_axis(w, best[:, :, None], axis=1)
        second = np.einsum("bni,bnj->bij", w, w) / num_kept
        batches.append(np.concatenate([w.mean(1), second[:, i, j]], axis=1))
    batches = np.concatenate(batches)

    error = batches - batches.mean(0)
    products = num_kept * error[:, :, None] * error[:, None, :]
    z = (products.mean(0) - response.noise) / (products.std(0) / np.sqrt(num_batches))
    assert np.abs(z).max() < 4
    bias = num_kept * (batches.mean(0) - response.mean)
    standard_error = num_kept * batches.std(0) / np.sqrt(num_batches)
    assert np.abs((bias - response.bias) / standard_error).max() < 4
    assert np.abs(bias / standard_error).max() > 5


@pytest.mark.parametrize("workflow", WEIGHTS)
def test_simulation_confirms_the_correction(workflow):
    dim, budget, num_generations, num_kept, num_replicates = 2, 0.2, 6, 500, 4000
    instance = cast(published_instance(9, dim), jnp.float64)
    rule = WORKFLOWS[workflow](moments_memory())
    controls = make_controls(num_kept, budget)
    record = lambda key, state, info: state.params  # noqa: E731

    exact = mean_field(instance.target, rule)
    _, models = run(jax.random.key(0), exact, instance.truth, controls, num_generations, record)
    weights = jnp.asarray(WEIGHTS[workflow](np.arange(num_generations, dtype=float)))
    correction = linear_noise(models, weights, instance.target, jnp.float64(budget))

    batch_fn = top_of_gaussian(instance.target, proposals_needed(num_kept, budget, dim))
    collapse = build_collapse(gaussian(), batch_fn, rule)

    def simulate(key):
        state, _ = run(key, collapse, instance.truth, controls, num_generations, record)
        return state.params

    keys = jax.random.split(jax.random.key(1), num_replicates)
    final = jax.jit(lambda keys: jax.lax.map(simulate, keys, batch_size=50))(keys)

    listed = lambda m: np.concatenate([m.mean, m.covariance[..., *np.triu_indices(dim)]], -1)  # noqa: E731
    end = jax.tree.map(lambda leaf: leaf[-1], (models, correction))
    sample, limit, bias = listed(final), listed(end[0]), listed(end[1]) / num_kept
    standard_error = sample.std(0) / np.sqrt(num_replicates)
    print(workflow, (sample.mean(0) - limit) / standard_error, (sample.mean(0) - limit - bias) / standard_error)
    assert np.abs((sample.mean(0) - limit - bias) / standard_error).max() < 4
    assert np.abs((sample.mean(0) - limit) / standard_error).max() > 5

    error = sample - sample.mean(0)
    squares = num_kept * error[:, :, None] * error[:, None, :]
    z = (squares.mean(0) - end[1].spread) / (squares.std(0) / np.sqrt(num_replicates))
    print(np.abs(z).max(), np.diag(squares.mean(0)) / np.diag(end[1].spread))
    assert np.abs(z).max() < 4
