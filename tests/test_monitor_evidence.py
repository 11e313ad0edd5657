"""Statistics and evidence of the monitor against closed forms, plain NumPy and SciPy."""

import numpy as np
import pytest
import scipy

from jaxcollapse.pipeline.monitor import evidence, statistics

RNG = np.random.default_rng(20)
ROWS = np.array([50.0, 80, 40, 60, 70, 90])
STEPS = np.array([0.01, 0.02, 0.005, 0.01, 0.03])
C = evidence.covariance(ROWS, STEPS)
TAUS = evidence.scales(50.0, np.full(evidence.MOST, 0.01))


def test_covariance_is_that_of_a_walk_seen_through_noise():
    # Differences are a linear map of independent noise: of sample 0, of samples 1..T, and of the steps.
    first, noise, walked = -np.ones((5, 1)), np.eye(5), np.tri(5)
    linear = np.hstack([first, noise, walked])
    variances = np.concatenate([1 / ROWS, STEPS])
    np.testing.assert_allclose(linear @ np.diag(variances) @ linear.T, C, rtol=1e-12)


def by_hand(differences, one_sided):
    """Average likelihood ratios of every shape and scale: by quadrature, or of normal laws."""
    ratios = []
    for g, taus in zip(evidence.shapes(len(differences)).T, TAUS, strict=True):
        for tau2 in taus:
            if one_sided:

                def ratio(theta, g=g, tau2=tau2):
                    laws = [
                        scipy.stats.multivariate_normal(mean, C).logpdf(differences[:, 0])
                        for mean in (theta * g, 0 * g)
                    ]
                    return 2 * scipy.stats.norm.pdf(theta, scale=tau2**0.5) * np.exp(laws[0] - laws[1])

                ratios.append(scipy.integrate.quad(ratio, 0, 12 * tau2**0.5, limit=200)[0])
            else:
                laws = [
                    scipy.stats.multivariate_normal(0 * g, c).logpdf(differences.T).sum()
                    for c in (C + tau2 * np.outer(g, g), C)
                ]
                ratios.append(np.exp(laws[0] - laws[1]))
    return np.log(np.mean(ratios))


@pytest.mark.parametrize(("p", "one_sided"), [(1, True), (3, False)])
def test_evidence_is_the_mean_likelihood_ratio(p, one_sided):
    differences = np.linalg.cholesky(C) @ RNG.standard_normal((5, p)) + 0.1 * np.arange(1, 6)[:, None]
    found = evidence.log_evidence(differences, C, TAUS, one_sided=one_sided)
    np.testing.assert_allclose(found[-1], by_hand(differences, one_sided), rtol=1e-6)
    before = evidence.log_evidence(differences[:3], C[:3, :3], TAUS, one_sided=one_sided)
    np.testing.assert_allclose(found[:3], before, rtol=1e-12)  # no generation changes the evidence of earlier ones


def test_evidence_of_a_loss_grows_with_the_loss_alone():
    loss = 0.5 * np.arange(1, 6)[:, None]
    assert evidence.log_evidence(loss, C, TAUS, one_sided=True)[-1] > 5
    assert evidence.log_evidence(-loss, C, TAUS, one_sided=True)[-1] < 0


def test_evidence_rarely_passes_its_threshold():
    """Ville's inequality at the evidence 20, in runs of 20 generations of exact normal differences."""
    runs, walk = 2000, np.full(20, 1 / 1000)
    c = evidence.covariance(np.full(21, 500.0), walk)
    taus = evidence.scales(500.0, np.full(evidence.MOST, 1 / 1000))
    d = np.einsum("ij,rjp->rip", np.linalg.cholesky(c), np.random.default_rng(21).standard_normal((runs, 20, 2)))
    for one_sided, p in ((True, 1), (False, 2)):
        ever = evidence.log_evidence(d[..., :p], c, taus, one_sided=one_sided).max(axis=-1) >= np.log(20)
        assert ever.sum() <= scipy.stats.binom.ppf(1 - 1e-4, runs, 1 / 20)


@pytest.mark.parametrize("workflow", evidence.WORKFLOWS)
def test_steps_are_those_of_a_mean_that_is_refitted(workflow):
    n, t, runs = 10, 4, 40_000
    rng, model = np.random.default_rng(22), np.zeros(runs)
    data, walked = [rng.standard_normal(runs) / n**0.5], []
    start = model = data[0]  # mean of n rows of unit variance, as each generation adds
    for _ in range(t):
        data.append(model + rng.standard_normal(runs) / n**0.5)
        model = data[-1] if workflow == "replace" else np.mean(data, axis=0)
        walked.append(model - start)
    expected = np.cumsum(evidence.steps(workflow, n, t))
    error = expected * np.sqrt(2 / runs)
    assert np.all(np.abs(np.var(walked, axis=1) - expected) < 4.1 * error)


def test_slope_and_prediction_are_those_of_a_vague_prior():
    """Condition a normal law jointly on the past, with a prior of large variance for the slope."""
    g, vague = evidence.progress("accumulate", np.arange(1, 6)), 1e4
    d = RNG.standard_normal(3)
    joint = C + vague * np.outer(g, g)
    gain = joint[3:, :3] @ np.linalg.inv(joint[:3, :3])
    expected, variance = gain @ d, np.diag(joint[3:, 3:] - gain @ joint[:3, 3:])
    found, deviation = evidence.predict(d, C, g)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    np.testing.assert_allclose(deviation**2, variance, rtol=1e-3)
    theta, information, chi2 = evidence.slope(d, C[:3, :3], g[:3])
    residual = d - theta * g[:3]
    np.testing.assert_allclose(g[:3] @ np.linalg.solve(C[:3, :3], residual), 0, atol=1e-9)
    np.testing.assert_allclose(chi2, residual @ np.linalg.solve(C[:3, :3], residual))
    np.testing.assert_allclose(1 / information, 1 / (g[:3] @ np.linalg.solve(C[:3, :3], g[:3])))


def test_uniform_interval_ends_where_the_mixture_says_so():
    information, tau2, a = 7.0, 0.3, 0.05
    radius = evidence.uniform_radius(information, tau2, a)
    mixture = scipy.stats.norm.pdf(radius, scale=(1 / information + tau2) ** 0.5)
    null = scipy.stats.norm.pdf(radius, scale=(1 / information) ** 0.5)
    np.testing.assert_allclose(mixture / null, 1 / a)


REFERENCE = np.random.default_rng(23).standard_normal((2000, 4))
WITHIN = statistics.frame(REFERENCE, 1000)
FIRST = statistics.moments(WITHIN, np.random.default_rng(24).standard_normal((1000, 4)))
UNCAPPED = FIRST._replace(cap=1e9)


def test_spread_and_volume_are_those_of_the_covariance():
    x = RNG.standard_normal((300, 4)) * [1, 2, 0.5, 1]
    found = statistics.measure(WITHIN, UNCAPPED, x)
    covariance = np.cov(((x - WITHIN.centre) @ WITHIN.axes).T)
    bias = np.mean([scipy.special.digamma((300 - i) / 2) - np.log(299 / 2) for i in (1, 2, 3, 4)])
    np.testing.assert_allclose(found.spread, np.log(np.trace(covariance) / 4))
    np.testing.assert_allclose(found.volume, np.linalg.slogdet(covariance)[1] / 4 - bias)
    np.testing.assert_allclose(found.mean, ((x - WITHIN.centre) @ WITHIN.axes).mean(axis=0), atol=1e-12)


def test_deviation_of_the_volume_is_the_jackknife():
    x = RNG.standard_t(8, (60, 4))
    left_out = [np.linalg.slogdet(np.cov(np.delete(x, i, axis=0).T, ddof=0))[1] / 4 for i in range(60)]
    found = statistics.measure(WITHIN, UNCAPPED, x).volume_deviation
    np.testing.assert_allclose(found, 59 * np.std(left_out), rtol=1e-9)


def test_statistics_vary_as_they_say():
    """Their variance over samples is near sigma^2 / N: chi-square of 400 samples, bounds of one in 10^4."""
    rng, runs, num = np.random.default_rng(25), 400, 200
    found = [statistics.measure(WITHIN, FIRST, rng.standard_normal((num, 4))) for _ in range(runs)]
    low, high = scipy.stats.chi2.ppf([5e-5, 1 - 5e-5], runs - 1) / (runs - 1)
    for name in ("spread", "volume"):
        values = np.array([getattr(each, name) for each in found])
        told = np.mean([getattr(each, f"{name}_deviation") ** 2 for each in found]) / num
        assert low < values.var(ddof=1) / told < high
    volume = np.array([each.volume for each in found])
    many = statistics.measure(WITHIN, FIRST, rng.standard_normal((200_000, 4)))
    assert abs(volume.mean() - many.volume) < 4 * volume.std() / runs**0.5  # unbiased at any number of rows


def test_units_and_origins_of_columns_do_not_matter():
    scale, shift, x = np.array([1e3, 1, 1e-3, 7]), np.array([5, -1e4, 0, 3]), RNG.standard_normal((300, 4)) + 0.1
    other = statistics.frame(REFERENCE * scale + shift, 1000)
    start = statistics.moments(other, np.random.default_rng(24).standard_normal((1000, 4)) * scale + shift)
    here, there = statistics.measure(WITHIN, FIRST, x), statistics.measure(other, start, x * scale + shift)
    for name in ("spread", "volume", "tail", "copies", "spread_deviation", "volume_deviation"):
        np.testing.assert_allclose(getattr(there, name), getattr(here, name), rtol=1e-6, atol=1e-9)


def test_affine_change_moves_no_row_to_another_cell_once_undone():
    x = np.random.default_rng(26).standard_normal((500, 4))
    z = (x - WITHIN.centre) @ WITHIN.axes
    start = FIRST._replace(cap=1e9, mean=z.mean(axis=0), covariance=np.cov(z.T))
    shrunk, same = (statistics.measure(WITHIN, start, each) for each in (0.3 * x + 1.0, x))
    np.testing.assert_array_equal(shrunk.moved, same.cells)
    assert np.any(shrunk.cells != same.cells)


def test_axes_are_as_many_as_columns_tell_and_rows_allow():
    wide = RNG.standard_normal((200, 30))
    assert statistics.frame(wide, 100).axes.shape == (30, 10)
    twice = np.hstack([wide[:, :3], wide[:, :3] @ RNG.standard_normal((3, 2))])
    assert statistics.frame(twice, 100).axes.shape == (5, 3)


def test_point_has_finite_statistics():
    found = statistics.measure(WITHIN, FIRST, np.ones((50, 4)))
    assert all(np.all(np.isfinite(part)) for part in found)
    assert found.spread < -20
    assert found.copies == 0.98
