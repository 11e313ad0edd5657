"""The benefit of a candidate to the transport cost towards a reference [just2023]_."""

from typing import Any

from jaxtyping import Array, Float, Key

from jaxcollapse.base import Counted, Measure, Parties, counted, together
from jaxcollapse.checks import check_numbers, check_range
from jaxcollapse.exchanges import carry_out_counted
from jaxcollapse.measures import as_measure
from jaxcollapse.transport.sinkhorn import Potentials, Scalar, debiased, sinkhorn, unconverged
from jaxcollapse.tree import closure, static


@closure
class calibrated_gradient:
    r"""Score the benefit of a candidate's mass to the transport cost towards a reference [just2023]_.

    .. math:: U(x_i) = -\frac{1}{\tau} \Big( f_i - \sum_{j \ne i} a_j f_j \Big/ \sum_{j \ne i} a_j \Big),

    with f the entropic potential of the pool: minus the derivative of the cost as mass moves to candidate i from all
    others. High brings the pool nearer to the reference. The marginal error is told, and counted above `TOLERANCE`.
    Debiased, f is the potential less that of the pool with itself, and the cost the Sinkhorn divergence [feydy2019]_.

    Attributes:
        reference: a measure or points, or `Potentials` of the pool that an exchange found; `Counted` where it was found
            with trouble, which is then told with every pool.
        epsilon: in squared units of the data, the same for all references that are compared, shape [].
        tau: where on the geodesic from the pool the reference lies, in (0, 1], shape []; potentials towards it are
            :math:`\tau` times those towards the far end.
        num_self: candidates that stand for the pool in its problem with itself, all of them at most; with none,
            and with potentials that an exchange found, nothing is debiased.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> score = jc.scores.calibrated_gradient(np.array([[4.0], [5.0]]), epsilon=1.0)
        >>> int(score(jax.random.key(0), pool).value.argmax())
        3
    """

    reference: Measure | Potentials | Counted | Float[Array, "m d"]
    epsilon: Scalar
    tau: Scalar = 1.0
    num_self: int = static(default=0)

    def __post_init__(self):
        check_numbers(1e-6, 1, tau=self.tau)
        check_range("num_self", self.num_self, low=0)

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Counted:
        r, of_reference = counted(self.reference)
        if self.num_self and not isinstance(r, Potentials):
            num_self = min(self.num_self, len(pool.weights))
            f, trouble = debiased(key, pool, as_measure(r), self.epsilon, num_self=num_self)
        else:
            f, _, error = r if isinstance(r, Potentials) else sinkhorn(pool, as_measure(r), self.epsilon)
            trouble = unconverged(error)
        others = pool.weights @ f - pool.weights * f
        score = -(f - others / (pool.weights.sum() - pool.weights)) / self.tau
        return Counted(score, together([of_reference, trouble]))


@closure
class exchanged_gradient:
    """Score by `calibrated_gradient` towards what an exchange finds anew for each pool.

    Attributes:
        exchange: whose result is a measure or potentials, with the epsilon and tau of both.
        silos: stacked, [K, m, d].
        num_self: as there.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = jc.uniform_measure(np.array([[[4.0]], [[5.0]]]))
        >>> score = jc.scores.exchanged_gradient(jc.exchanges.federated_sinkhorn(epsilon=1.0), silos)
        >>> int(score(jax.random.key(0), pool).value.argmax())
        3
    """

    exchange: Any
    silos: Measure | Parties
    num_self: int = static(default=0)

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Counted:
        found = carry_out_counted(self.exchange, key, pool, self.silos)
        return calibrated_gradient(found, self.exchange.epsilon, self.exchange.tau, self.num_self)(key, pool)
