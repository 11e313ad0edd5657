"""References: what verifiers are shown. A new one is a module here and a line in `REFERENCES`.

Silos are a stacked, padded measure [K, m, d], or a stack of targets; a reference is a stack [r, ...]. Where silos
collaborate, what one of them computes is `interpolate` or a function `silo_*`, what the server computes a function
`server_*`, and what travels is what these take and return: one program maps the silos' part over the stack, a
deployment calls it where the data are.
"""

import jax
from jaxtyping import Array, Key

from jaxcollapse.base import Controls, Measure, ReferenceFn
from jaxcollapse.references.barycenter import barycenter
from jaxcollapse.references.geodesic import geodesic
from jaxcollapse.references.mixture import mixture


def all_silos() -> ReferenceFn:
    """Show every silo to a verifier of its own, r = K."""
    return lambda key, silos, pool, controls: silos


def single_silo(index: int = 0) -> ReferenceFn:
    """Show one silo, r = 1: the biased verifier."""
    return lambda key, silos, pool, controls: jax.tree.map(lambda x: x[index : index + 1], silos)


def pooled() -> ReferenceFn:
    """Show the union of all silos, r = 1: the oracle that privacy rules out."""

    def reference(key: Key[Array, ""], silos: Measure, pool: Measure, controls: Controls) -> Measure:
        dim = silos.points.shape[-1]
        return Measure(silos.points.reshape(1, -1, dim), silos.weights.reshape(1, -1))

    return reference


REFERENCES = {
    "all_silos": all_silos,
    "single_silo": single_silo,
    "pooled": pooled,
    "geodesic": geodesic,
    "barycenter": barycenter,
    "mixture": mixture,
}
