"""An alarm for collapse, with a bounded probability of a false one: a log of samples, generation by generation."""

from jaxcollapse.pipeline.monitor.verdict import Verdict
from jaxcollapse.pipeline.monitor.watch import Monitor
