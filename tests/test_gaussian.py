import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import assert_unbiased, random_covariance, random_problem, upper, z_scores

from jaxcollapse.base import Measure, Moments
from jaxcollapse.generators import gaussian
from jaxcollapse.linalg import psd_cholesky, svd
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.targets import fit_target

KEY = jax.random.key(0)
factor = jax.jit(psd_cholesky)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("ridge", [0.0, 0.25])
def test_fit_is_weighted_maximum_likelihood(ridge):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((40, 3)), rng.uniform(0, 2, 40)
    expected = np.cov(x.T, aweights=w, ddof=0) + ridge * np.eye(3)
    model = gaussian(ridge)
    data = Measure(jnp.asarray(x), jnp.asarray(w))
    for params in model.init(KEY, data), model.fit(KEY, None, data), model.fit(KEY, None, as_moments(data)):
        assert_allclose(params.mass, w.sum(), rtol=1e-12)
        assert_allclose(params.mean, np.average(x, axis=0, weights=w), rtol=1e-12)
        assert_allclose(params.covariance, expected, rtol=1e-12)


def test_one_point_is_fitted_by_a_point_mass():
    data = uniform_measure(jnp.array([[3.0, -2.0]]))
    params = jax.jit(gaussian().init)(KEY, data)
    assert_array_equal(params.covariance, np.zeros((2, 2)))
    samples = gaussian().sample(KEY, params, 5)
    assert_array_equal(samples, np.broadcast_to([3.0, -2.0], (5, 2)))


def test_negative_ridge_is_refused():
    with pytest.raises(ValueError, match=r"ridge = -1.*must be at least 0"):
        gaussian(-1)


def test_samples_have_the_moments_of_the_model():
    mean, covariance, _, _ = random_problem(0, 4)
    params = Moments(jnp.float32(1), jnp.float32(mean), jnp.float32(covariance))
    x = np.asarray(gaussian().sample(KEY, params, 50_000), np.float64)
    assert_unbiased(z_scores(x, mean))
    centred = x - mean
    assert_unbiased(z_scores(upper(centred[:, :, None] * centred[:, None, :]), upper(covariance)))
    white = np.linalg.solve(np.linalg.cholesky(covariance), centred.T).T
    assert_unbiased(z_scores(white**4, 3))


@pytest.mark.parametrize("place", [(0, 0), (2, 2), (1, 0)])
def test_a_covariance_that_is_no_number_draws_none(place):
    covariance = jnp.eye(3).at[place].set(jnp.nan)
    assert np.isnan(factor(covariance)[place])
    params = Moments(jnp.float32(1), jnp.zeros(3), covariance)
    assert np.isnan(gaussian().sample(KEY, params, 4)[:, place[0]]).all()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dim", [1, 2, 7, 30])
def test_factor_of_a_definite_matrix_is_that_of_lapack(dim):
    covariance = random_covariance(np.random.default_rng(dim), dim)
    assert_allclose(factor(jnp.asarray(covariance)), np.linalg.cholesky(covariance), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("dim", "rank"), [(2, 1), (6, 3), (6, 0), (20, 5)])
def test_factor_of_a_singular_matrix_is_a_root_to_rounding(dim, rank, dtype):
    with jax.enable_x64(True):
        root = np.random.default_rng(rank).standard_normal((dim, rank))
        covariance = jnp.asarray(root @ root.T, dtype)
        lower = factor(covariance)
    assert lower.dtype == dtype
    lower = np.asarray(lower, np.float64)
    assert np.isfinite(lower).all()
    assert_array_equal(lower, np.tril(lower))
    scale = np.abs(np.asarray(covariance)).max() if rank else 1
    assert_allclose(lower @ lower.T, np.asarray(covariance, np.float64), atol=10 * dim * jnp.finfo(dtype).eps * scale)


def test_null_directions_give_zero_columns():
    covariance = jnp.diag(jnp.array([4.0, 0.0, 9.0, 0.0]))
    assert_array_equal(factor(covariance), np.diag([2.0, 0.0, 3.0, 0.0]))
    assert_array_equal(factor(jnp.zeros((3, 3))), np.zeros((3, 3)))


def test_collapsed_covariance_that_breaks_lapack_is_factored():
    # Rounding leaves a slightly negative eigenvalue.
    direction = np.array([1.0, 1 / 3, 1 / 7], np.float32)
    covariance = jnp.asarray(np.outer(direction, direction)) - 1e-9 * jnp.eye(3)
    assert np.isnan(np.asarray(jnp.linalg.cholesky(covariance))).any()
    lower = np.asarray(factor(covariance))
    assert np.isfinite(lower).all()
    assert_allclose(lower @ lower.T, covariance, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_factor_scales(scale):
    covariance = random_covariance(np.random.default_rng(0), 4)
    lower = np.asarray(factor(jnp.asarray(covariance * scale, jnp.float32)), np.float64)
    assert_allclose(lower, np.sqrt(scale) * np.linalg.cholesky(covariance), rtol=1e-4, atol=1e-4 * np.sqrt(scale))


@pytest.mark.usefixtures("x64")
def test_decomposition_keeps_small_singular_values():
    rng = np.random.default_rng(1)
    left, right = np.linalg.qr(rng.standard_normal((2, 5, 5)))[0]
    values = 10.0 ** -np.arange(0, 15, 3)
    matrix = left * values @ right.T
    u, s, v = jax.jit(jax.vmap(svd))(jnp.asarray(matrix)[None])
    assert_allclose(s[0], values, rtol=0, atol=1e-15)
    assert_allclose(u[0] * s[0] @ v[0].T, matrix, rtol=0, atol=1e-15)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("offset", [0, 1e4])
def test_target_of_ill_conditioned_data_whitens_them(offset):
    rng, dim = np.random.default_rng(2), 6
    axes = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    x = rng.standard_normal((500, dim)) * np.geomspace(1, 1e-4, dim) @ axes + offset
    target = fit_target(x)
    white = (x - x.mean(axis=0)) @ np.asarray(target.factor).T
    assert_allclose(target.location, x.mean(axis=0), rtol=1e-13)
    # Rounding of the data and of their covariance, magnified by the condition number.
    assert_allclose(white.T @ white / len(x), np.eye(dim), rtol=0, atol=1e8 * dim * np.finfo(float).eps)


@pytest.mark.parametrize(
    ("points", "coordinate"),
    [
        (np.ones((9, 3)), "0 of 3"),
        (np.arange(12.0).reshape(3, 4), "1 of 4"),
        (np.random.default_rng(3).standard_normal((10, 16)), "9 of 16"),
    ],
    ids=["equal points", "points on a line", "fewer points than dimensions"],
)
def test_target_of_degenerate_data_is_refused(points, coordinate):
    with pytest.raises(ValueError, match=f"data: to rounding, coordinate {coordinate} is constant or follows"):
        fit_target(np.float32(points))


def test_ridge_makes_a_target_of_degenerate_data():
    points = np.float32(np.random.default_rng(3).standard_normal((10, 16)))
    covariance = np.cov(points.T, bias=True)
    expected = np.linalg.inv(covariance + 0.1 * np.trace(covariance) / 16 * np.eye(16))
    factor = np.asarray(fit_target(points, 0.1).factor, np.float64)
    assert_allclose(factor.T @ factor, expected, rtol=1e-3, atol=1e-3)
