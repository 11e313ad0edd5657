"""Features that a user's own function computes, on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxcollapse.data.features import cached_features, host_features, on_host

POINTS = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)


class Counted:
    """Two features of a point, and how many points were asked for."""

    def __init__(self):
        self.asked = 0

    def __call__(self, x):
        assert isinstance(x, np.ndarray)
        self.asked += len(x)
        return np.stack([x.sum(axis=1), np.abs(x).max(axis=1)], axis=1).astype(np.float64)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 256])
def test_batches_are_put_together(batch_size):
    found = host_features(Counted(), POINTS, batch_size)
    assert found.dtype == np.float32
    assert_array_equal(found, Counted()(POINTS).astype(np.float32))


def test_features_of_integers_are_floating():
    images = np.arange(40, dtype=np.uint8).reshape(10, 4)
    mean = lambda x: x.mean(axis=1, keepdims=True) / 255
    found = host_features(mean, images, 3)
    assert found.dtype == np.float32
    assert_allclose(found, mean(images), rtol=1e-6)
    assert_array_equal(jax.jit(on_host(mean, 1))(images), found)


def test_features_are_computed_once_for_the_same_points(tmp_path):
    function, path = Counted(), tmp_path / "features.npz"
    first = cached_features(path, function, POINTS)
    assert_array_equal(cached_features(path, function, POINTS.copy()), first)
    assert function.asked == 10
    changed = POINTS + np.float32(1e-6)
    assert_array_equal(cached_features(path, function, changed), Counted()(changed).astype(np.float32))
    assert function.asked == 20


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: np.zeros((len(x), 3 + (x[0, 0] == POINTS[6, 0]))), r"features of 3 points: shape \(3, 4\) must be"),
        (lambda x: np.zeros(len(x)), r"shape \(3,\) must be \(3, 3\)"),
        (lambda x: np.zeros((1, 2)), r"shape \(1, 2\) must be \(3, 2\)"),
        (lambda x: np.full((len(x), 2), np.nan), "features of points from 0 on: 6 values are not finite"),
    ],
)
def test_wrong_features_are_refused_and_nothing_is_cached(function, message, tmp_path, monkeypatch):
    monkeypatch.setitem(host_features.__globals__, "host_features", lambda f, x: host_features(f, x, 3))
    with pytest.raises(ValueError, match=message):
        cached_features(tmp_path / "features.npz", function, POINTS)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_computation_caches_nothing(tmp_path):
    def function(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_features(tmp_path / "features.npz", function, POINTS)
    assert list(tmp_path.iterdir()) == []


def test_compiled_programs_call_the_function():
    embed = jax.jit(lambda x: 2 * on_host(Counted(), 2)(x))
    assert_allclose(embed(jnp.asarray(POINTS)), 2 * Counted()(POINTS), rtol=1e-6)
    mapped = jax.jit(jax.vmap(on_host(Counted(), 2)))(jnp.asarray(POINTS.reshape(2, 5, 4)))
    assert_allclose(mapped.reshape(10, 2), Counted()(POINTS), rtol=1e-6)
