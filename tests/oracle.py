"""Oracles in plain NumPy, and the judgement of statistical tests."""

import numpy as np
from scipy import optimize, stats

FAMILY_RISK = 1e-4


def standard_error(samples):
    return samples.std(axis=0, ddof=1) / np.sqrt(len(samples))


def z_scores(samples, expected):
    """Compare means over the first axis with expected values, in standard errors of the run."""
    samples = np.asarray(samples, np.float64)
    return (samples.mean(axis=0) - expected) / standard_error(samples)


def z_between(first, second):
    """Compare two means over the first axis, in standard errors of the run."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    se = np.hypot(standard_error(first), standard_error(second))
    return (first.mean(axis=0) - second.mean(axis=0)) / se


def assert_unbiased(z, replicates=np.inf):
    """Require z-scores that a correct program exceeds, anywhere in the family, once in 10^4 runs.

    With few replicates behind each standard error the scores are Student's.
    """
    z = np.ravel(z)
    assert np.isfinite(z).all(), z
    worst, bound = np.abs(z).max(), stats.t.isf(FAMILY_RISK / 2 / z.size, replicates - 1)
    assert worst < bound, f"|z| = {worst:.2f} at {np.abs(z).argmax()} of {z.size}, bound {bound:.2f}"


def assert_uniform(counts):
    """Require equal expected counts, by the chi-square test."""
    result = stats.chisquare(counts)
    assert result.pvalue > FAMILY_RISK, result


def random_covariance(rng, dim):
    root = rng.standard_normal((dim, dim))
    return root @ root.T + 0.1 * np.eye(dim)


def random_problem(seed, dim):
    """Draw an anisotropic model and an offset, skewed verifier: mean, covariance, location, factor."""
    rng = np.random.default_rng(seed)
    mean, covariance = rng.standard_normal(dim), random_covariance(rng, dim)
    location = mean + 1.5 * rng.standard_normal(dim)
    return mean, covariance, location, rng.standard_normal((dim, dim))


def draw(rng, mean, covariance, size):
    return mean + rng.standard_normal((size, len(mean))) @ np.linalg.cholesky(covariance).T


def energies(x, location, factor):
    return (((x - location) @ factor.T) ** 2).sum(-1)


def upper(matrices):
    """List the entries of symmetric matrices once."""
    rows, columns = np.triu_indices(matrices.shape[-1])
    return matrices[..., rows, columns]


def radial(workflow, dim, num_generations, *, budget, noise=0.0, share=0.0, scale=3.0):
    """Follow the variance of an unbiased target by chi-squared laws alone: plain Python, and no part of the library."""
    variance = [1.0]
    for t in range(1, num_generations + 1):
        parts = np.array([(1 + noise**2) * variance[-1], scale**2])
        masses = np.array([1 - share, share])
        kept = masses @ parts
        if budget < 1:
            threshold = optimize.brentq(
                lambda q, m=masses, p=parts: m @ stats.chi2.cdf(q / p, dim) - budget, 0, 1e6, xtol=1e-13, rtol=1e-13
            )
            kept = masses @ (parts * stats.chi2.cdf(threshold / parts, dim + 2)) / budget
        weight = 1 if workflow == "replace" else 1 / t
        variance.append((1 - weight) * variance[-1] + weight * kept)
    return np.array(variance)


def radial_distances(*arguments, dim, **settings):
    return dim**0.5 * abs(radial(*arguments[:1], dim, *arguments[1:], **settings) ** 0.5 - 1)
