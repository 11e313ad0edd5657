"""Defects of generators: what they add to samples, and nothing to fits."""

import jax
import numpy as np
import pytest

from jaxcollapse.base import Measure, Moments
from jaxcollapse.generators import blend, contaminate, expand, gaussian, jitter, kernel_density

KEY, NUM = jax.random.key(0), 20_000
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2)) @ [[1.0, 0.5], [0.0, 2.0]]
DATA = Measure(X, np.ones(len(X)))
JUNK = Moments(np.ones(()), np.array([9.0, 0.0]), np.eye(2))


def sampled(generator, size=NUM):
    return np.asarray(generator.sample(KEY, generator.init(KEY, DATA), size))


def test_fits_are_those_of_the_generator():
    plain = gaussian(0.1).init(KEY, DATA)
    for worse in (expand(gaussian(0.1), 0.5), contaminate(gaussian(0.1), 0.2, JUNK)):
        jax.tree.map(np.testing.assert_array_equal, worse.init(KEY, DATA), plain)
        jax.tree.map(np.testing.assert_array_equal, worse.fit(KEY, plain, DATA), plain)
        assert worse.takes_moments


def test_noise_multiplies_the_covariance_of_samples_where_a_law_is_not_known():
    """With noise of twice the spread a fifth of the variance is the generator's; 40 centres, of bandwidth zero."""
    draws = sampled(expand(kernel_density(len(X), 0.0), 2.0))
    assert expand(kernel_density(len(X), 0.0), 2.0).law is None
    centred, expected = draws - X.mean(0), 5 * np.cov(X.T, bias=True)
    products = np.einsum("ni,nj->nij", centred, centred)
    assert (abs(products.mean(0) - expected) < 4.5 * products.std(0) / NUM**0.5).all()


def test_noise_of_one_size_adds_to_the_covariance_and_blends_take_from_it():
    """Of 40 centres of bandwidth zero; half of a covariance is left to a mean of two, three quarters where half are."""
    covariance = np.cov(X.T, bias=True)
    model = kernel_density(len(X), 0.0)
    for worse, expected in (
        (jitter(model, 1.5), covariance + 2.25 * np.eye(2)),
        (blend(model, 0.5), 0.75 * covariance),
    ):
        centred = sampled(worse) - X.mean(0)
        products = np.einsum("ni,nj->nij", centred, centred)
        assert (abs(products.mean(0) - expected) < 4.5 * products.std(0) / NUM**0.5).all()
    blends = sampled(blend(model, 1.0), 100)
    pairs = ((X[:, None] + X) / 2).reshape(-1, 2)
    assert abs(blends[:, None] - pairs).max(axis=-1).min(axis=1).max() < 1e-5


def test_noise_of_zero_and_a_share_of_zero_or_one():
    model = kernel_density(len(X), 0.0)
    assert np.isin(sampled(expand(model, 0.0), 100), X.astype(np.float32)).all()
    assert np.isin(sampled(contaminate(model, 0.0, JUNK), 100), X.astype(np.float32)).all()
    assert not np.isin(sampled(contaminate(model, 1.0, JUNK), 100), X.astype(np.float32)).any()


@pytest.mark.parametrize("junk", [(JUNK,), (Measure(X + 9, np.ones(len(X))), "points")])
def test_a_share_of_samples_is_junk_of_any_law(junk):
    params, *of_points = junk
    source = kernel_density(len(X), 0.0)
    arguments = (source.init(KEY, params), source) if of_points else (params,)
    draws = sampled(contaminate(gaussian(), 0.3, *arguments))
    shares = (draws[:, 0] > 4.5).astype(float)  # between the model and the junk, each 4 deviations away
    assert abs(shares.mean() - 0.3) < 4.5 * shares.std() / NUM**0.5
    assert (contaminate(gaussian(), 0.3, *arguments).law is None) == bool(of_points)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: expand(gaussian(), -0.1), "noise = -0.1: must be at least 0"),
        (lambda: jitter(gaussian(), -0.1), "scale = -0.1: must be at least 0"),
        (lambda: blend(gaussian(), 1.5), r"share = 1.5: must be in \[0, 1\]"),
        (lambda: contaminate(gaussian(), 1.5, JUNK), r"share = 1.5: must be in \[0, 1\]"),
    ],
)
def test_bad_numbers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
