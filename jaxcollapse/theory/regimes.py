r"""When biased selection pays: closed forms for generators that expand or produce junk, at infinitely many candidates.

The truth is :math:`N(0, I_d)`, and the verifier's target u lies at the distance b, in the truth's standard deviations.
A generator expands covariances by :math:`1 + h^2`, or a share :math:`\rho` of its samples is junk
:math:`N(0, s^2 I)`; the best :math:`\alpha` are kept; a share :math:`\varphi` of the training data is fresh. Near the
target selection is linear, with the factors :math:`\kappa = \kappa_d(\alpha)` for the gap :math:`\mu_t - u` and
:math:`\lambda = (1 + h^2) \kappa` for the covariance. Where nothing is selected the raw moments are linear. What
t generations make of a factor is `growth`; the rest of this module is what follows. Derived here.

`jaxcollapse.theory.critical` answers where there is no closed form.
"""

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from jaxcollapse.checks import check_budget, check_count, check_names, check_range
from jaxcollapse.theory.exponents import kappa

WEIGHTS = {"replace": lambda t: np.ones_like(t), "accumulate": lambda t: 1 / t}
POSITIVE = float(np.finfo(float).tiny)


def growth(workflow: str, factor: float, generation: ArrayLike) -> NDArray[np.floating]:
    r"""Compute what t generations multiply a moment by, if selection and generator multiply it by :math:`\lambda`.

    .. math:: \lambda^t \text{ under replace}, \qquad
              \prod_{k \le t} \Bigl(1 - \frac{1 - \lambda}{k}\Bigr)
              = \frac{\Gamma(t + \lambda)}{\Gamma(\lambda) \, \Gamma(t + 1)}
              \sim \frac{t^{-(1 - \lambda)}}{\Gamma(\lambda)} \text{ under accumulate}.

    Args:
        workflow: replace or accumulate.
        factor: :math:`\lambda \ge 0`. Of a covariance whose mean is the target, `multiplier`; of a gap that is small
            beside the spread, `kappa`, whatever the generator's noise.
        generation: t, real numbers that are not negative, of any shape.

    Raises:
        ValueError: if the workflow is another, or the factor negative.

    Example:
        >>> from jaxcollapse.theory.regimes import growth
        >>> growth("replace", 0.5, [0, 1, 2]).tolist()
        [1.0, 0.5, 0.25]
        >>> growth("accumulate", 0.5, [0, 1, 2]).round(3).tolist()
        [1.0, 0.5, 0.375]
    """
    check_names("workflow", [workflow], WEIGHTS)
    check_range("factor", factor, low=0)
    t = np.asarray(generation, float)
    grown = factor**t if workflow == "replace" else scipy.special.binom(t + factor - 1, t)
    return np.where(t == 0, 1, grown)


def multiplier(dim: int, budget: float, noise: float = 0.0, share: float = 0.0) -> float:
    r"""Compute :math:`\lambda = (1 + h^2) \, \kappa_d(\alpha / (1 - \rho))`, with junk far from the target.

    Of junk that is far nothing is kept, so that the budget is one of the other candidates: exact as s grows, and at any
    s once the model has collapsed. The exponent under accumulate is :math:`\psi = 1 - \lambda`; where
    :math:`\lambda > 1` the covariance explodes.

    Args:
        dim: d.
        budget: :math:`\alpha` in (0, 1 - rho].
        noise: h, of `jaxcollapse.generators.expand`.
        share: :math:`\rho`, of `jaxcollapse.generators.contaminate`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from jaxcollapse.theory.regimes import multiplier
        >>> round(multiplier(2, 0.5), 4), round(multiplier(2, 0.5, noise=1.0), 4)
        (0.3069, 0.6137)
    """
    check_budget(budget)
    check_range("noise", noise, low=0)
    check_range("share", share, low=0, high=1 - budget)
    return (1 + noise**2) * kappa(dim, budget / (1 - share))


def junk_share(workflow: str, share: float, fresh: float, generation: ArrayLike) -> NDArray[np.floating]:
    r"""Compute the share of junk in the law whose moments the model of generation t has, where nothing is selected.

    .. math:: q_t = \frac{(1 - \varphi) \rho}{r} (1 - P_t), \qquad r = \varphi + (1 - \varphi) \rho,

    with :math:`P_t` the `growth` of :math:`1 - r`, as :math:`t^{-r}` under accumulate. Of junk :math:`N(c, s^2 I)` the
    mean is :math:`q_t c`, and the raw second moment :math:`(1 - q_t) I + q_t (s^2 I + c c')`. Fresh data bound the
    damage.

    Args:
        workflow: replace or accumulate.
        share: :math:`\rho`, of the samples.
        fresh: :math:`\varphi`, of the training data.
        generation: t.

    Example:
        >>> from jaxcollapse.theory.regimes import junk_share
        >>> junk_share("replace", 0.5, fresh=0.0, generation=[0, 1, 2]).tolist()
        [0.0, 0.5, 0.75]
    """
    check_range("share", share, low=0, high=1)
    check_range("fresh", fresh, low=0, high=1)
    renewed = fresh + (1 - fresh) * share
    lost = 1 - growth(workflow, 1 - renewed, generation)
    return np.asarray((1 - fresh) * share / renewed * lost if renewed else lost)


def fresh_limit(factor: float, fresh: float) -> float:
    r"""Compute the trace ratio that selection and fresh data tend to, for a target at the truth's mean.

    .. math:: v \leftarrow (1 - \varphi) \lambda v + \varphi, \qquad
              v_\infty = \frac{\varphi}{1 - (1 - \varphi) \lambda},

    positive for any :math:`\varphi > 0`, and infinite where :math:`(1 - \varphi) \lambda \ge 1`. The rest dies off as
    the `growth` of :math:`(1 - \varphi) \lambda`.

    Args:
        factor: :math:`\lambda`, of `multiplier`.
        fresh: :math:`\varphi` in [0, 1].

    Example:
        >>> from jaxcollapse.theory.regimes import fresh_limit
        >>> round(fresh_limit(0.5, fresh=0.5), 4)  # 0.5 / (1 - 0.25)
        0.6667
    """
    check_range("factor", factor, low=0)
    check_range("fresh", fresh, low=0, high=1)
    rest = 1 - (1 - fresh) * factor
    return fresh / rest if rest > 0 else np.inf


def least_fresh(factor: float, level: float) -> float:
    r"""Compute the share of fresh data whose `fresh_limit` is the level.

    .. math:: \varphi = \frac{v (1 - \lambda)}{1 - v \lambda},

    for a half :math:`(1 - \lambda) / (2 - \lambda)`. Where :math:`\lambda < 1` it is the least that keeps the share
    v < 1 of the trace; where :math:`\lambda > 1` the least that holds it below v > 1, at least :math:`1 - 1 / \lambda`.

    Args:
        factor: :math:`\lambda`, of `multiplier`.
        level: v, on the side of one to which no fresh data lead, or one.

    Raises:
        ValueError: if the level is on the other side.

    Example:
        >>> from jaxcollapse.theory.regimes import fresh_limit, least_fresh
        >>> share = least_fresh(0.5, level=0.5)
        >>> round(share, 4), round(fresh_limit(0.5, share), 4)
        (0.3333, 0.5)
    """
    check_range("factor", factor, low=0)
    check_range("level", level, *((POSITIVE, 1) if factor < 1 else (1, np.inf)))
    return 1.0 if level == 1 else level * (1 - factor) / (1 - level * factor)


def critical_noise(workflow: str, dim: int, budget: float, num_generations: int) -> float:
    r"""Compute the expansion h above which selection beats random selection in Bures distance, for an unbiased target.

    With G the `growth`, and distances :math:`\sqrt d \, |G^{1/2} - 1|`,

    .. math:: G_T(\kappa (1 + h^2))^{1/2} + G_T(1 + h^2)^{1/2} = 2,

    which under replace is :math:`1 + h^2 = (2 / (1 + \kappa^{T/2}))^{2/T}`, and falls to zero as
    :math:`h^2 \sim 2 \ln 2 / T`: what compounds for long enough is worse than any collapse.

    Args:
        workflow: replace or accumulate.
        dim: d.
        budget: :math:`\alpha` in (0, 1).
        num_generations: T, at least 1.

    Example:
        >>> from jaxcollapse.theory.regimes import critical_noise
        >>> [round(critical_noise("replace", 2, 0.5, num_generations=t), 2) for t in (1, 10)]
        [0.81, 0.38]
    """
    check_count("num_generations", num_generations, low=1)
    shrinkage, t = kappa(dim, budget), num_generations

    if workflow == "replace":
        return float(np.sqrt(np.expm1(2 / t * np.log(2 / (1 + shrinkage ** (t / 2))))))

    def excess(expansion):
        return sum(growth(workflow, factor, t) ** 0.5 for factor in (expansion, shrinkage * expansion)) - 2

    return (scipy.optimize.brentq(excess, 1, 4, xtol=1e-15) - 1) ** 0.5


def critical_share_collapsed(dim: int, bias: float, scale: float, num_generations: int) -> float:
    r"""Compute the share of junk above which a point mass at the target is closer than random selection, under replace.

    .. math:: \rho = 1 - \left( \frac{s^2 - (1 + \sqrt{1 + b^2 / d})^2}{s^2 - 1} \right)^{1/T},

    whatever the budget that the model collapsed with; NaN for junk so narrow that random selection is never worse.

    Args:
        dim: d.
        bias: b.
        scale: s > 1.
        num_generations: T, at least 1.

    Example:
        >>> from jaxcollapse.theory.regimes import critical_share_collapsed
        >>> round(critical_share_collapsed(2, bias=0.0, scale=3.0, num_generations=1), 4)  # 1 - 5/8
        0.375
    """
    check_count("dim", dim, low=1)
    check_range("bias", bias, low=0)
    check_range("scale", scale, low=1)
    check_count("num_generations", num_generations, low=1)
    left = scale**2 - (1 + (1 + bias**2 / dim) ** 0.5) ** 2
    return 1 - (left / (scale**2 - 1)) ** (1 / num_generations) if left >= 0 else np.nan


def mean_errors(
    workflow: str,
    dim: int,
    budget: float,
    num_generations: int,
    *,
    bias: float,
    error: float,
    noise: float = 0.0,
    num_kept: float = np.inf,
) -> NDArray[np.floating]:
    r"""Compute :math:`E |\mu_t|^2` for t = 0..T of a first model whose mean is wrong by :math:`E |\mu_0|^2 = V`.

    With :math:`x_t` the `growth` of :math:`\kappa` and w the weight of a kept set, 1 or 1 / t,

    .. math:: E |\mu_t|^2 = (1 - x_t)^2 b^2 + x_t^2 V + y_t, \qquad
              y_t = (1 - (1 - \kappa) w)^2 y_{t-1} + w^2 \lambda \frac{d}{n} G_{t-1}(\lambda),

    to first order in the gap beside the spread. At :math:`\lambda = 1` under replace
    :math:`y_t = (d / n) (1 - \kappa^{2t}) / (1 - \kappa^2)`.

    Args:
        workflow: replace or accumulate.
        dim: d.
        budget: :math:`\alpha`.
        num_generations: T.
        bias: b.
        error: V, in no direction rather than another.
        noise: h.
        num_kept: n.

    Example:
        >>> from jaxcollapse.theory.regimes import mean_errors
        >>> mean_errors("replace", 2, 0.5, 2, bias=0.0, error=1.0).round(4)  # 1, kappa^2, kappa^4
        array([1.    , 0.0942, 0.0089])
    """
    t = np.arange(1.0, num_generations + 1)
    shrinkage, factor = kappa(dim, budget), multiplier(dim, budget, noise)
    x = growth(workflow, shrinkage, np.append(0, t))
    drawn = factor * dim / num_kept * growth(workflow, factor, t - 1)
    y = np.zeros(num_generations + 1)
    for i, (w, fresh) in enumerate(zip(WEIGHTS[workflow](t), drawn, strict=True)):
        y[i + 1] = (1 - (1 - shrinkage) * w) ** 2 * y[i] + w**2 * fresh
    return (1 - x) ** 2 * bias**2 + x**2 * error + y


def turning_times(workflow: str, shrinkage: float, bias: float, error: float) -> tuple[float, float]:
    r"""Compute when the mean's error is least, and when selection has lost what it gained, as n grows.

    A biased verifier first corrects the mean, then leads it astray: gain first, loss later. Of `mean_errors`

    .. math:: \text{least, } \frac{b^2 V}{b^2 + V}, \text{ at } x_t = \frac{b^2}{b^2 + V}, \qquad
              \text{and } V \text{ again at } x_t = \frac{b^2 - V}{b^2 + V}, \text{ never if } b^2 \le V.

    Under replace :math:`t = \ln x / \ln \kappa`. Under accumulate t lies in the generation before
    :math:`(\Gamma(\kappa) \, x)^{-1 / (1 - \kappa)}`. At :math:`\lambda = 1` under replace, n kept samples take
    :math:`(d / n) / (1 - \kappa^2)` away from V in all of these: what their noise alone comes to is no error that
    selection corrects.

    Args:
        workflow: replace or accumulate.
        shrinkage: :math:`\kappa` in (0, 1).
        bias: b > 0.
        error: V > 0.

    Returns:
        Both times, real numbers of generations.

    Example:
        >>> from jaxcollapse.theory.regimes import turning_times
        >>> least, again = turning_times("replace", 0.5, bias=1.0, error=1 / 3)  # 0.5^t = 3/4, and 1/2
        >>> round(least, 2), round(again, 2)
        (0.42, 1.0)
    """
    check_names("workflow", [workflow], WEIGHTS)
    check_range("shrinkage", shrinkage, low=POSITIVE, high=1 - 1e-12)
    check_range("bias", bias, low=POSITIVE)
    check_range("error", error, low=POSITIVE)

    def reach(x):
        if x <= 0:
            return np.inf
        if workflow == "replace":
            return float(np.log(x) / np.log(shrinkage))
        # By Gautschi's inequality, (t + 1)^(kappa - 1) < Gamma(t + kappa) / Gamma(t + 1) < t^(kappa - 1).
        last = (scipy.special.gamma(shrinkage) * x) ** (-1 / (1 - shrinkage))
        return scipy.optimize.brentq(lambda t: growth(workflow, shrinkage, t) - x, max(last - 1, 0), last)

    total = bias**2 + error
    return reach(bias**2 / total), reach((bias**2 - error) / total)
