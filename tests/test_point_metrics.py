"""Metrics of points against scikit-learn, SciPy and plain NumPy, and on four controls, in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from jaxcollapse import measures
from jaxcollapse.base import Measure
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.metrics import (
    POINT_METRICS,
    coverage,
    density,
    energy_distance,
    frechet,
    mode_entropy,
    modes_covered,
    nearest_distance,
    novelty,
    precision,
    recall,
    smallest_share,
    vendi,
)

pytestmark = pytest.mark.usefixtures("x64")

KEY, DIM = jax.random.key(0), 5
GENERATED, TRUE = 150, 120  # one shape for all, compiled once
CENTRES = 6 * np.eye(4, DIM)
METRICS = {
    "precision": precision(3),
    "recall": recall(3),
    "density": density(5),
    "coverage": coverage(5),
    "energy_distance": energy_distance,
    "nearest_distance": nearest_distance,
    "frechet": frechet,
    "vendi": vendi,
    "smallest_share": smallest_share(CENTRES),
    "mode_entropy": mode_entropy(CENTRES),
    "modes_covered": modes_covered(CENTRES, 0.1),
}


@jax.jit
def measure_all(generated, truth):
    return {name: metric(KEY, generated, truth) for name, metric in METRICS.items()}


def modes(seed, size, num=4, spread=1.0):
    """Draw as many points from each of the first modes."""
    return CENTRES[np.arange(size) % num] + spread * np.random.default_rng(seed).standard_normal((size, DIM))


def padded(points, weights, size, filler=1e3):
    """Fill up with points of mass zero, and with coordinates that are zero."""
    missing = size - len(points)
    points = np.pad(np.asarray(points, float), [(0, 0), (0, DIM - points.shape[1])])
    points = np.concatenate([np.full((missing, DIM), filler), points])
    return Measure(jnp.asarray(points), jnp.asarray(np.pad(np.asarray(weights, float), (missing, 0))))


def weighted(seed, size, filler=1e3):
    """Draw points with unequal masses; a fifth has none."""
    num = size * 4 // 5
    return padded(modes(seed, num), np.random.default_rng(seed).uniform(0.5, 3, num), size, filler)


def with_mass(measure):
    points, weights = (np.asarray(leaf, float) for leaf in measure)
    return points[weights > 0], weights[weights > 0] / weights.sum()


def neighbour_distance(points, k):
    # The first neighbour is the point itself.
    return NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points)[0][:, k]


def vendi_oracle(y, a):
    unit = y / np.linalg.norm(y, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(np.sqrt(np.outer(a, a)) * (unit @ unit.T))
    return np.exp(scipy.stats.entropy(np.maximum(eigenvalues, 0)))


def oracle(generated, truth):
    """Compute the published definitions, of points with shares of the mass."""
    (y, a), (x, b) = generated, truth
    cross = cdist(y, x)
    moments = [(share @ z, np.cov(z.T, aweights=share, ddof=0)) for z, share in (generated, truth)]
    (m1, c1), (m2, c2) = moments
    share = np.bincount(cdist(y, CENTRES).argmin(axis=1), a, minlength=4)
    return {
        "precision": a @ (cross <= neighbour_distance(x, 3)).any(axis=1),
        "recall": b @ (cross <= neighbour_distance(y, 3)[:, None]).any(axis=0),
        "density": a @ (cross <= neighbour_distance(x, 5)).sum(axis=1) / 5,
        "coverage": b @ (cross.min(axis=0) <= neighbour_distance(x, 5)),
        "energy_distance": 2 * a @ cross @ b - a @ cdist(y, y) @ a - b @ cdist(x, x) @ b,
        "nearest_distance": a @ cross.min(axis=1),
        "frechet": np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real),
        "vendi": vendi_oracle(y, a),
        "smallest_share": share.min(),
        "mode_entropy": scipy.stats.entropy(share),
        "modes_covered": (share > 0.1).sum(),
    }


@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float32, 1e-5), (jnp.float64, 1e-10)])
def test_metrics_agree_with_their_definitions(dtype, rtol):
    generated, truth = jax.tree.map(dtype, (weighted(0, GENERATED), weighted(1, TRUE)))
    expected = oracle(with_mass(generated), with_mass(truth))
    for name, value in measure_all(generated, truth).items():
        assert value.dtype == dtype, name
        assert_allclose(value, expected[name], rtol=rtol, err_msg=name)


def assert_same(actual, expected, names=METRICS, rtol=1e-10):
    for name in names:
        assert_allclose(actual[name], expected[name], rtol=rtol, err_msg=name)


def test_distances_keep_single_precision_far_from_the_origin():
    generated, truth = (
        Measure(jnp.float32(1000 + data.points / 100), jnp.float32(data.weights))
        for data in (weighted(0, GENERATED), weighted(1, TRUE))
    )
    names = ["precision", "recall", "density", "coverage", "energy_distance"]
    assert_same(measure_all(generated, truth), oracle(with_mass(generated), with_mass(truth)), names, rtol=1e-5)


def test_padding_and_the_scale_of_masses_change_nothing():
    first = measure_all(weighted(0, GENERATED), weighted(1, TRUE))
    generated, truth = weighted(0, GENERATED, filler=-9.0), weighted(1, TRUE, filler=0.0)
    order = np.random.default_rng(2).permutation(TRUE)
    assert_same(measure_all(generated, Measure(truth.points[order], 7 * truth.weights[order])), first)


def test_tiles_change_nothing(monkeypatch):
    data = weighted(0, GENERATED), weighted(1, TRUE)
    whole = measure_all(*data)
    monkeypatch.setattr(measures, "_TILE", TRUE * DIM * 7)
    assert_same(jax.jit(lambda *data: measure_all.__wrapped__(*data))(*data), whole, rtol=1e-12)


def test_masses_stand_for_copies_where_points_are_averaged():
    copies = np.random.default_rng(3).integers(1, 3, 75)

    def heavy_and_copied(seed, num, size):
        points, times = modes(seed, num), copies[:num]
        return padded(points, times, size), padded(points.repeat(times, axis=0), np.ones(times.sum()), size)

    heavy, copied = heavy_and_copied(4, 75, GENERATED)
    heavy_truth, copied_truth = heavy_and_copied(5, 60, TRUE)
    # Copies are neighbours of each other, and change the balls about them: of recall, or of all but recall.
    assert_same(measure_all(copied, heavy_truth), measure_all(heavy, heavy_truth), METRICS.keys() - {"recall"})
    names = METRICS.keys() - {"precision", "density", "coverage"}
    assert_same(measure_all(heavy, copied_truth), measure_all(heavy, heavy_truth), names)


def test_energy_distance_on_the_line_is_that_of_scipy():
    rng = np.random.default_rng(6)
    y, x, a, b = rng.standard_normal(40), 1 + rng.standard_normal(30), rng.uniform(0, 2, 40), rng.uniform(0, 2, 30)
    value = measure_all(padded(y[:, None], a, GENERATED), padded(x[:, None], b, TRUE))["energy_distance"]
    assert_allclose(value, scipy.stats.energy_distance(y, x, a, b) ** 2, rtol=1e-10)


def test_energy_distance_of_equal_measures_has_gradient_zero():
    measure = weighted(7, 10)
    slope = jax.jit(jax.grad(energy_distance, argnums=1))(KEY, measure, measure)
    assert all(np.abs(leaf).max() < 1e-10 for leaf in slope)


def test_vendi_score_of_fewer_points_than_dimensions():
    measure = weighted(8, DIM - 1)
    score = jax.jit(vendi)
    assert_allclose(score(KEY, measure, measure), vendi_oracle(*with_mass(measure)), rtol=1e-10)
    orthogonal = Measure(jnp.eye(DIM - 1, DIM) * jnp.arange(1.0, DIM)[:, None], jnp.ones(DIM - 1))
    assert_allclose(score(KEY, orthogonal, orthogonal), DIM - 1, rtol=1e-10)


def test_an_exact_copy_of_the_truth():
    points = modes(10, TRUE)
    copy = measure_all(padded(points, np.ones(TRUE), GENERATED), uniform_measure(points))
    assert_allclose([copy[name] for name in ("precision", "recall", "coverage")], 1, rtol=1e-12)
    assert_allclose(copy["density"], 6 / 5, rtol=1e-12)  # a closed ball holds its centre and k neighbours
    assert_allclose([copy["energy_distance"], copy["frechet"]], 0, atol=1e-10)


def test_duplicated_points_have_balls_of_radius_zero():
    spots, elsewhere = np.array([[0.1, 0.2], [3.3, 0.7]]), np.array([[0.1, 0.2], [0.1, 0.2001]])
    truth = padded(spots.repeat(6, axis=0), np.ones(12), TRUE)
    values = measure_all(padded(elsewhere, [1, 3], GENERATED), truth)
    expected = {"precision": 1 / 4, "density": 6 / 4 / 5, "coverage": 1 / 2, "recall": 1 / 2}
    assert_same(values, expected, expected)
    assert measure_all(padded(elsewhere, [0, 3], GENERATED), truth)["recall"] == 0  # one point reaches nowhere


def test_data_without_mass_have_no_metrics():
    empty = padded(modes(0, 9), np.zeros(9), GENERATED)
    values = measure_all(empty, weighted(1, TRUE))
    for name in ("precision", "density", "energy_distance", "vendi", "smallest_share", "mode_entropy"):
        assert np.isnan(values[name]), name


CONTROLS = {
    "same": lambda: modes(11, GENERATED),
    "shifted": lambda: modes(11, GENERATED) + 50,
    "collapsed": lambda: modes(11, GENERATED, spread=0.1),
    "dropped": lambda: modes(11, GENERATED, num=3),
}
# Lowest and highest value of each metric, of modes with variance 1 at 6 from the origin along four of five axes. Modes
# are told apart by direction, along which this shift does not go.
BOUNDS = {
    "precision": {"same": (0.7, 1), "shifted": (0, 0), "collapsed": (1, 1), "dropped": (0.7, 1)},
    "recall": {"same": (0.72, 1), "shifted": (0, 0), "collapsed": (0, 0.05), "dropped": (0.53, 0.75)},
    "density": {"same": (0.6, 1.4), "shifted": (0, 0), "collapsed": (2, 4), "dropped": (0.6, 1.5)},
    "coverage": {"same": (0.9, 1), "shifted": (0, 0), "collapsed": (0.5, 0.9), "dropped": (0.7, 0.78)},
    "energy_distance": {"same": (0, 0.1), "shifted": (208, 211), "collapsed": (0.2, 0.35), "dropped": (0.3, 0.8)},
    "nearest_distance": {"same": (0.8, 2), "shifted": (103, 112), "collapsed": (0.7, 1.5), "dropped": (0.8, 2)},
    "frechet": {"same": (0, 0.8), "shifted": (12_350, 12_650), "collapsed": (0.9, 2.7), "dropped": (5, 12)},
    "vendi": {"same": (4.15, 4.5), "shifted": (1, 1.05), "collapsed": (4, 4.1), "dropped": (3.4, 3.8)},
    "smallest_share": {"same": (0.23, 0.25), "shifted": (0.23, 0.25), "collapsed": (0.24, 0.25), "dropped": (0, 0.02)},
    "mode_entropy": {"same": (1.38, 1.39), "shifted": (1.38, 1.39), "collapsed": (1.38, 1.39), "dropped": (1.09, 1.16)},
    "modes_covered": {"same": (4, 4), "shifted": (4, 4), "collapsed": (4, 4), "dropped": (3, 3)},
}


@pytest.mark.parametrize("control", CONTROLS)
def test_metrics_on_controls(control):
    values = measure_all(uniform_measure(CONTROLS[control]()), uniform_measure(modes(12, TRUE)))
    for name, value in values.items():
        low, high = BOUNDS[name][control]
        assert low - 1e-12 <= value <= high + 1e-12, (name, value)


def test_new_samples_are_as_far_from_the_training_set_as_data_held_out():
    training, held_out, new = (uniform_measure(modes(seed, 2000)) for seed in (13, 14, 15))
    share = jax.jit(novelty(held_out))
    assert abs(share(KEY, new, training) - 1) < 0.06  # four errors of the ratio of two means of 2,000 distances
    assert share(KEY, training, training) == 0
    half = training.points.at[::2].set(new.points[::2])
    assert abs(share(KEY, uniform_measure(half), training) - 0.5) < 0.06


@pytest.mark.parametrize("name", POINT_METRICS)
def test_moments_are_refused_by_name(name):
    data = weighted(0, 20)
    with pytest.raises(
        TypeError, match=f"generated = Moments: {name} needs points, a Measure, as buffer_memory keeps them"
    ):
        jax.eval_shape(POINT_METRICS[name], KEY, as_moments(data), data)


@pytest.mark.parametrize("factory", [precision, recall, density, coverage])
def test_no_neighbours_are_refused(factory):
    with pytest.raises(ValueError, match=r"k = 0: must be at least 1"):
        factory(0)


def test_thresholds_that_are_no_share_are_refused():
    with pytest.raises(ValueError, match=r"threshold = 2: must be in \[0, 1\]"):
        modes_covered(CENTRES, 2)
