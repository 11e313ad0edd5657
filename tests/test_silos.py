import math

import numpy as np
import pytest
from scipy import stats

from jaxcollapse import silos
from jaxcollapse.measures import as_moments

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 200))
UNEQUAL = np.repeat([7, -1, 3], [50, 300, 120])

SEEDED = {
    "iid": lambda seed: silos.iid_split(seed, len(LABELS), 7),
    "dirichlet": lambda seed: silos.dirichlet_split(seed, LABELS, 7, 0.3),
    "exdir": lambda seed: silos.exdir_split(seed, LABELS, 7, 3, 0.3),
}
SPLITS = SEEDED | {"class": lambda seed: silos.class_split(LABELS, 7)}


def shares(split, labels):
    """Share of each class (row) that each silo (column) holds."""
    counts = [[np.sum(labels[index] == c) for index in split] for c in np.unique(labels)]
    return np.array(counts) / np.sum(counts, axis=1, keepdims=True)


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("seed", range(5))
def test_splits_are_partitions(name, seed):
    split = SPLITS[name](seed)
    assert len(split) == 7
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(len(LABELS)))
    assert min(map(len, split)) >= 10


@pytest.mark.parametrize("name", SEEDED)
def test_seed_determines_split(name):
    first, again, other = (SEEDED[name](seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_global_generator_is_untouched():
    before = np.random.get_state()[1].copy()
    for split in SEEDED.values():
        split(0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_iid_split_is_even_and_shuffled():
    split = silos.iid_split(0, 1003, 10)
    assert sorted(map(len, split)) == [100] * 7 + [101] * 3
    # The mean of m of n integers has standard deviation sqrt((n - m) (n + 1) / (12 m)).
    z = [(index.mean() - 501) / math.sqrt((1003 - len(index)) * 1004 / (12 * len(index))) for index in split]
    assert np.abs(z).max() < 4


def test_class_split_deals_whole_classes_in_turn():
    split = silos.class_split(LABELS, 4)
    held = [sorted(set(LABELS[index].tolist())) for index in split]
    assert held == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]
    held = [set(UNEQUAL[index].tolist()) for index in silos.class_split(UNEQUAL, 3)]
    assert held == [{-1}, {3}, {7}]


@pytest.mark.parametrize("alpha", [0.1, 1.0, 20.0])
def test_dirichlet_shares_follow_their_law(alpha):
    num_classes, num_silos = 400, 5
    labels = np.repeat(np.arange(num_classes), 1000)
    p = shares(silos.dirichlet_split(0, labels, num_silos, alpha), labels)
    mean = 1 / num_silos
    variance = mean * (1 - mean) / (num_silos * alpha + 1)
    margin = stats.beta(alpha, (num_silos - 1) * alpha)
    fourth = margin.expect(lambda x: (x - mean) ** 4)
    z_mean = (p.mean(axis=0) - mean) / math.sqrt(variance / num_classes)
    z_variance = (np.mean((p - mean) ** 2, axis=0) - variance) / math.sqrt((fourth - variance**2) / num_classes)
    assert np.abs(z_mean).max() < 4
    assert np.abs(z_variance).max() < 4


def test_dirichlet_margin_is_beta():
    alpha, num_silos = 1.0, 5
    labels = np.repeat(np.arange(400), 1000)
    p = shares(silos.dirichlet_split(1, labels, num_silos, alpha), labels)
    for column in p.T:
        assert stats.kstest(column, stats.beta(alpha, (num_silos - 1) * alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_large_alpha_is_nearly_even(seed):
    p = shares(silos.dirichlet_split(seed, LABELS, 5, 1e6), LABELS)
    np.testing.assert_allclose(p, 1 / 5, atol=0.01)


def test_tiny_alpha_gives_whole_classes():
    """Gamma variables of shape 1e-6 underflow even in double precision."""
    labels = np.repeat(np.arange(60), 20)
    p = shares(silos.dirichlet_split(0, labels, 3, 1e-6), labels)
    assert np.isin(p, [0, 1]).all()


@pytest.mark.parametrize("classes_per_silo", [1, 2, 5, 10])
@pytest.mark.parametrize("seed", range(5))
def test_exdir_bounds_classes_and_sizes(classes_per_silo, seed):
    split = silos.exdir_split(seed, LABELS, 10, classes_per_silo, 0.5, min_size=12)
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(len(LABELS)))
    assert all(len(np.unique(LABELS[index])) <= classes_per_silo for index in split)
    assert min(map(len, split)) >= 12


def test_exdir_rounding_gives_nothing_to_strangers():
    """A class of 999 samples whose shares add up to just below one must not leak into the last silo."""
    labels = np.repeat(np.arange(4), 999)
    for seed in range(200):
        split = silos.exdir_split(seed, labels, 8, 2, 5.0)
        assert all(len(np.unique(labels[index])) <= 2 for index in split)


@pytest.mark.parametrize("seed", range(3))
def test_published_exdir_is_a_permutation_of_classes(seed):
    """Ten silos of one among ten classes, every class held: each silo holds one whole class."""
    split = silos.exdir_split(seed, LABELS, 10, 1, 0.1)
    held = [np.unique(LABELS[index]) for index in split]
    assert [len(classes) for classes in held] == [1] * 10
    np.testing.assert_array_equal(np.sort(np.concatenate(held)), np.arange(10))
    assert [len(index) for index in split] == [200] * 10


def test_exdir_gives_every_class_enough_silos():
    """With C K / L / 5 = 2, at least 2 silos a class: one draw in twenty breaks this before it is redrawn."""
    labels = np.repeat(np.arange(100), 200)
    for seed in range(40):
        split = silos.exdir_split(seed, labels, 1000, 1, 1e4, min_size=1)
        held = [labels[index[0]] for index in split]
        assert all((labels[index] == c).all() for index, c in zip(split, held, strict=True))
        assert np.bincount(held).min() >= 2


def test_exdir_draws_classes_uniformly():
    labels = np.repeat(np.arange(5), 100)
    draws = 400
    silo_zero = [np.unique(labels[silos.exdir_split(seed, labels, 6, 2, 1e4)[0]]) for seed in range(draws)]
    counts = np.bincount(np.concatenate(silo_zero), minlength=5)
    assert np.abs((counts - draws * 0.4) / math.sqrt(draws * 0.4 * 0.6)).max() < 4


def test_exdir_shares_follow_their_law():
    """Where silos hold all classes, ExDir(L, alpha) is Dirichlet(alpha)."""
    labels = np.repeat(np.arange(200), 500)
    p = shares(silos.exdir_split(2, labels, 4, 200, 0.7), labels)
    for column in p.T:
        assert stats.kstest(column, stats.beta(0.7, 3 * 0.7).cdf).pvalue > 1e-3


def test_stack_pads_with_mass_zero_and_keeps_moments():
    points = 3 + np.random.default_rng(1).normal(size=(len(LABELS), 4))
    split = silos.exdir_split(0, LABELS, 6, 3, 0.3)
    measure = silos.stack_silos(points, split)
    size = max(map(len, split))
    assert len(set(map(len, split))) > 1
    assert measure.points.shape == (6, size, 4)
    assert measure.points.dtype == measure.weights.dtype == np.float32
    moments = as_moments(measure)
    for k, index in enumerate(split):
        np.testing.assert_array_equal(measure.weights[k], np.arange(size) < len(index))
        np.testing.assert_array_equal(measure.points[k, : len(index)], points[index].astype(np.float32))
        assert moments.mass[k] == len(index)
        np.testing.assert_allclose(moments.mean[k], points[index].mean(axis=0), rtol=1e-5)
        expected = np.cov(points[index], rowvar=False, bias=True)
        np.testing.assert_allclose(moments.covariance[k], expected, atol=1e-5)


def dirichlet(seed=0, labels=LABELS, num_silos=5, alpha=1.0, min_size=10):
    return silos.dirichlet_split(seed, labels, num_silos, alpha, min_size)


def exdir(seed=0, labels=LABELS, num_silos=10, classes_per_silo=2, alpha=1.0, min_size=10):
    return silos.exdir_split(seed, labels, num_silos, classes_per_silo, alpha, min_size)


@pytest.mark.parametrize("split", [dirichlet, exdir])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed = -1: must be at least 0"),
        ({"labels": LABELS[:, None]}, r"labels: shape \(2000, 1\) must be \[n\]"),
        ({"labels": []}, r"labels: shape \(0,\) must be \[n\]"),
        ({"num_silos": 0}, "num_silos = 0: must be at least 1"),
        ({"num_silos": 2001}, "num_silos = 2001: must be at most 2000"),
        ({"num_silos": 2.5}, "num_silos = 2.5: must be a whole number"),
        ({"seed": 2.5}, "seed = 2.5: must be a whole number"),
        ({"labels": 3}, r"labels: shape \(\) must be \[n\]"),
        ({"labels": [[1], [1, 2]]}, "labels = .*: must be numbers or texts"),
        ({"min_size": 0}, "min_size = 0: must be at least 1"),
        ({"num_silos": 300}, "num_silos = 300 of at least min_size = 10 among 2000 samples: impossible; lower"),
        ({"alpha": 0}, r"alpha = 0: must be in \[1e-06, 1e\+06\]"),
        ({"alpha": -0.1}, "alpha = -0.1: must be in"),
        ({"alpha": math.nan}, "alpha = nan: must be in"),
        ({"alpha": math.inf}, "alpha = inf: must be in"),
    ],
)
def test_bad_arguments_are_named(split, arguments, message):
    with pytest.raises(ValueError, match=message):
        split(**arguments)


@pytest.mark.parametrize("classes_per_silo", [0, 11])
def test_exdir_rejects_class_counts(classes_per_silo):
    with pytest.raises(ValueError, match=rf"classes_per_silo = {classes_per_silo}: must be at (least 1|most 10)$"):
        exdir(classes_per_silo=classes_per_silo)


def test_exdir_rejects_too_few_places():
    with pytest.raises(ValueError, match=r"num_silos = 4 with classes_per_silo = 2, .*impossible; raise"):
        exdir(num_silos=4)


def test_class_draws_are_bounded(monkeypatch):
    monkeypatch.setattr(silos, "MAX_CLASS_DRAWS", 100)
    labels = np.repeat(np.arange(30), 20)
    with pytest.raises(ValueError, match="each of 30 classes in at least 1 silos: not met in 100 draws; raise"):
        exdir(labels=labels, num_silos=30, classes_per_silo=1)


@pytest.mark.parametrize("split", [dirichlet, exdir])
def test_share_draws_are_bounded(split, monkeypatch):
    monkeypatch.setattr(silos, "MAX_SHARE_DRAWS", 100)
    message = "of at least min_size = 150 among 2000 samples, alpha = 0.01: not met in 100 draws; raise alpha"
    with pytest.raises(ValueError, match=message):
        split(num_silos=12, alpha=0.01, min_size=150)


@pytest.mark.parametrize(
    ("num_silos", "per_silo", "min_size", "message"),
    [
        (1000, 1, 1, "a draw succeeds with probability 8e-200"),
        (5000, 1, 1, "not met in 3 draws"),
        (1000, 10, 10, "not met in 10 draws"),
    ],
)
def test_a_thousand_classes_have_few_draws(num_silos, per_silo, min_size, message):
    with pytest.raises(ValueError, match=message):
        silos.exdir_split(0, np.repeat(np.arange(1000), 50), num_silos, per_silo, 0.1, min_size)


def test_full_retry_bounds_end_in_time():
    with pytest.raises(ValueError, match="not met in 10000 draws"):
        dirichlet(num_silos=100, alpha=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: silos.class_split(LABELS, 11), "num_silos = 11: must be at most 10"),
        (lambda: silos.class_split(LABELS, 0), "num_silos = 0: must be at least 1"),
        (lambda: silos.class_split(LABELS[None], 2), r"labels: shape \(1, 2000\)"),
        (lambda: silos.iid_split(0, 5, 6), "num_silos = 6: must be at most 5"),
        (lambda: silos.iid_split(0, 0, 1), "num_samples = 0: must be at least 1"),
        (lambda: silos.iid_split(-1, 5, 1), "seed = -1: must be at least 0"),
        (lambda: silos.stack_silos(np.ones(3), ([0],)), r"points: shape \(3,\) must be \[n, d\]"),
        (lambda: silos.stack_silos([[1.0], [1.0, 2.0]], ([0],)), "points = .*: must be a number"),
        (lambda: silos.stack_silos(np.ones((3, 0)), ([0],)), r"points: shape \(3, 0\) must be \[n, d\]"),
        (lambda: silos.split(np.ones((3, 2)), [0, 1], "iid", num_silos=2), "labels: 2 are given for points of shape"),
        (lambda: silos.split(np.ones((3, 2)), [0, 1, 1], None, num_silos=2), "split None is not known"),
        (lambda: silos.stack_silos([[np.nan]], ([0],)), r"points: 1 values are not finite"),
        (lambda: silos.stack_silos(np.ones((3, 1)), ([0], [])), "size of the smallest silo = 0: must be"),
        (lambda: silos.stack_silos(np.ones((3, 1)), ()), "size of the smallest silo = 0: must be"),
    ],
)
def test_other_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
