"""Metrics. A new one, a `Metric`, is a module here and a line in `METRICS`, in `POINT_METRICS` if it needs points."""

from jaxcollapse.metrics.energy import energy_distance
from jaxcollapse.metrics.frechet import frechet
from jaxcollapse.metrics.memorisation import nearest_distance, novelty
from jaxcollapse.metrics.modes import mode_entropy, mode_shares, modes_covered, smallest_share
from jaxcollapse.metrics.moments import (
    bures_w2,
    dispersion,
    effective_rank,
    mean_error,
    tail_mass,
    target_distance,
    trace_ratio,
)
from jaxcollapse.metrics.prdc import coverage, density, precision, recall
from jaxcollapse.metrics.sliced import sliced_w
from jaxcollapse.metrics.vendi import vendi

METRICS = {
    "trace_ratio": trace_ratio,
    "dispersion": dispersion,
    "mean_error": mean_error,
    "bures_w2": bures_w2,
    "frechet": frechet,
    "effective_rank": effective_rank,
    "tail_mass": tail_mass(),
}

POINT_METRICS = {
    "precision": precision(3),
    "recall": recall(3),
    "density": density(5),
    "coverage": coverage(5),
    "vendi": vendi,
    "energy_distance": energy_distance,
    "sliced_w": sliced_w(),
    "nearest_distance": nearest_distance,
}
