"""Distance to a target."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxcollapse.base import Data, Measure, Target
from jaxcollapse.checks import check_finite, is_known
from jaxcollapse.targets import fit_target
from jaxcollapse.tree import closure


@closure
class distance_score:
    """The score of `mahalanobis`.

    Attributes:
        target: u and G.
    """

    target: Target

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Float[Array, " n"]:
        return -jnp.sum(((pool.points - self.target.location) @ self.target.factor.T) ** 2, axis=-1)


def mahalanobis(
    reference: Target | Data | Float[Array | np.ndarray, "m d"], ridge: Float[Array | float, ""] = 0.0
) -> distance_score:
    r"""Score :math:`U(x) = -(x - u)' Q (x - u) = -\lVert G (x - u) \rVert^2` [qiao2026]_.

    Args:
        reference: a target (u, G), or data, whose mean and regularised inverse covariance then stand for u and Q.
        ridge: regularisation of a covariance estimated from data, relative to its mean variance.

    Raises:
        ValueError: if the covariance is known to be singular, or the target not to be finite.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> score = jc.scores.mahalanobis(jc.isotropic_target(np.zeros(1)))
        >>> print(score(jax.random.key(0), pool))
        [ -1.  -4.  -9. -16.]
    """
    if not isinstance(reference, Target):
        return distance_score(fit_target(reference, ridge, "reference"))
    if is_known(reference):
        for name, leaf in reference._asdict().items():
            check_finite(f"reference.{name}", leaf)
    return distance_score(reference)
