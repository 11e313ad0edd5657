"""Optimal transport."""

from jaxcollapse.transport.bures import bures_barycenter, bures_distance, bures_geodesic, bures_map
from jaxcollapse.transport.sinkhorn import (
    Potentials,
    barycentric_map,
    debiased,
    mean_cost,
    sinkhorn,
    soft_c_transform,
    transport_cost,
)
from jaxcollapse.transport.sliced import sliced_wasserstein
