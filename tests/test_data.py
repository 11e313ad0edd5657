import jax
import numpy as np
import pytest
import sklearn.datasets
import sklearn.decomposition
import sklearn.neighbors

from jaxcollapse.data.digits import load_digits
from jaxcollapse.data.features import fit_pca, project, reconstruct
from jaxcollapse.data.planar import PLANAR, sample_curve
from jaxcollapse.measures import as_moments, uniform_measure


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def test_digits_are_scaled_images(digits):
    raw = sklearn.datasets.load_digits()
    assert digits.points.shape == (1797, 64)
    assert digits.points.dtype == np.float32
    assert digits.points.min() == -1
    assert digits.points.max() == 1
    np.testing.assert_array_equal((digits.points + 1) * 8, raw.images.reshape(1797, 64))
    np.testing.assert_array_equal(digits.labels, raw.target)


@pytest.mark.parametrize("num_components", [1, 10, 40])
def test_pca_agrees_with_scikit_learn(digits, num_components):
    oracle = sklearn.decomposition.PCA(num_components, svd_solver="full").fit(digits.points.astype(float))
    pca = fit_pca(digits.points, num_components)
    assert all(leaf.dtype == np.float32 for leaf in pca)
    np.testing.assert_allclose(pca.mean, oracle.mean_, atol=1e-6)
    signs = np.sign(np.sum(pca.components * oracle.components_, axis=1, keepdims=True))
    np.testing.assert_allclose(pca.components, signs * oracle.components_, atol=1e-4)
    np.testing.assert_allclose(pca.variances, oracle.explained_variance_ * 1796 / 1797, rtol=1e-4)
    np.testing.assert_allclose(pca.variances / pca.total_variance, oracle.explained_variance_ratio_, rtol=1e-4)
    features = project(pca, digits.points)
    np.testing.assert_allclose(features, signs.T * oracle.transform(digits.points), atol=1e-4)
    np.testing.assert_allclose(
        reconstruct(pca, features), oracle.inverse_transform(oracle.transform(digits.points)), atol=1e-4
    )


def test_features_of_fitted_data_are_uncorrelated_with_the_stated_variances(digits):
    pca = fit_pca(digits.points, 12)
    moments = as_moments(uniform_measure(project(pca, digits.points)))
    np.testing.assert_allclose(moments.mean, 0, atol=1e-4)
    np.testing.assert_allclose(moments.covariance, np.diag(pca.variances), atol=1e-4)


def test_reconstruction_loses_exactly_the_variance_not_kept(digits):
    pca = fit_pca(digits.points, 20)
    residual = digits.points - reconstruct(pca, project(pca, digits.points))
    lost = float(pca.total_variance - pca.variances.sum())
    np.testing.assert_allclose(np.mean(np.sum(residual**2, axis=1)), lost, rtol=1e-3)


def test_all_components_reconstruct(digits):
    pca = fit_pca(digits.points, 64)
    np.testing.assert_allclose(reconstruct(pca, project(pca, digits.points)), digits.points, atol=1e-5)
    np.testing.assert_allclose(pca.variances.sum(), pca.total_variance, rtol=1e-5)


def test_signs_are_fixed(digits):
    pca = fit_pca(digits.points, 20)
    components = np.asarray(pca.components)
    largest = np.abs(components).argmax(axis=1)
    assert (components[np.arange(20), largest] > 0).all()
    reflected = fit_pca(-digits.points, 20)
    np.testing.assert_allclose(reflected.components, components, atol=1e-4)


def test_order_of_samples_does_not_matter(digits):
    order = np.random.default_rng(0).permutation(1797)
    first, second = fit_pca(digits.points, 8), fit_pca(digits.points[order], 8)
    np.testing.assert_allclose(first.components, second.components, atol=1e-5)


def test_projection_maps_over_axes_and_compiles(digits):
    pca = fit_pca(digits.points, 5)
    features = project(pca, digits.points)
    stacked = jax.jit(project)(pca, digits.points[:60].reshape(3, 20, 64))
    np.testing.assert_allclose(stacked.reshape(60, 5), features[:60], atol=1e-5)
    np.testing.assert_allclose(jax.vmap(project, (None, 0))(pca, digits.points[:7]), features[:7], atol=1e-5)
    assert reconstruct(pca, stacked).shape == (3, 20, 64)


@pytest.mark.parametrize(
    ("points", "num_components", "message"),
    [
        (np.eye(5), 0, r"num_components = 0: must be in \[1, 4\]"),
        (np.eye(5), 5, r"num_components = 5: must be in \[1, 4\]"),
        (np.ones((9, 3)), 4, r"num_components = 4: must be in \[1, 3\]"),
        (np.ones(3), 1, r"points: shape \(3,\) must be \[n, d\]"),
        (np.full((3, 2), np.inf), 1, "points: 6 values are not finite"),
    ],
)
def test_bad_arguments_are_named(points, num_components, message):
    with pytest.raises(ValueError, match=message):
        fit_pca(points, num_components)


@pytest.mark.parametrize("name", PLANAR)
def test_planar_clouds_lie_on_their_curves_in_segments_of_equal_size(name):
    points, labels = sample_curve(0, PLANAR[name], 400, noise=0.0)
    assert points.shape == (400, 2)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(np.bincount(labels), np.full(8, 50))
    dense = PLANAR[name](np.linspace(0, 1, 40_000, endpoint=False))
    assert sklearn.neighbors.NearestNeighbors(n_neighbors=1).fit(dense).kneighbors(points)[0].max() < 1e-3
    assert 0.5 < points.std() < 2
    noisy, _ = sample_curve(0, PLANAR[name], 400, noise=0.1)
    np.testing.assert_allclose((noisy - points).std(), 0.1, rtol=0.1)
