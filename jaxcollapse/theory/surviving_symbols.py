r"""Which symbols a categorical model still knows after t generations, without selection.

Each function returns the probabilities that symbols of probability :math:`p_k` in the truth have a positive one in the
model of generation t = 0..T; their sum over k is the expected number of surviving symbols. Generation 1 is fitted on n
draws from the truth, so that every workflow starts with

.. math:: P(p_{1,k} > 0) = 1 - (1 - p_k)^n.
"""

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from jaxcollapse.checks import check_array, check_count, check_recursion, shown


def replace(probabilities: ArrayLike, num_samples: int, num_generations: int) -> NDArray[np.floating]:
    r"""Compute survival under replace from the chain of [wright1931]_.

    The count of one symbol goes from i to j with probability :math:`B_{ij}`, that of j successes in n trials of
    probability i / n. With :math:`e_0` the indicator of the count zero,

    .. math:: P(p_{t,k} = 0) = \textstyle\sum_j \binom{n}{j} p_k^j (1 - p_k)^{n - j} (B^{t-1} e_0)_j.

    Args:
        probabilities: p, shape [S].
        num_samples: n, draws a generation, up to 10^4. Time and memory are of the order n^2.
        num_generations: T.

    Returns:
        Shape [T + 1, S].

    Example:
        >>> from jaxcollapse.theory.surviving_symbols import replace
        >>> replace([0.5, 0.5], 2, 2)[:, 0].round(3)  # 1, 1 - 1/4, and 1/2 of 3/4 with 1/4 of one
        array([1.   , 0.75 , 0.625])
    """
    p = _check(probabilities, num_samples, num_generations)
    check_count("num_samples", num_samples, high=10**4)
    count = np.arange(num_samples + 1)
    step = scipy.stats.binom.pmf(count, num_samples, count[:, None] / num_samples)
    first = scipy.stats.binom.pmf(count, num_samples, p[:, None])
    extinct, lost = (count == 0).astype(float), [p == 0]
    for _ in range(num_generations):
        lost.append(first @ extinct)
        extinct = step @ extinct
    return 1 - np.stack(lost)


def replace_bounds(
    probabilities: ArrayLike, num_samples: int, num_generations: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    r"""Bound survival under replace from below and above, at no cost in n; the bounds meet as n grows.

    .. math:: 1 - (1 - p_k s_{t-1})^n \le P(p_{t,k} > 0) \le 1 - (1 - p_k)^{n a_{t-1}}, \qquad
              s_0 = a_0 = 1, \quad s_{t+1} = 1 - e^{-s_t}, \quad a_{t+1} = 1 - (1 - 1/n)^{n a_t}.

    Below: from count i the next one, j, has :math:`E[(1 - s)^j] = (1 - s i / n)^n \le e^{-s i}`, which is
    :math:`(1 - s')^i` with :math:`s' = 1 - e^{-s}`: s is the survival of a branching process of Poisson offspring.
    Above: the n draws of generation t choose their parents at random, so they stem from at most
    :math:`n a_{t-1}` draws of generation 1 on average, each of which is k with probability :math:`p_k`; and Jensen's
    inequality. As :math:`1/s_{t+1} \le 1/s_t + 1`, the lower bound contains

    .. math:: P(p_{t,k} > 0) \ge 1 - e^{-n p_k / t}:

    a symbol is remembered for at least as many generations as it has copies in the first, by order of magnitude; and
    for no more, as :math:`s_t \approx a_t \approx 2 / t`. Derived here; compare [suresh2024]_.

    Args:
        probabilities: p, shape [S].
        num_samples: n, draws a generation.
        num_generations: T.

    Returns:
        Lower and upper bounds, each of shape [T + 1, S].

    Example:
        >>> from jaxcollapse.theory.surviving_symbols import replace_bounds
        >>> lower, upper = replace_bounds([0.5, 0.5], 2, 2)
        >>> lower[:, 0].round(2), upper[:, 0].round(2)
        (array([1.  , 0.75, 0.53]), array([1.  , 0.75, 0.65]))
    """
    p, n = _check(probabilities, num_samples, num_generations), num_samples
    s = a = 1.0
    lower, upper = [p > 0], [p > 0]
    for _ in range(num_generations):
        lower.append(1 - (1 - p * s) ** n)
        upper.append(1 - (1 - p) ** (n * a))
        s, a = -np.expm1(-s), 1 - (1 - 1 / n) ** (n * a)
    return np.stack(lower).astype(float), np.stack(upper).astype(float)


def accumulate(probabilities: ArrayLike, num_samples: int, num_generations: int) -> NDArray[np.floating]:
    r"""Compute survival under accumulate: :math:`1 - (1 - p_k)^n` from generation 1 on.

    What generation 1 drew stays in the training set, and no later generation draws anything else. Derived here.

    Args:
        probabilities: p, shape [S].
        num_samples: n, draws a generation.
        num_generations: T.

    Returns:
        Shape [T + 1, S].

    Example:
        >>> from jaxcollapse.theory.surviving_symbols import accumulate
        >>> accumulate([0.5, 0.5], 2, 2)[:, 0]
        array([1.  , 0.75, 0.75])
    """
    p = _check(probabilities, num_samples, num_generations)
    later = np.broadcast_to(1 - (1 - p) ** num_samples, (num_generations, p.size))
    return np.concatenate([(p > 0).astype(float)[None], later])


def accumulate_subsample(probabilities: ArrayLike, num_samples: int, num_generations: int) -> NDArray[np.floating]:
    r"""Bound survival under accumulate_subsample from below, closely where :math:`p_k \ll 1`.

    The pool keeps what generation 1 drew, as under accumulate, which is an upper bound; but the model sees n of its
    tn points. Of c copies of a symbol in the pool a model gets h, each with probability 1/t, and adds j to them:

    .. math:: E[u^{c + j}] \le u^c E[e^{-h (1 - u)}] \le \bigl( u (1 - 1/t + e^{u - 1} / t) \bigr)^c,

    since h, drawn without replacement, is less dispersed than a binomial number [hoeffding1963]_. The symbol is
    missing from the model of generation T with probability at most :math:`E[u_T^c]`, :math:`u_T = 1 - 1/T`. Backwards,

    .. math:: u_t = u_{t+1} (1 - 1/t + e^{u_{t+1} - 1} / t), \qquad P(p_{T,k} > 0) \ge 1 - (1 - p_k (1 - u_1))^n.

    Derived here.

    Args:
        probabilities: p, shape [S].
        num_samples: n, draws a generation.
        num_generations: T.

    Returns:
        Shape [T + 1, S].

    Example:
        >>> from jaxcollapse.theory.surviving_symbols import accumulate_subsample
        >>> accumulate_subsample([0.01, 0.99], 100, 2)[:, 0].round(2)
        array([1.  , 0.63, 0.5 ])
    """
    p = _check(probabilities, num_samples, num_generations)
    survival = [(p > 0).astype(float)]
    for last in range(1, num_generations + 1):
        u = 1 - 1 / last
        for t in range(last - 1, 0, -1):
            u *= 1 - 1 / t + np.exp(u - 1) / t
        survival.append(1 - (1 - p * (1 - u)) ** num_samples)
    return np.stack(survival)


def _check(probabilities: ArrayLike, num_samples: int, num_generations: int) -> NDArray[np.floating]:
    """Take probabilities, and check the numbers of samples and generations.

    Raises:
        ValueError: if the probabilities are no vector in [0, 1], or a number is out of range.
    """
    check_array("probabilities", probabilities)
    check_recursion(num_samples, num_generations)
    p = np.asarray(probabilities, float)
    if p.ndim != 1 or p.size == 0 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"probabilities = {shown(probabilities)}: must be in [0, 1], [S] with S at least 1")
    return p
