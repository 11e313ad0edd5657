"""Time and memory of transport and of the exchanges, against candidates, reference points, silos and rounds."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import numpy as np
import pandas as pd

from jaxcollapse.base import Measure
from jaxcollapse.exchanges import barycenter, carry_out, federated_sinkhorn, geodesic
from jaxcollapse.experiments.support.ranges import Count, Dim, NumSilos, Range
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.measures import uniform_measure
from jaxcollapse.transport.sinkhorn import sinkhorn, soft_c_transform
from jaxcollapse.tree import expand

AXES = ("candidates", "reference", "silos", "rounds")
OPERATIONS = ("potentials", "c-transform", "scheme_i", "scheme_ii", "federated_sinkhorn")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Seconds and bytes of one call, and the exponents of their growth along each axis."""

    operations: tuple[Literal[OPERATIONS], ...] = OPERATIONS
    """What is timed."""
    candidates: Count = 4000
    """Candidates N where they do not vary."""
    reference: Count = 1000
    """Points M of the reference, of all silos together where there are several."""
    silos: NumSilos = 4
    """Silos K."""
    rounds: Count = 4
    """Rounds R of an exchange."""
    support: Count = 500
    """Support points S."""
    dim: Dim = 32
    """Dimension."""
    factors: tuple[Annotated[int, Range(1, 100)], ...] = (1, 2, 4, 8)
    """By how much each axis is stretched in turn."""
    tile: Count = 1024
    """Candidates scored at a time by the c-transform."""
    repeats: Count = 7
    """Runs of each compiled call, of which the median counts; the calls take turns."""


PRESETS = {
    "smoke": {
        "operations": ("c-transform", "federated_sinkhorn"),
        "candidates": 60,
        "reference": 24,
        "support": 10,
        "dim": 3,
        "factors": (1, 2),
        "repeats": 2,
    },
    "quick": {
        "operations": ("potentials", "c-transform", "federated_sinkhorn"),
        "candidates": 1000,
        "reference": 300,
        "support": 150,
        "factors": (1, 4),
        "repeats": 3,
    },
    "paper": {},
}


def calls(config: Config) -> dict[str, tuple[Callable[..., Any], tuple[str, ...]]]:
    """List the operations and the axes along which each grows; each takes pool, reference, silos and support."""
    epsilon = 0.1 * config.dim

    def found(exchange, pool, silos):
        return carry_out(exchange, jax.random.key(0), pool, silos)

    def scheme_i(p, q, k, s, r):
        return jax.vmap(lambda silo: found(geodesic(epsilon, num_rounds=r, start=s), p, expand(silo)))(k)

    return {
        "potentials": (lambda p, q, k, s, r: sinkhorn(p, q, epsilon).f, ("candidates", "reference")),
        "c-transform": (
            lambda p, q, k, s, r: soft_c_transform(p.points, q, q.weights, epsilon, tile=config.tile),
            ("candidates", "reference"),
        ),
        "scheme_i": (scheme_i, ("candidates", "silos", "rounds")),
        "scheme_ii": (
            lambda p, q, k, s, r: found(barycenter(s, epsilon, num_rounds=r), None, k),
            ("reference", "silos", "rounds"),
        ),
        "federated_sinkhorn": (
            lambda p, q, k, s, r: found(federated_sinkhorn(epsilon, num_rounds=r, tolerance=0.0), p, k).f,
            ("candidates", "reference", "silos", "rounds"),
        ),
    }


def data(config: Config, sizes: dict[str, int]) -> tuple[Measure, Measure, Measure, jax.Array]:
    """Draw pool, reference, silos that divide it, and a support."""
    rng = np.random.default_rng(config.seed)

    def draw(*shape):
        return config.dtype(rng.standard_normal((*shape, config.dim)))

    per_silo = max(sizes["reference"] // sizes["silos"], 1)
    return (
        uniform_measure(draw(sizes["candidates"])),
        uniform_measure(draw(sizes["reference"])),
        uniform_measure(draw(sizes["silos"], per_silo)),
        draw(config.support),
    )


def run(config: Config, runner: Runner) -> Output:
    """Compile every call at every size, time them in turns, and fit the exponents."""
    base = {axis: getattr(config, axis) for axis in AXES}
    runner.expect(2)
    labels = [(name, axis, f) for name in config.operations for axis in calls(config)[name][1] for f in config.factors]
    programs = {}
    for name, axis, factor in runner.track("compiling", labels):
        sizes = base | {axis: factor * base[axis]}
        call, arguments = calls(config)[name][0], data(config, sizes)
        program = jax.jit(lambda *a, call=call, r=sizes["rounds"]: call(*a, r)).lower(*arguments).compile()
        jax.block_until_ready(program(*arguments))
        programs[name, axis, factor] = (program, arguments)

    times = {label: [] for label in programs}
    for _, label in runner.track("timing", [(i, label) for i in range(config.repeats) for label in programs]):
        program, arguments = programs[label]
        started = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        times[label].append(time.perf_counter() - started)

    rows = [
        (*label, statistics.median(times[label]), program.memory_analysis().temp_size_in_bytes)
        for label, (program, _) in programs.items()
    ]
    table = pd.DataFrame(rows, columns=["operation", "axis", "factor", "seconds", "bytes"])
    arrays = table.set_index(["operation", "axis", "factor"]).to_xarray()
    arrays = arrays.reindex(operation=list(config.operations), axis=list(AXES), factor=list(config.factors))
    arrays["size"] = (("axis", "factor"), np.outer(list(base.values()), config.factors))

    logs = np.log(arrays[["seconds", "bytes"]]).assign_coords(factor=np.log(arrays.factor))
    fits = logs.map(lambda y: y.polyfit("factor", 1).polyfit_coefficients.sel(degree=1, drop=True))
    return Output(arrays, {"exponents": fits.to_dataframe().dropna().reset_index().to_dict("records")})
