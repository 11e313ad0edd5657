"""The classifier against plain NumPy, scikit-learn, and problems whose best accuracy is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal, stats
from sklearn.metrics import log_loss

from jaxcollapse import classifier as library
from jaxcollapse.base import Measure
from jaxcollapse.classifier import Classifier, fit_classifier
from jaxcollapse.measures import uniform_measure
from jaxcollapse.tree import row

KEY = jax.random.key(0)
accuracy, classify, log_probabilities, penultimate, risk = map(
    jax.jit, (library.accuracy, library.classify, library.log_probabilities, library.penultimate, library.risk)
)


@jax.jit
def fit(data, labels, key=KEY):
    return fit_classifier(key, data, labels, num_steps=200, batch_size=64, width=32, num_features=16)


def one_hot(labels, num_classes=2):
    return jnp.asarray(np.eye(num_classes, dtype=np.float32)[labels])


@pytest.fixture(scope="module")
def blobs():
    """Draw two unit Gaussians, two deviations to either side of a plane through an arbitrary place."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 4000)
    x = np.float32(5 + rng.standard_normal((4000, 3)) + np.outer(4 * labels - 2, [0, 0.6, 0.8]))
    return uniform_measure(x), one_hot(labels)


def first(data, labels):
    """Take a thousand to learn from."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:1000], (data, labels))


def test_network_is_the_stated_one():
    rng = np.random.default_rng(1)
    shapes = [(4,), (), (5, 6), (7, 3), (4, 2)]
    mean, scale, *layers = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    x = jnp.asarray(rng.standard_normal((10, 4)), jnp.float32)
    ones = np.ones((10, 1))
    h = (x - mean) / scale
    for weights in layers[:2]:
        h = np.maximum(np.hstack([h, ones]) @ weights, 0)
    scores = np.hstack([h, ones]) @ layers[2]
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    classifier = Classifier(*map(jnp.asarray, (mean, scale, *layers)))
    assert_allclose(penultimate(classifier, x), h, rtol=1e-4, atol=1e-5)
    assert_allclose(jnp.exp(log_probabilities(classifier, x)), expected, rtol=1e-4, atol=1e-6)
    assert_array_equal(classify(classifier, x), scores.argmax(axis=1))

    labels, mass = rng.integers(0, 2, 10), rng.integers(0, 3, 10)
    data = Measure(x, jnp.asarray(mass, jnp.float32))
    oracle = log_loss(labels, expected, sample_weight=mass, labels=[0, 1])
    assert_allclose(risk(classifier, data, one_hot(labels)), oracle, rtol=1e-4)
    share = np.average(expected.argmax(axis=1) == labels, weights=mass)
    assert_allclose(accuracy(classifier, data, one_hot(labels)), share, rtol=1e-6)


def test_convolutions_are_those_of_scipy():
    rng = np.random.default_rng(2)
    images = rng.standard_normal((3, 5, 4, 2)).astype(np.float32)
    kernel, offset = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 3, 2, 3), (3,)))
    last = [np.eye(18, dtype=np.float32) for _ in range(3)]  # 3 x 2 places of 3 channels; a last row of zeros
    expected = np.stack([
        [sum(signal.correlate2d(x[..., i], kernel[..., i, o], "same") for i in range(2))[::2, ::2] for o in range(3)]
        for x in images
    ])  # fmt: skip
    expected = np.maximum(np.moveaxis(expected, 1, -1) + offset, 0).reshape(3, -1)
    dense = [np.vstack([layer, np.zeros((1, 18), np.float32)]) for layer in last]
    arrays = map(jnp.asarray, (np.zeros(40, np.float32), np.float32(1), *dense))
    filters = ((jnp.asarray(kernel), jnp.asarray(offset)),)
    classifier = Classifier(*arrays, filters=filters, shape=(5, 4, 2))
    assert_allclose(penultimate(classifier, jnp.asarray(images.reshape(3, -1))), expected, rtol=1e-4, atol=1e-5)


def test_convolutions_learn_what_moves():
    """A bar that stands or lies, anywhere."""
    rng = np.random.default_rng(3)
    labels, places = rng.integers(0, 2, 1800), rng.integers(1, 7, (1800, 2))
    images = 0.1 * rng.standard_normal((1800, 8, 8))
    for image, standing, (i, j) in zip(images, labels, places, strict=True):
        image[(slice(i - 1, i + 2), j) if standing else (i, slice(j - 1, j + 2))] = 1
    points, one = jnp.asarray(images.reshape(1800, -1), jnp.float32), one_hot(labels)
    settings = {
        "num_steps": 400,
        "batch_size": 64,
        "width": 16,
        "num_features": 8,
        "shape": (8, 8, 1),
        "channels": (8,),
    }
    made = jax.jit(functools.partial(fit_classifier, **settings))(KEY, uniform_measure(points[:1500]), one[:1500])
    assert accuracy(made, uniform_measure(points[1500:]), one[1500:]) > 0.95


def test_two_gaussians_are_told_apart_as_well_as_can_be(blobs):
    data, labels = blobs
    right = accuracy(fit(*first(data, labels)), *jax.tree.map(lambda leaf: np.asarray(leaf)[1000:], (data, labels)))
    best = stats.norm.cdf(2)
    assert abs(right - best) < 0.01 + 3.9 * np.sqrt(best * (1 - best) / 3000)


def test_padding_changes_nothing(blobs):
    data, labels = first(*blobs)
    there = np.arange(1000) < 300
    near, far = (
        Measure(np.where(there[:, None], data.points, np.float32(x)), there.astype(np.float32)) for x in (0, 1e3)
    )
    for expected, actual in zip(*(jax.tree.leaves(fit(data, labels)) for data in (near, far)), strict=True):
        assert_array_equal(actual, expected)


def test_only_what_has_mass_is_learnt(blobs):
    data, labels = blobs
    some, of_some = first(data, labels)
    assert not np.any(classify(fit(some._replace(weights=of_some[:, 0]), of_some), data.points))


def test_masses_are_probabilities_of_being_learnt_from():
    x = jnp.full((2, 1), 3.0)
    data = Measure(x, jnp.asarray([3.0, 1.0]))
    settings = {"num_steps": 200, "width": 8, "num_features": 4, "learning_rate": 0.1}
    classifier = jax.jit(functools.partial(fit_classifier, **settings))(KEY, data, one_hot([0, 1]))
    assert abs(np.exp(log_probabilities(classifier, x))[0, 0] - 0.75) < 0.05


@pytest.mark.parametrize("mass", [0.0, 1.0])
def test_data_without_mass_or_spread_give_finite_weights(mass):
    data = Measure(jnp.full((8, 2), 0.5), jnp.full(8, mass))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit(data, one_hot(np.arange(8) % 2))))


def test_mapped_fits_are_those_of_a_loop(blobs):
    data, labels = blobs
    pieces = jax.tree.map(lambda leaf: np.reshape(leaf[:2000], (2, 1000, *leaf.shape[1:])), (data, labels))
    keys = jax.random.split(KEY, 2)
    mapped = jax.jit(jax.vmap(fit))(*pieces, keys)
    for i in range(2):
        alone = fit(*row(pieces, i), keys[i])
        model = row(jax.device_get(mapped), i)
        assert_allclose(log_probabilities(model, data.points), log_probabilities(alone, data.points), atol=2e-3)


@pytest.mark.parametrize(("name", "value"), [("num_steps", 0), ("batch_size", 0)])
def test_numbers_are_checked(blobs, name, value):
    with pytest.raises(ValueError, match=f"{name} = 0: must be at least 1"):
        fit_classifier(KEY, *blobs, **{"num_steps": 1, "batch_size": 1} | {name: value})
