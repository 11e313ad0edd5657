"""Noise and its accounting against integrals, attacks against what they attack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from oracle import assert_unbiased, z_scores
from scipy import integrate, stats

from jaxcollapse.base import Target
from jaxcollapse.features import quadratic_features
from jaxcollapse.measures import uniform_measure
from jaxcollapse.privacy import (
    cross_lines,
    differentiate_partition,
    gaussian_mechanism,
    invert_interpolant,
    noise_needed,
    privacy_loss,
)
from jaxcollapse.transport.sinkhorn import log_partition
from jaxcollapse.tree import num_bytes, row
from jaxcollapse.verifiers import problem


def test_messages_have_a_size_before_they_are_computed():
    message = jax.eval_shape(lambda: {"a": jnp.zeros((3, 5), jnp.float32), "b": (jnp.int16(0), jnp.zeros(2, bool))})
    assert num_bytes(message) == 3 * 5 * 4 + 2 + 2


def test_every_number_of_a_message_gets_noise_of_its_own():
    message = (jnp.full((40, 50), 3.0), jnp.full(2000, -1.0))
    noisy = jax.jit(gaussian_mechanism)(jax.random.key(0), message, 0.5)
    first, second = (np.ravel(n - m) / 0.5 for n, m in zip(noisy, message, strict=True))
    for noise in first, second:
        assert_unbiased(z_scores(noise, 0))
        assert_unbiased(z_scores(noise**2, 1))
    assert_unbiased(z_scores(first * second, 0))


@pytest.mark.parametrize(("noise", "rounds", "delta"), [(1.0, 1, 1e-5), (4.0, 1, 1e-3), (5.0, 40, 1e-6), (0.7, 3, 0.1)])
def test_privacy_loss_meets_delta_by_the_integral_of_the_losses(noise, rounds, delta):
    epsilon = privacy_loss(noise, rounds, delta)
    # The log ratio of densities of one message is N(m, 2 m), m = 1 / (2 z^2); those of several messages add up.
    mean = rounds / (2 * noise**2)
    density = stats.norm(mean, np.sqrt(2 * mean)).pdf
    top = mean + 40 * np.sqrt(mean)
    found, _ = integrate.quad(lambda loss: -np.expm1(epsilon - loss) * density(loss), epsilon, top, epsabs=0)
    assert_allclose(found, delta, rtol=1e-6)
    assert_allclose(noise_needed(epsilon, rounds, delta), noise, rtol=1e-6)


def test_privacy_loss_is_zero_where_delta_allows_it_and_refuses_nonsense():
    assert privacy_loss(1e6, 1, 0.1) == 0
    for arguments, name in (
        ((0.0, 1, 0.1), "noise_multiplier"),
        ((1.0, 0, 0.1), "num_messages"),
        ((1.0, 1, 0.0), "delta"),
    ):
        with pytest.raises(ValueError, match=f"^{name} = "):
            privacy_loss(*arguments)
    with pytest.raises(ValueError, match=r"^epsilon = "):
        noise_needed(0.0, 1, 0.1)


@pytest.mark.parametrize("dim", [2, 5])
def test_replies_with_known_step_and_crossing_lines_give_images_away(dim):
    rng = np.random.default_rng(dim)
    image, first, second = jnp.asarray(rng.standard_normal((3, 7, dim)))
    replies = [0.7 * support + 0.3 * image for support in (first, second)]
    assert_allclose(invert_interpolant(first, replies[0], 0.3), image, rtol=1e-4, atol=1e-5)
    found = cross_lines(jnp.stack([first, second]), jnp.stack(replies))
    assert_allclose(found, image, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("x64")
def test_the_slope_of_a_log_partition_is_the_way_to_the_image():
    rng = np.random.default_rng(0)
    silo, g, x = rng.standard_normal((30, 3)), rng.standard_normal(30), rng.standard_normal((4, 3))
    epsilon, width = 0.5, 1e-4
    weight = np.exp((g - ((x[:, None] - silo) ** 2).sum(-1)) / epsilon)
    image = weight @ silo / weight.sum(axis=1, keepdims=True)
    probes = x[:, None, None] + width / 2 * np.stack([-np.eye(3), np.eye(3)], axis=1)  # [4, 3, 2, 3]
    message = log_partition(jnp.asarray(probes.reshape(-1, 3)), uniform_measure(silo), jnp.asarray(g), epsilon)
    assert_allclose(
        differentiate_partition(message.reshape(4, 3, 2), jnp.asarray(x), width, epsilon), image, rtol=1e-6, atol=1e-6
    )


def test_the_private_message_of_a_silo_depends_on_its_data_alone():
    rng = np.random.default_rng(2)
    own, others = rng.standard_normal((20, 3)), rng.standard_normal((2, 20, 3))
    messages = []
    for other in others:
        made = problem(np.stack([own, 7 * other + 5]))
        reply = jax.jit(made.private_means.reply)
        messages.append(reply(jax.random.key(1), row(made.silos, 0), None)[1])
    jax.tree.map(np.testing.assert_array_equal, *messages)


@pytest.mark.parametrize("hostile", [1e4, 1e30, np.inf, -np.inf, np.nan])
def test_no_single_sample_moves_a_bounded_message_by_more_than_its_share(hostile):
    bound, points = 6.0, np.random.default_rng(3).standard_normal((50, 4)).astype(np.float32)
    phi = quadratic_features(Target(jnp.zeros(4), jnp.eye(4)), bound)
    for place in (0, slice(None)):
        changed = points.copy()
        changed[7, place] = hostile
        honest, found = (np.asarray(jax.jit(phi)(jnp.asarray(x)), np.float64) for x in (points, changed))
        assert np.linalg.norm(found, axis=1).max() <= bound * (1 + 1e-6)
        assert np.linalg.norm(found.mean(axis=0) - honest.mean(axis=0)) <= 2 * bound / 50 * (1 + 1e-6)
        np.testing.assert_array_equal(np.delete(found, 7, 0), np.delete(honest, 7, 0))
