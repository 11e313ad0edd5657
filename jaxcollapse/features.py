"""Features of points, of which parties exchange means: functions that know where the data lie."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcollapse.base import Measure, Moments, Target
from jaxcollapse.measures import as_moments, merge, over_rows
from jaxcollapse.targets import fit_target
from jaxcollapse.tree import closure

_LANDMARK_RIDGE = 1e-4  # landmarks may coincide


@closure
class quadratic_features:
    r"""List :math:`1,\; y_i,\; (y_i^2 - 1)/\sqrt 2,\; y_i y_j\; (i < j)` of :math:`y = G(x - u)`, shortened to a bound.

    They are orthonormal where y is standard normal, which makes gradient steps short work.

    Attributes:
        whitening: u and G.
        max_norm: bound on the Euclidean length of the features, to which longer ones are shortened, shape []. With one
            below infinity the first feature is not always one, and a point whose features are not finite has zeros:
            no single one voids their mean.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.features import quadratic_features
        >>> features = quadratic_features(jc.isotropic_target(jnp.zeros(2)))
        >>> print(features(jnp.array([[1.0, -1.0]])))  # one, both coordinates, squares about one, and the product
        [[ 1.  1. -1.  0.  0. -1.]]
    """

    whitening: Target
    max_norm: Float[Array | float, ""] = jnp.inf

    def __call__(self, points: Float[Array, "n d"]) -> Float[Array, "n f"]:
        y = (points - self.whitening.location) @ self.whitening.factor.T
        y = jnp.clip(y, -10 * self.max_norm, 10 * self.max_norm)
        row, column = jnp.triu_indices(y.shape[1], 1)
        square = (y**2 - 1) / jnp.sqrt(jnp.asarray(2, y.dtype))
        phi = jnp.concatenate([jnp.ones_like(y[:, :1]), y, square, y[:, row] * y[:, column]], axis=1)
        short = _shortened(phi, self.max_norm)
        return jnp.where(jnp.isfinite(self.max_norm) & ~jnp.isfinite(short), 0, short)


@closure
class kernel_features:
    r"""Lift points by the kernel at landmarks, :math:`\psi(x) = L^{-1} k(z, x)` with :math:`L L' = k(z, z)`.

    .. math:: k(x, y) = e^{-\lVert x - y \rVert^2 / w}, \qquad
              \lVert E_P \psi - E_Q \psi \rVert^2 = \mathrm{MMD}_L^2(P, Q),

    the squared maximum mean discrepancy [gretton2012]_ over the functions spanned by the landmarks [williams2001]_. No
    point's features are longer than one.

    Attributes:
        landmarks: z, shape [l, d].
        width: w, in squared units of the data, shape [].

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcollapse.features import kernel_features
        >>> features = kernel_features(landmarks=jnp.array([[0.0], [9.0]]), width=1.0)
        >>> lifted = features(jnp.array([[0.0], [9.0], [99.0]]))  # at the landmarks, and far from both
        >>> jnp.linalg.norm(lifted, axis=1).round(2).tolist()
        [1.0, 1.0, 0.0]
    """

    landmarks: Float[Array, "l d"]
    width: Float[Array | float, ""]

    def __call__(self, points: Float[Array, "n d"]) -> Float[Array, "n l"]:
        return _shortened(self.whitened(self.kernel(points)), 1.0)  # rounding would make some longer

    def kernel(self, points: Float[Array, "n d"]) -> Float[Array, "n l"]:
        """Compute k(x, z)."""
        return over_rows(lambda costs: jnp.exp(-costs / self.width), points, self.landmarks)

    def whitened(self, kernel: Float[Array, "n l"]) -> Float[Array, "n l"]:
        """Turn the kernel at landmarks, or its mean, into features."""
        among = self.kernel(self.landmarks)
        ridge = _LANDMARK_RIDGE * jnp.eye(len(among), dtype=among.dtype)
        return jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(among + ridge), kernel.T, lower=True).T


def _shortened(phi: Float[Array, "n f"], most: Float[Array | float, ""]) -> Float[Array, "n f"]:
    return phi * jnp.minimum(1, most / jnp.linalg.norm(phi, axis=1, keepdims=True))


def half_way(silos: Moments, pool: Measure, ridge: Float[Array | float, ""] = 0.0) -> Target:
    r"""Whiten by the moments of :math:`Q/2 + P/2`, with Q given by its moments.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> from jaxcollapse.features import half_way
        >>> silos = jc.as_moments(jnp.array([[4.0], [4.0]]))
        >>> target = half_way(silos, jc.uniform_measure(jnp.array([[0.0], [0.0]])))
        >>> float(target.location[0]), float(target.factor[0, 0])  # mean 2, variance 4
        (2.0, 0.5)
    """
    half = jnp.full((), 0.5, pool.points.dtype)
    both = merge(silos._replace(mass=half), as_moments(pool)._replace(mass=half))
    return fit_target(both, ridge)
