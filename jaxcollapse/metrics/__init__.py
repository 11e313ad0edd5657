"""Metrics. A new one is a module here and a line in `METRICS`; every entry is a `MetricFn`."""

from jaxcollapse.metrics.moments import (
    bures_w2,
    dispersion,
    effective_rank,
    mean_error,
    tail_mass,
    target_distance,
    trace_ratio,
)
from jaxcollapse.metrics.sliced import sliced_w

METRICS = {
    "trace_ratio": trace_ratio,
    "dispersion": dispersion,
    "mean_error": mean_error,
    "bures_w2": bures_w2,
    "effective_rank": effective_rank,
    "tail_mass": tail_mass(),
}
