"""What sweeps on two devices give, beside one: run as a script, it prints one line of JSON.

Arguments: a directory to work in. The simulations are those of `test_lanes.py`.
"""

import importlib
import json
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
from oracle import random_problem

from jaxcollapse.base import Moments, Run, Target
from jaxcollapse.generators import gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.recursion import build_collapse, sample_and_select
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import top
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, seeds, sweep
from jaxcollapse.workflows import accumulate

NUM_KEPT, DIM, BUDGETS = 12, 2, (0.2, 0.5)
MEAN, COVARIANCE, LOCATION, FACTOR = random_problem(0, DIM)


def problem(dtype=jnp.float32):
    truth = Moments(jnp.ones((), dtype), jnp.asarray(MEAN, dtype), jnp.asarray(COVARIANCE, dtype))
    return {"truth": truth, "target": Target(jnp.asarray(LOCATION, dtype), jnp.asarray(FACTOR, dtype))}


def build(budget, seed, truth, select, **others):
    """Make a run that selects, accumulates and records its model."""
    collapse = build_collapse(gaussian(), sample_and_select(gaussian(), select), accumulate(moments_memory()))
    return Run(seed, collapse, truth, budget, lambda key, state, info: state.params)


def prepare(seed, target, **others):
    """Move the target of each seed."""
    return {"select": top(mahalanobis(target._replace(location=target.location + jax.random.normal(seed, (DIM,)))))}


def axes(num_seeds=4, num_generations=5):
    return {"budget": Axis(BUDGETS, sizes(NUM_KEPT, BUDGETS, num_generations)), "seed": seeds(num_seeds, 3)}


def small(num_seeds=4, num_generations=5, *, fixed=None, **options):
    """Sweep 2 budgets and some seeds."""
    fixed = problem() if fixed is None else fixed
    return sweep(build, axes(num_seeds, num_generations), fixed=fixed, prepare=prepare, **options)


class BrokenError(Exception):
    """Interrupts a sweep."""


def break_at(generation):
    """Make a progress function that raises once so many generations are done."""

    def progress(done, total, doing):
        if doing == "running" and done == generation:
            raise BrokenError

    return progress


def main(place: Path) -> None:
    one, two, compiled = jax.devices()[:1], jax.devices(), []
    module = importlib.import_module("jaxcollapse.sweep")
    compile_all = module.compile_all
    module.compile_all = lambda *arguments: compiled.append(compile_all(*arguments)) or compiled[-1]

    def compared(found, expected):
        return bool(found.drop_attrs().identical(expected.drop_attrs())), list(found.attrs["layout"].values())[:4]

    found = {"whole": compared(small(devices=two), small(lanes=4, devices=one))}
    _, chunk = compiled[0]
    places = jax.tree.leaves((chunk.input_shardings[0][3], chunk.output_shardings))
    found["places"] = sorted({str(place.spec) for place in places})
    compiled.clear()
    chunks = small(devices=two, lanes=4, interval=0)
    found["compiled"] = len(compiled)
    found["chunks"] = compared(chunks, small(lanes=2, devices=one))
    found["padded"] = compared(small(3, devices=two), small(3, lanes=3, devices=one))
    found["two lanes"] = compared(small(1, devices=two, lanes=1), small(1, lanes=2, devices=one))
    with jax.enable_x64(True):
        double = problem(jnp.float64)
        found["double"] = compared(small(devices=two, fixed=double), small(lanes=4, devices=one, fixed=double))

    path, seen = place / "part.npz", []
    try:
        small(devices=two, lanes=4, interval=0, checkpoint=path, progress=break_at(8))
    except BrokenError:
        found["files"] = sorted(file.name for file in place.iterdir())
    try:
        small(devices=one, checkpoint=path)
    except ValueError as error:
        found["refused"] = str(error).removeprefix(str(path))
    resumed = small(devices=two, interval=0, checkpoint=path, progress=lambda *at: seen.append(at))
    found["resumed"] = compared(resumed, chunks)
    found["from"] = next(at for at in seen if at[2] == "compiling")
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(Path(sys.argv[1]))
