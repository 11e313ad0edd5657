"""Exchanges among silos and a server. A new one is a module here and a line in `EXCHANGES`.

An exchange is one value, run by two drivers: `carry_out` maps the silos' part over a stack within one program; a
deployment calls the same functions where the data are.
"""

from jaxcollapse.exchanges.barycenter import barycenter
from jaxcollapse.exchanges.capped_transport import capped_transport
from jaxcollapse.exchanges.drive import carry_out, carry_out_counted, message_bytes, rounds
from jaxcollapse.exchanges.feature_means import feature_means
from jaxcollapse.exchanges.federated_sinkhorn import federated_sinkhorn
from jaxcollapse.exchanges.geodesic import geodesic
from jaxcollapse.exchanges.kernel_densities import kernel_densities
from jaxcollapse.exchanges.logistic import logistic
from jaxcollapse.exchanges.moments import moments
from jaxcollapse.exchanges.screening import SCREENS, in_turn, screened

EXCHANGES = {
    "moments": moments,
    "feature_means": feature_means,
    "geodesic": geodesic,
    "barycenter": barycenter,
    "federated_sinkhorn": federated_sinkhorn,
    "capped_transport": capped_transport,
    "logistic": logistic,
    "kernel_densities": kernel_densities,
}
