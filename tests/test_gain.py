"""What a generator does to data, as measured; and what a verifier will do, as predicted."""

import functools

import jax
import numpy as np
import pytest

import jaxcollapse as jc
from jaxcollapse.analysis import Interval, seed_interval
from jaxcollapse.gain import measure_expansion, predict_gain, surrogate
from jaxcollapse.generators import blend, contaminate, expand, gaussian, gaussian_mixture

RNG = np.random.default_rng(0)
CENTRES = np.array([[-4.0, 0.0], [4.0, 0.0]])
POINTS = (CENTRES[RNG.integers(0, 2, 400)] + RNG.standard_normal((400, 2))).astype(np.float32)
JUNK = jc.Moments(np.float32(1), np.array([0, 30], np.float32), np.eye(2, dtype=np.float32))
SETTING = {"num_kept": 60, "budget": 0.25, "num_generations": 2, "seeds": 4}


@functools.cache
def measured(name):
    return measure_expansion(MADE[name], POINTS, num_samples=400, seeds=12)


MADE = {
    "clean": gaussian(),
    "expanding": expand(gaussian(), 0.5),
    "contracting": blend(gaussian(), 0.5),
    "contaminated": contaminate(gaussian_mixture(3), 0.2, JUNK),
}


@pytest.mark.parametrize(("name", "factor"), [("clean", 1.0), ("expanding", 1.25), ("contracting", 0.75)])
def test_rates_are_those_of_the_defect(name, factor):
    """A refit to 400 points takes a share 1 / 400 of the covariance."""
    found = measured(name)
    for rate in (found.log_trace, found.log_determinant):
        error = (rate.high - rate.mean) / 2.2  # of Student's distribution with eleven degrees of freedom
        assert abs(rate.mean - np.log(factor * (1 - 1 / 400))) < 6 * error


def test_junk_is_told_apart():
    found = measured("contaminated")
    error = (found.junk_share.high - found.junk_share.mean) / 2.2
    assert abs(found.junk_share.mean - 0.2) < 6 * error
    np.testing.assert_allclose(found.junk.mean, JUNK.mean, atol=1.5)
    assert measured("clean").junk_share.mean < 0.02


def test_what_no_stand_in_does_is_refused():
    with pytest.raises(ValueError, match="seeds = 1: must be at least 2"):
        measure_expansion(gaussian(), POINTS, num_samples=10, seeds=1)
    found = measured("clean")
    for rate, message in ((np.nan, "log_trace = nan must be finite"), (-2.0, "must be at least half")):
        with pytest.raises(ValueError, match=message):
            surrogate(found._replace(log_trace=Interval(*(np.float64(rate + x) for x in (0, -0.1, 0.1)))), 10)


@pytest.mark.parametrize("name", ["clean", "contaminated"])
def test_the_sign_and_the_size_are_those_of_the_recursion(name):
    """A verifier that has seen one of two silos loses with a clean generator, and gains where a fifth is junk."""
    silos = [POINTS[POINTS[:, 0] < 0], POINTS[POINTS[:, 0] > 0]]
    generator = {"clean": gaussian_mixture(2)}.get(name, MADE[name])
    happened = [
        np.log(
            jc.simulate(
                generator, v, "accumulate_subsample", POINTS, silos=silos, metrics=("frechet",), **SETTING
            ).frechet
        )
        for v in ("single_silo", "random")
    ]
    found = measure_expansion(generator, POINTS, num_samples=400)
    key = jax.random.key(1)
    pool = generator.sample(key, generator.init(key, jc.uniform_measure(POINTS)), 240)
    predicted = predict_gain("single_silo", pool, silos, found, **SETTING)
    (a, low, high), (b, *_) = (seed_interval(x.to_numpy()[:, -1]) for x in (predicted, happened[0] - happened[1]))
    assert np.sign(a) == np.sign(b) == (1 if name == "clean" else -1)
    assert abs(a - b) < 0.5 * abs(b)
    assert low * high > 0
