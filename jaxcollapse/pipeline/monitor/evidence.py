r"""Evidence for a departure that grows: mixtures of likelihood ratios, whose false alarms over a whole run are bounded.

Differences :math:`D_i = s_i - s_0` to generation 0, in units of the deviation of one row, are near normal with

.. math:: C_{ij} = \frac{1}{N_0} + \frac{[i = j]}{N_i} + \sum_{k \le \min(i, j)} \kappa_k

where nothing collapses: samples of one model (:math:`\kappa = 0`), or of models that are refitted on n rows and walk.
Against the null stand drifts :math:`\theta g(i)` with weights :math:`\theta \sim N(0, \tau^2)`. With
:math:`U = g' C^{-1} D`, :math:`I = g' C^{-1} g` and :math:`v = 1 + \tau^2 I` the likelihood ratio is

.. math:: E = v^{-p/2} \exp \frac{\tau^2 |U|^2}{2 v}, \qquad
          E = 2 v^{-1/2} \exp \frac{\tau^2 U^2}{2 v} \, \Phi \Bigl( \frac{\tau U}{\sqrt v} \Bigr) \text{ of a loss},

of p coordinates, or of :math:`\theta > 0` alone [robbins1970]_. It is a martingale in the number of generations,
and so is the average over shapes g, scales :math:`\tau` and statistics, as far as their C is the same; by Ville's
inequality :math:`P(\max_t E_t \ge 1/a) \le a` [ramdas2023]_.
"""

import numpy as np
import scipy
from jaxtyping import Float
from numpy.typing import ArrayLike

ONSETS = (0, 4, 8, 16, 32, 64)
SCALES = (1.0, 4.0, 16.0)  # of the prior's information, five generations after the onset
AHEAD = 5
MOST = max(ONSETS) + AHEAD
# What a generation's rows weigh in the next fit: all, or one share of those of generations 0..k.
WORKFLOWS = {"replace": lambda k: np.ones(np.shape(k)), "accumulate": lambda k: 1 / (k + 1)}


def steps(workflow: str, num_kept: int, num_generations: int) -> Float[np.ndarray, " t"]:
    r"""Compute variances :math:`\kappa_k = w_k^2 / n`, k = 1..T, of steps of the model's walk, one row's being 1."""
    return WORKFLOWS[workflow](np.arange(1, num_generations + 1)) ** 2 / num_kept


def progress(workflow: str, generations: ArrayLike) -> Float[np.ndarray, "*shape"]:
    r"""Sum up the weights :math:`\sum_{k \le t} w_k` of generations 1..t.

    A selection that takes the same share :math:`\psi` of the variance from what is kept in each generation leaves
    :math:`\prod_k (1 - \psi w_k) \approx e^{-\psi \sum_k w_k}`, as :math:`t^{-\psi}` under accumulate.
    """
    generations = np.asarray(generations)
    weights = WORKFLOWS[workflow](np.arange(1, generations.max(initial=0) + 1))
    return np.concatenate([[0.0], np.cumsum(weights)])[generations]


def covariance(rows: Float[np.ndarray, " t1"], walk: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t t"]:
    """Compute C from effective numbers of rows of generations 0..T and the steps of the walk."""
    generations = np.arange(len(walk))
    walked = np.cumsum(walk)[np.minimum(generations[:, None], generations)]
    return 1 / rows[0] + np.diag(1 / rows[1:]) + walked


def shapes(num_generations: int) -> Float[np.ndarray, "t s"]:
    """List the drifts g for generations 1..T: a jump, and the progress of each workflow, from each onset."""
    since = np.maximum(np.arange(1, num_generations + 1)[:, None] - np.array(ONSETS), 0)
    return np.concatenate([since > 0, *(progress(workflow, since) for workflow in WORKFLOWS)], axis=1)


def scales(rows: float, walk: Float[np.ndarray, " most"]) -> Float[np.ndarray, "s 3"]:
    r"""Choose :math:`\tau^2` of each shape, before any generation is seen.

    Args:
        rows: of generation 0, as which all others count here.
        walk: steps until the last onset and five generations more.
    """
    num = len(walk)
    root = np.linalg.cholesky(covariance(np.full(num + 1, float(rows)), walk))
    information = np.cumsum(np.linalg.solve(root, shapes(num)) ** 2, axis=0)
    at = np.tile(ONSETS, 1 + len(WORKFLOWS)) + AHEAD - 1
    return np.array(SCALES) / information[at, np.arange(len(at))][:, None]


def log_evidence(
    differences: Float[np.ndarray, "*runs t p"],
    covariances: Float[np.ndarray, "t t"],
    taus: Float[np.ndarray, "s 3"],
    *,
    one_sided: bool,
) -> Float[np.ndarray, "*runs t"]:
    r"""Compute :math:`\log E` after each generation.

    Args:
        differences: D, in units of one row's deviation; positive is a loss where the evidence is one-sided.
        covariances: C.
        taus: :math:`\tau^2`, of `scales`.
        one_sided: with p = 1.
    """
    root = np.linalg.cholesky(covariances)
    g = np.linalg.solve(root, shapes(len(root)))
    information = np.cumsum(g**2, axis=0)[..., None]
    score = np.cumsum(g[..., None] * np.linalg.solve(root, differences)[..., None, :], axis=-3)
    v = 1 + taus * information
    if one_sided:
        z = score * np.sqrt(taus / v)
        terms = np.log(2) - np.log(v) / 2 + z**2 / 2 + scipy.special.log_ndtr(z)
    else:
        square = (score**2).sum(axis=-1, keepdims=True)
        terms = -score.shape[-1] / 2 * np.log(v) + taus * square / (2 * v)
    return average(terms.reshape(*terms.shape[:-2], -1))


def average(log_terms: ArrayLike) -> Float[np.ndarray, "*rest"]:
    """Average evidence along the last axis, in logarithms."""
    return scipy.special.logsumexp(log_terms, axis=-1) - np.log(np.shape(log_terms)[-1])


def slope(
    differences: Float[np.ndarray, " t"], covariances: Float[np.ndarray, "t t"], shape: Float[np.ndarray, " t"]
) -> tuple[float, float, float]:
    r"""Fit :math:`D = \theta g` by generalised least squares: :math:`U / I`, I, and the chi-square of what is left."""
    root = np.linalg.cholesky(covariances)
    g, d = np.linalg.solve(root, np.stack([shape, differences], axis=1)).T
    theta = g @ d / (g @ g)
    return theta, g @ g, ((d - theta * g) ** 2).sum()


def predict(
    differences: Float[np.ndarray, " t"], covariances: Float[np.ndarray, "all all"], shape: Float[np.ndarray, " all"]
) -> tuple[np.ndarray, np.ndarray]:
    r"""Predict what follows the first t differences, with standard deviations, in units of one row's.

    The best linear prediction :math:`\hat\theta g_f + C_{fp} C^{-1} (D - \hat\theta g)`, of variance
    :math:`C_{ff} - C_{fp} C^{-1} C_{pf} + (g_f - C_{fp} C^{-1} g)^2 / I`, with :math:`\hat\theta` of `slope`.
    """
    t = len(differences)
    past, across, ahead = covariances[:t, :t], covariances[t:, :t], covariances[t:, t:]
    theta, information, _ = slope(differences, past, shape[:t])
    weights = np.linalg.solve(past, across.T).T
    rest = shape[t:] - weights @ shape[:t]
    variance = np.diag(ahead - weights @ across.T) + rest**2 / information
    return weights @ differences + theta * rest, np.sqrt(variance)


def uniform_radius(information: float, tau2: float, a: float) -> float:
    r"""Compute the half width of an interval for :math:`\theta` that holds at all generations at once.

    .. math:: \sqrt{\frac{1 + \tau^2 I}{\tau^2 I^2} \log \frac{1 + \tau^2 I}{a^2}}

    with probability at least 1 - a [robbins1970]_.
    """
    v = 1 + tau2 * information
    return np.sqrt(v / tau2 * np.log(v / a**2)) / information
