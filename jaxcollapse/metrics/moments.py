"""Metrics of mean and spread. Each takes data, or the moments of a model, and is NaN where they have no mass."""

import jax
import jax.numpy as jnp
import scipy
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Metric, Moments, Target
from jaxcollapse.checks import is_known
from jaxcollapse.gaussian.quadratic_form import tail_probability
from jaxcollapse.gaussian.truncation import separate
from jaxcollapse.linalg import psd_cholesky
from jaxcollapse.measures import as_moments, require_one_dim, share
from jaxcollapse.metrics.points import average, shares
from jaxcollapse.targets import fit_target
from jaxcollapse.transport.bures import bures_distance


def trace_ratio(key, generated: Data, truth: Data) -> Float[Array, ""]:
    r"""Compute :math:`\operatorname{Tr} \Sigma_t / \operatorname{Tr} \Sigma_0`, the share of variance left.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(1.0, np.zeros(2), np.eye(2))
        >>> float(jc.metrics.trace_ratio(None, truth._replace(covariance=np.eye(2) / 4), truth))
        0.25
    """
    generated, truth = _both(generated, truth)
    return jnp.trace(generated.covariance) / jnp.trace(truth.covariance)


def dispersion(key, generated: Data, truth: Data) -> Float[Array, ""]:
    r"""Compute :math:`E\lVert X - X' \rVert^2 = 2 \operatorname{Tr} \Sigma` of independent draws, in squared units.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(1.0, np.zeros(2), np.eye(2))
        >>> float(jc.metrics.dispersion(None, truth, truth))
        4.0
    """
    return 2 * jnp.trace(_moments(generated).covariance)


def mean_error(key, generated: Data, truth: Data) -> Float[Array, ""]:
    r"""Compute :math:`\lVert \mu_t - \mu_0 \rVert^2`, in squared data units.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(1.0, np.zeros(2), np.eye(2))
        >>> float(jc.metrics.mean_error(None, truth._replace(mean=np.array([3.0, 4.0])), truth))
        25.0
    """
    generated, truth = _both(generated, truth)
    return jnp.sum((generated.mean - truth.mean) ** 2)


def target_distance(target: Target) -> Metric:
    r"""Make the metric :math:`\lVert \mu_t - u \rVert^2` of a verifier's target, in squared data units.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(1.0, np.zeros(2), np.eye(2))
        >>> metric = jc.metrics.target_distance(jc.isotropic_target(np.array([3.0, 4.0])))
        >>> float(metric(None, truth, truth))
        25.0
    """
    return lambda key, generated, truth: jnp.sum((_moments(generated).mean - target.location) ** 2)


def bures_w2(key, generated: Data, truth: Data) -> Float[Array, ""]:
    """Compute the 2-Wasserstein distance between the Gaussians with the data's moments, in data units.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> wide = truth._replace(covariance=4 * jnp.eye(2))
        >>> round(float(jc.metrics.bures_w2(None, wide, truth)), 2)  # the root of 2
        1.41
    """
    generated, truth = _both(generated, truth)
    return bures_distance(truth, generated)


def effective_rank(key, generated: Data, truth: Data) -> Float[Array, ""]:
    """Compute the `effective_number` of the covariance [roy2007]_: between 1 and d, 1 for a point mass.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> round(float(jc.metrics.effective_rank(None, truth, truth)), 2)
        2.0
    """
    return effective_number(_moments(generated).covariance)


def effective_number(matrix: Float[Array, "d d"]) -> Float[Array, ""]:
    r"""Compute :math:`\exp(-\sum_i p_i \log p_i)` of the normalised eigenvalues of a positive semi-definite matrix.

    It is 1 for the zero matrix, which has none.
    """
    p = share(jnp.maximum(jnp.linalg.eigvalsh(matrix), 0))
    return jnp.exp(-jnp.sum(p * jnp.log(jnp.where(p > 0, p, 1))))


def _moments(data: Data) -> Moments:
    moments = as_moments(data)
    return jax.tree.map(lambda leaf: jnp.where(moments.mass > 0, leaf, jnp.nan), moments)


def _both(generated: Data, truth: Data) -> tuple[Moments, Moments]:
    require_one_dim(generated=generated, truth=truth)
    return _moments(generated), _moments(truth)


def _is_singular(covariance: Float[Array, "d d"]) -> Array:
    return ~(jnp.diagonal(psd_cholesky(covariance)) > 0).all()


def tail_mass(level: float = 0.95) -> Metric:
    r"""Make the metric of mass beyond the truth's Mahalanobis ball of probability `level`.

    It is 1 - level for the truth itself if that is Gaussian. Data are counted; moments stand for a
    Gaussian, whose mass is integrated exactly. A truth whose covariance is singular has no such ball: the metric
    raises ValueError where the truth is known, and is NaN where it is traced.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> generated = jc.uniform_measure(jnp.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [0.0, 1.0]]))
        >>> float(jc.metrics.tail_mass(0.95)(None, generated, truth))  # the ball has the radius 2.45
        0.25
    """

    def metric(key, generated: Data, truth: Data) -> Float[Array, ""]:
        require_one_dim(generated=generated, truth=truth)
        if is_known(truth):
            with jax.ensure_compile_time_eval():
                truth = _moments(truth)
                if jnp.isfinite(truth.covariance).all() and _is_singular(truth.covariance):
                    dim = truth.mean.shape[-1]
                    raise ValueError(f"truth: its covariance is singular; tail_mass needs full rank, {dim}")
        truth = _moments(truth)
        target = fit_target(truth)
        dim, dtype = target.location.shape[-1], target.location.dtype
        threshold = jnp.asarray(scipy.stats.chi2.ppf(level, dim), dtype)
        if isinstance(generated, Moments):
            frame = separate(_moments(generated), target)
            mass = tail_probability(frame.energy, frame.unit * (threshold - frame.centre))
        else:
            (y,) = shares("tail_mass", generated=generated)
            distance = jnp.sum(((y.points - target.location) @ target.factor.T) ** 2, axis=-1)
            mass = average(y, distance > threshold)
        return jnp.where(_is_singular(truth.covariance), jnp.nan, mass)

    return metric
