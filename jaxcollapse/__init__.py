"""Model collapse under recursive training and biased selection: pure functions, theory beside simulation."""

from jaxcollapse.base import (
    Collapse,
    Controls,
    Generator,
    Info,
    Measure,
    Memory,
    Moments,
    State,
    Target,
    Workflow,
)
from jaxcollapse.batches import proposals_needed, sampled, top_of_gaussian
from jaxcollapse.generators import GENERATORS
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.metrics import METRICS, POINT_METRICS
from jaxcollapse.references import REFERENCES
from jaxcollapse.selectors import SELECTORS, from_scores, keep_all, mahalanobis
from jaxcollapse.sweep import Trajectory, sweep
from jaxcollapse.targets import gaussian_target, isotropic_target, published_instance
from jaxcollapse.theory.mean_field import mean_field
from jaxcollapse.trajectory import (
    advance,
    build_collapse,
    record_model,
    record_side_by_side,
    run,
    side_by_side,
    start,
)
from jaxcollapse.validation import make_controls
from jaxcollapse.workflows import WORKFLOWS
