"""Samplers against the published steps with a Gaussian's exact denoiser; fits against the data they were given."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from oracle import assert_unbiased, draw, upper, z_scores

from jaxcollapse.base import Measure
from jaxcollapse.generators import diffusion
from jaxcollapse.generators.diffusion import residual
from jaxcollapse.generators.diffusion.denoiser import Denoiser
from jaxcollapse.generators.diffusion.samplers import ancestral, ddim, midpoint
from jaxcollapse.measures import as_moments, uniform_measure

KEY = jax.random.key(0)
MEAN = np.array([0.5, -1.0])
COVARIANCE = np.array([[1.5, 0.6], [0.6, 0.4]])
SIZE = 512
MODEL = diffusion(residual(width=32, depth=2), num_steps=400, batch_size=128)


@partial(jax.jit, static_argnums=0)
def sample_of_gaussian(sampler, key, angles, x):
    """Sample with the exact velocity of N(MEAN, COVARIANCE)."""

    def velocity(y, angle):
        a, b = jnp.cos(angle), jnp.sin(angle)
        whitened = (y - a * MEAN) @ jnp.linalg.inv(a**2 * COVARIANCE + b**2 * jnp.eye(2))
        data, noise = MEAN + a * whitened @ COVARIANCE, b * whitened
        return a * noise - b * data

    return sampler(key, velocity, angles, x)


def grid(num_steps):
    return np.pi / 2 * np.linspace(1, 0, num_steps + 1) ** 2


def published_step(sampler, now, then):
    """Give a step as x' = A x + c + N(0, s^2), by the formulas of [ho2020] (7) and [song2021] (12)."""
    now, then = np.cos([now, then]) ** 2
    mixed = np.linalg.inv(now * COVARIANCE + (1 - now) * np.eye(2))
    data_gain = np.sqrt(now) * COVARIANCE @ mixed
    data_shift = MEAN - data_gain @ MEAN * np.sqrt(now)
    if sampler is ddim:
        noise_gain = np.sqrt(1 - now) * mixed
        noise_shift = -noise_gain @ MEAN * np.sqrt(now)
        gain = np.sqrt(then) * data_gain + np.sqrt(1 - then) * noise_gain
        return gain, np.sqrt(then) * data_shift + np.sqrt(1 - then) * noise_shift, 0.0
    alpha = now / then
    beta = 1 - alpha
    to_data, to_x = np.sqrt(then) * beta / (1 - now), np.sqrt(alpha) * (1 - then) / (1 - now)
    return to_data * data_gain + to_x * np.eye(2), to_data * data_shift, (1 - then) / (1 - now) * beta


def published_moments(sampler, angles):
    mean, covariance = np.zeros(2), np.eye(2)
    for now, then in pairwise(angles):
        gain, shift, variance = published_step(sampler, now, then)
        mean, covariance = gain @ mean + shift, gain @ covariance @ gain.T + variance * np.eye(2)
    return mean, covariance


def moments_of_flow(sampler, num_steps):
    """Read the moments off the affine map of a deterministic sampler."""
    shift, *columns = np.asarray(sample_of_gaussian(sampler, KEY, grid(num_steps), np.eye(3, 2, -1)))
    gain = np.transpose(columns - shift)
    return shift, gain @ gain.T


@pytest.mark.usefixtures("x64")
def test_ddim_takes_the_published_steps():
    for actual, expected in zip(moments_of_flow(ddim, 20), published_moments(ddim, grid(20)), strict=True):
        assert_allclose(actual, expected, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_ancestral_takes_the_published_steps():
    x = np.random.default_rng(0).standard_normal((20_000, 2))
    samples = np.asarray(sample_of_gaussian(ancestral, KEY, grid(20), x))
    mean, covariance = published_moments(ancestral, grid(20))
    centred = samples - mean
    z = [z_scores(samples, mean), z_scores(upper(centred[:, :, None] * centred[:, None]), upper(covariance))]
    assert_unbiased(np.concatenate(z))


def relative_error(moments):
    mean, covariance = moments
    assert_allclose(mean, MEAN, atol=1e-6)
    return np.linalg.norm(covariance - COVARIANCE) / np.linalg.norm(COVARIANCE)


@pytest.mark.parametrize("sampler", [ancestral, ddim])
def test_published_steps_converge_in_first_order(sampler):
    coarse, fine = (relative_error(published_moments(sampler, grid(n))) for n in (200, 400))
    assert fine < 0.015
    assert_allclose(coarse / fine, 2, rtol=0.02)


@pytest.mark.usefixtures("x64")
def test_midpoint_keeps_the_variance_in_few_steps():
    coarse, fine = (relative_error(moments_of_flow(midpoint, n)) for n in (12, 25))
    assert fine < 5e-5
    assert coarse / fine > 4


@jax.jit
def fit_and_sample(key, data):
    params = MODEL.init(key, data)
    return MODEL.sample(jax.random.fold_in(key, 1), params, 4000)


def float32_measure(points):
    return uniform_measure(np.asarray(points, np.float32))


def test_gaussian_is_learnt():
    """In 30 runs with other seeds errors of the mean were 0.023 deviations (rms), of the covariance 0.034 variances."""
    data = float32_measure(draw(np.random.default_rng(0), MEAN, COVARIANCE, SIZE))
    truth, found = as_moments(data), as_moments(uniform_measure(fit_and_sample(KEY, data)))
    scale = np.sqrt(np.diagonal(truth.covariance))
    assert_allclose((found.mean - truth.mean) / scale, 0, atol=0.1)
    assert_allclose((found.covariance - truth.covariance) / np.outer(scale, scale), 0, atol=0.15)


def test_two_modes_keep_their_shares():
    """In 30 runs with other seeds the shares were 0.230 and 0.734, each give or take 0.013, the rest in between."""
    rng = np.random.default_rng(1)
    few = rng.permutation(SIZE) < SIZE // 4
    x = np.where(few[:, None], [-3, 0], [3, 1]) + 0.3 * rng.standard_normal((SIZE, 2))
    samples = np.asarray(fit_and_sample(KEY, float32_measure(x)))
    shares = [(np.linalg.norm(samples - centre, axis=1) < 1.2).mean() for centre in ([-3, 0], [3, 1])]
    assert_allclose(shares, [0.25, 0.75], atol=0.08)


def test_masses_count_as_repetitions():
    rng = np.random.default_rng(2)
    counts = rng.multinomial(SIZE, np.full(200, 1 / 200))
    x = rng.standard_normal((SIZE, 2)).astype(np.float32)
    weighted = Measure(jnp.asarray(x), jnp.zeros(SIZE).at[:200].set(counts))
    repeated = float32_measure(np.repeat(x[:200], counts, axis=0))
    assert_allclose(fit_and_sample(KEY, weighted), fit_and_sample(KEY, repeated), atol=1e-4)


@pytest.mark.parametrize("spread", [[0, 0], [1, 0], [1e-5, 1e-12]])
def test_what_has_collapsed_stays_and_what_is_small_is_learnt(spread):
    data = float32_measure([0.3, 5] + spread * np.random.default_rng(3).standard_normal((SIZE, 2)))
    samples = np.asarray(fit_and_sample(KEY, data), np.float64)
    assert_allclose(samples.mean(axis=0), np.mean(data.points, axis=0), atol=0.1 * spread[0] + 1e-5)
    assert_allclose(samples.std(axis=0), np.std(data.points, axis=0), rtol=0.1, atol=1e-5 if spread[0] == 0 else 1e-7)


def test_data_without_mass_give_finite_samples():
    assert np.isfinite(fit_and_sample(KEY, Measure(jnp.ones((SIZE, 2)), jnp.zeros(SIZE)))).all()


@pytest.mark.parametrize("warm_start", [True, False])
def test_only_a_warm_start_reads_the_last_network(warm_start):
    model = diffusion(residual(8, 1), 0, 4, 2, warm_start=warm_start)
    data = float32_measure(np.random.default_rng(4).standard_normal((9, 2)))
    first = jax.jit(model.init)(KEY, data)
    moved = data._replace(points=2 * np.asarray(data.points) + 1)
    second = jax.jit(model.fit)(jax.random.key(1), first, moved)
    equal = [np.array_equal(a, b) for a, b in zip(first.network, second.network, strict=True)]
    assert equal == [warm_start] * 3 + [True]  # the last layer starts at zero
    assert_allclose(second.mean, np.mean(moved.points, axis=0), rtol=1e-6)
    assert_allclose(second.scale, np.std(moved.points, axis=0), rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_generations_scan():
    network = residual(8, 1)
    model = diffusion(network, 2, 4, 2)
    start = Denoiser(jax.jit(network.init, static_argnums=(1, 2))(KEY, 2, float), jnp.ones(2), jnp.ones(2))

    @jax.jit
    def generation(params, key):
        fit_key, sample_key = jax.random.split(key)
        points = model.sample(sample_key, params, 9)
        return model.fit(fit_key, params, uniform_measure(points)), points

    keys, params = jax.random.split(KEY, 3), start
    scanned = jax.jit(lambda keys: jax.lax.scan(generation, start, keys)[1])(keys)
    for key, expected in zip(keys, scanned, strict=True):
        params, points = generation(params, key)
        assert_allclose(points, expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("factory", "name", "value", "low"),
    [
        (diffusion, "num_steps", -1, 0),
        (diffusion, "batch_size", 0, 1),
        (diffusion, "num_sample_steps", 0, 1),
        (diffusion, "learning_rate", -1, 0),
        (residual, "width", 0, 1),
        (residual, "depth", -1, 0),
    ],
)
def test_factories_check_their_numbers(factory, name, value, low):
    with pytest.raises(ValueError, match=f"{name} = {value}: must be at least {low}"):
        factory(**{name: value})


def test_moments_are_refused():
    moments = as_moments(float32_measure(np.eye(2)))
    with pytest.raises(
        TypeError, match="data = Moments: diffusion needs points, a Measure, as buffer_memory keeps them"
    ):
        MODEL.init(KEY, moments)
