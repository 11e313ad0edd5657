"""Three silos and a pool, small."""

import jax.numpy as jnp
import numpy as np

from jaxcollapse.base import Target
from jaxcollapse.features import quadratic_features
from jaxcollapse.measures import uniform_measure
from jaxcollapse.network.policy import Ledger, Policy
from jaxcollapse.network.silo import Silo

RNG = np.random.default_rng(0)
NAMES = ("a", "b", "c")
SILOS = [(RNG.standard_normal((60, 3)) + k).astype(np.float32) for k in range(3)]
POOL = uniform_measure(jnp.asarray(2 * RNG.standard_normal((200, 3)) + 1, jnp.float32))
WHITENED = quadratic_features(Target(jnp.zeros(3), jnp.eye(3)), 6.0)


def silo_of(points, path, **limits):
    return Silo(points, Policy(**limits), Ledger(path))
