"""Model collapse under recursive training and biased selection: pure functions, theory beside simulation."""

from jaxcollapse import exchanges, generators, metrics, scores, selectors, theory, transport, workflows
from jaxcollapse.base import (
    Collapse,
    Counted,
    Exchange,
    Generator,
    Info,
    Measure,
    Memory,
    Moments,
    Run,
    Sizes,
    State,
    Target,
    Workflow,
)
from jaxcollapse.exchanges import EXCHANGES, carry_out
from jaxcollapse.gain import measure_expansion, predict_gain
from jaxcollapse.gaussian.top import top_of_gaussian
from jaxcollapse.generators import GENERATORS
from jaxcollapse.measures import as_measure, as_moments, uniform_measure
from jaxcollapse.memories import MEMORIES, buffer_memory, moments_memory
from jaxcollapse.metrics import METRICS, POINT_METRICS
from jaxcollapse.record import record_model, record_samples, record_side_by_side
from jaxcollapse.recursion import advance, build_collapse, run, sample_and_select, side_by_side, start
from jaxcollapse.scores import SCORES
from jaxcollapse.selectors import SELECTORS
from jaxcollapse.silos import SPLITS, split
from jaxcollapse.simulate import THEORIES, predict, simulate
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, along, seeds, sweep
from jaxcollapse.targets import gaussian_target, isotropic_target, published_instance
from jaxcollapse.theory.mean_field import mean_field
from jaxcollapse.tree import closure, static
from jaxcollapse.verifiers import VERIFIERS, verifier
from jaxcollapse.version import __version__
from jaxcollapse.workflows import WORKFLOWS
