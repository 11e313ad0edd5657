"""Geometry of Gaussians against POT and closed forms, in double precision."""

import functools

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
import scipy.linalg
from jax.test_util import check_grads
from numpy.testing import assert_allclose
from oracle import random_covariance

from jaxcollapse.base import Moments
from jaxcollapse.linalg import polar_factor
from jaxcollapse.transport import bures

pytestmark = pytest.mark.usefixtures("x64")

DIMS = (1, 2, 6, 16)
distance, transport_map, geodesic = map(jax.jit, (bures.bures_distance, bures.bures_map, bures.bures_geodesic))
barycenter = jax.jit(bures.bures_barycenter, static_argnums=2)


def moments_of(mean, covariance):
    return Moments(jnp.ones(()), jnp.asarray(mean), jnp.asarray(covariance))


def centred(covariance):
    return moments_of(np.zeros(len(covariance)), covariance)


def random_moments(seed, dim, rank=None):
    rng = np.random.default_rng(seed)
    mean, root = rng.standard_normal(dim), rng.standard_normal((dim, rank or dim))
    return moments_of(mean, root @ root.T if rank else random_covariance(rng, dim))


def stacked(gaussians):
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *gaussians)


def projection(rank, dim):
    return np.diag((np.arange(dim) < rank).astype(float))


@pytest.mark.parametrize("dim", DIMS)
def test_distance_agrees_with_pot_and_with_matrix_square_roots(dim):
    first, second = random_moments(0, dim), random_moments(1, dim)
    (_, m, s), (_, n, t) = (jax.tree.map(np.asarray, moments) for moments in (first, second))
    root = scipy.linalg.sqrtm(s)
    squared = np.sum((m - n) ** 2) + np.trace(s + t - 2 * np.real(scipy.linalg.sqrtm(root @ t @ root)))
    for actual in distance(first, second), distance(second, first):
        assert_allclose(actual, np.sqrt(squared), rtol=1e-9)
        assert_allclose(actual, ot.gaussian.bures_wasserstein_distance(m, n, s, t), rtol=1e-9)


@pytest.mark.parametrize("condition", [1e4, 1e8])
def test_distance_of_ill_conditioned_covariances(condition):
    rng, dim = np.random.default_rng(2), 16
    axes = np.linalg.qr(rng.standard_normal((2, dim, dim)))[0]
    s, t = axes @ (np.geomspace(1, 1 / condition, dim)[:, None] * axes.transpose(0, 2, 1))
    expected = ot.gaussian.bures_wasserstein_distance(np.zeros(dim), np.zeros(dim), s, t)
    assert_allclose(distance(centred(s), centred(t)), expected, rtol=1e-7)
    single = jax.tree.map(jnp.float32, (centred(s), centred(t)))
    assert_allclose(distance(*single), expected, rtol=1e-4)


def test_distance_of_singular_covariances():
    v, w = np.array([1.0, 2.0, -1.0]), np.array([0.0, 1.0, 3.0])
    line, other, ball = map(centred, (np.outer(v, v), np.outer(w, w), 4 * np.eye(3)))
    point = moments_of(w, np.zeros((3, 3)))
    assert_allclose(distance(line, other) ** 2, v @ v + w @ w - 2 * abs(v @ w), rtol=1e-14)
    assert_allclose(distance(line, point) ** 2, v @ v + w @ w, rtol=1e-14)
    assert_allclose(distance(ball, line) ** 2, 12 + v @ v - 4 * np.sqrt(v @ v), rtol=1e-7)
    assert distance(point, point) == 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_distance_of_a_projection_to_the_identity(dtype):
    flat, full = jax.tree.map(dtype, (centred(projection(4, 16)), centred(np.eye(16))))
    eps = jnp.finfo(dtype).eps
    for pair in (flat, full), (full, flat):
        assert_allclose(distance(*pair) ** 2, 12, rtol=4 * eps)
    # Turned, its zero eigenvalues are rounded, and their square roots by as much as the root of that.
    axes = np.linalg.qr(np.random.default_rng(3).standard_normal((16, 4)))[0]
    turned = jax.tree.map(dtype, centred(axes @ axes.T))
    assert_allclose(distance(turned, full) ** 2, 12, rtol=4 * eps**0.5)


@pytest.mark.parametrize("step", [1e-2, 1e-6, 1e-10])
def test_small_distances_keep_their_digits(step):
    # Between S and (1 + h)^2 S it is h sqrt(tr S); as a difference of traces it is lost at 1e-8.
    first = random_moments(4, 6)
    second = first._replace(covariance=(1 + step) ** 2 * first.covariance)
    expected = step * np.sqrt(np.trace(first.covariance))
    assert_allclose(distance(first, second), expected, rtol=1e-4, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e12])
def test_distance_scales_with_the_data(scale):
    first, second = (m._replace(mean=jnp.zeros(6)) for m in (random_moments(5, 6), random_moments(6, 6)))
    small = [m._replace(covariance=scale * m.covariance) for m in (first, second)]
    assert_allclose(distance(*small), scale**0.5 * distance(first, second), rtol=1e-12)


def everything(first, second, t):
    """All functions of two Gaussians, as one program."""
    return bures.bures_distance(first, second), bures.bures_map(first, second), bures.bures_geodesic(first, second, t)


def test_derivatives_agree_with_differences():
    first, second = random_moments(7, 3), random_moments(8, 3)

    @jax.jit
    def along(h):
        moved = first._replace(covariance=first.covariance + h * jnp.diag(jnp.arange(3.0)), mean=first.mean + h)
        return everything(moved, second._replace(covariance=(1 + h) * second.covariance), 0.3 + h)

    check_grads(along, (0.1,), order=1, modes=["fwd", "rev"], rtol=1e-5)


@jax.jit
@functools.partial(jax.grad, argnums=(0, 1))
def gradients(first, second):
    return sum(leaf.sum() for leaf in jax.tree.leaves(everything(first, second, 0.5)))


@pytest.mark.parametrize("pair", ["same", "singular", "point"])
def test_gradients_are_finite(pair):
    first, second = {
        "same": (random_moments(9, 5),) * 2,
        "singular": (random_moments(9, 5, rank=2), random_moments(10, 5, rank=3)),
        "point": (centred(np.zeros((5, 5))),) * 2,
    }[pair]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients(first, second)))


def test_polar_factor_is_orthogonal_and_leaves_a_symmetric_factor():
    for rank in (6, 3, 0):
        matrix = np.random.default_rng(11).standard_normal((6, 6)) @ projection(rank, 6)
        q = np.asarray(jax.jit(polar_factor)(matrix))
        assert_allclose(q.T @ q, np.eye(6), atol=1e-14)
        rest = q.T @ matrix
        assert_allclose(rest, rest.T, atol=1e-13)
        assert np.linalg.eigvalsh((rest + rest.T) / 2).min() > -1e-13


@pytest.mark.parametrize("dim", DIMS)
def test_map_is_symmetric_pushes_the_source_to_the_target_and_agrees_with_pot(dim):
    source, target = random_moments(12, dim), random_moments(13, dim)
    a = np.asarray(transport_map(source, target))
    assert_allclose(a, a.T, atol=1e-9)
    assert np.linalg.eigvalsh(a).min() > 0
    assert_allclose(a @ source.covariance @ a.T, target.covariance, rtol=1e-9, atol=1e-9)
    means, covariances = zip(*(map(np.asarray, leaves[1:]) for leaves in (source, target)), strict=True)
    expected, _ = ot.gaussian.bures_wasserstein_mapping(*means, *covariances)
    assert_allclose(a, expected, rtol=1e-7, atol=1e-8)


def test_map_from_a_singular_source():
    source = random_moments(14, 6, rank=3)
    # To a target of no higher rank it pushes forward; across the range of the source it is zero.
    target = random_moments(15, 6, rank=2)
    a = np.asarray(transport_map(source, target))
    assert_allclose(a @ source.covariance @ a.T, target.covariance, atol=1e-6)
    across = scipy.linalg.null_space(np.asarray(source.covariance), rcond=1e-10)
    assert_allclose(a @ across, 0, atol=1e-7)
    # To a full one it is the conditional mean: the coupling has the cost of the distance.
    target = random_moments(16, 6)._replace(mean=source.mean)
    a = np.asarray(transport_map(source, target))
    cross = np.trace(a @ source.covariance)
    cost = np.trace(source.covariance + target.covariance) - 2 * cross
    assert_allclose(cost, distance(source, target) ** 2, rtol=1e-6)
    assert not transport_map(centred(np.zeros((6, 6))), target).any()


@pytest.mark.parametrize("ranks", [(None, None), (3, None), (2, 3)])
def test_geodesic_has_constant_speed(ranks):
    ends = [random_moments(17 + i, 6, rank) for i, rank in enumerate(ranks)]
    whole = distance(*ends)
    for t, end in zip((0.0, 1.0), ends, strict=True):
        jax.tree.map(lambda a, b: assert_allclose(a, b, atol=1e-12), geodesic(*ends, t), end)
    for s, t in ((0.0, 0.25), (0.25, 0.7), (0.7, 1.0)):
        pieces = geodesic(*ends, s), geodesic(*ends, t)
        assert_allclose(distance(*pieces), (t - s) * whole, rtol=1e-6)


def test_commuting_covariances_in_closed_form():
    axes = np.linalg.qr(np.random.default_rng(19).standard_normal((4, 4)))[0]
    spreads = np.array([[1.0, 2, 3, 0.1], [4.0, 1, 0.5, 2], [2.0, 2, 1, 0]])
    gaussians = [centred(axes @ np.diag(s**2) @ axes.T) for s in spreads]
    first, second, _ = gaussians
    assert_allclose(distance(first, second), np.linalg.norm(spreads[0] - spreads[1]), rtol=1e-12)
    assert_allclose(transport_map(first, second), axes @ np.diag(spreads[1] / spreads[0]) @ axes.T, atol=1e-10)
    between = 0.3 * spreads[0] + 0.7 * spreads[1]
    assert_allclose(geodesic(first, second, 0.7).covariance, axes @ np.diag(between**2) @ axes.T, atol=1e-12)
    weights = np.array([1.0, 2, 5])
    average, residual = barycenter(stacked(gaussians), weights, 3)
    spread = np.average(spreads, axis=0, weights=weights)
    assert_allclose(average.covariance, axes @ np.diag(spread**2) @ axes.T, atol=1e-6)
    assert residual < 1e-6


@pytest.mark.parametrize("dim", [2, 6])
def test_barycenter_agrees_with_pot(dim):
    gaussians = [random_moments(20 + i, dim) for i in range(4)]
    weights = np.array([0.1, 0.4, 0.3, 0.2])
    (mass, mean, covariance), residual = barycenter(stacked(gaussians), 5 * weights, 40)
    means, covariances = (np.stack([np.asarray(g[i]) for g in gaussians]) for i in (1, 2))
    expected = ot.gaussian.bures_wasserstein_barycenter(means, covariances, weights, eps=1e-12)
    assert_allclose(mass, 1, rtol=1e-14)
    assert_allclose(mean, expected[0], rtol=1e-12)
    assert_allclose(covariance, expected[1], rtol=1e-8, atol=1e-8)
    assert residual < 1e-8


def test_barycenter_of_one_and_of_two():
    first, second = random_moments(24, 6), random_moments(25, 6)
    for weights, expected in (([1.0, 0.0], first), ([0.4, 0.6], geodesic(first, second, 0.6))):
        average, residual = barycenter(stacked([first, second]), jnp.array(weights), 30)
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-9, atol=1e-9), average, expected)
        assert residual < 1e-9


def test_barycenter_of_singular_covariances():
    e = np.eye(3)
    lines = stacked([centred(np.outer(axis, axis)) for axis in e])
    average, residual = barycenter(lines, np.ones(3), 20)
    assert_allclose(average.covariance, e / 9, atol=1e-12)
    assert residual < 1e-12
    # A fixed point of the average map is a minimum: no neighbour has a smaller objective.
    gaussians = stacked([random_moments(26 + i, 5, rank) for i, rank in enumerate((2, 3, 5))])
    average, residual = barycenter(gaussians, np.ones(3), 60)
    objective = jax.jit(lambda at: jnp.sum(jax.vmap(bures.bures_distance, (None, 0))(at, gaussians) ** 2))
    lowest, rng = objective(average), np.random.default_rng(0)
    assert residual < 1e-4
    for _ in range(20):
        turn = np.eye(5) + 0.02 * rng.standard_normal((5, 5))
        assert objective(average._replace(covariance=turn @ average.covariance @ turn.T)) > lowest


def test_barycenter_refuses_no_iterations():
    with pytest.raises(ValueError, match=r"num_iterations = 0: must be at least 1"):
        bures.bures_barycenter(stacked([random_moments(0, 2)]), jnp.ones(1), 0)


def test_functions_of_two_keep_the_laws():
    cases = [(random_moments(i, 3), random_moments(i + 5, 3), t) for i, t in enumerate((0.1, 0.5, 0.8))]
    conformance.check_transforms(everything, *cases)


def test_barycenter_keeps_the_laws():
    cases = [(stacked([random_moments(i, 3), random_moments(i + 5, 3)]), jnp.array([1.0, i])) for i in range(1, 4)]
    conformance.check_transforms(lambda gaussians, w: bures.bures_barycenter(gaussians, w, 5), *cases)
