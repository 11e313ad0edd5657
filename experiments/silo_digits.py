"""Collapse on real input: handwritten digits divided among silos, and a verifier who sees one of them."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxcollapse import silos
from jaxcollapse.base import Measure, Moments, Record, Run, Sizes, Target
from jaxcollapse.checks import check_fit
from jaxcollapse.data.digits import load_digits
from jaxcollapse.data.features import fit_pca, project
from jaxcollapse.experiments.support.ranges import Count, NumSeeds, NumSilos, Range, Share
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import as_moments, pooled, uniform_measure
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.metrics import METRICS, target_distance
from jaxcollapse.record import record_model, record_side_by_side
from jaxcollapse.recursion import sample_and_select, side_by_side
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import keep_all, top
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, along, seeds
from jaxcollapse.targets import fit_target
from jaxcollapse.theory.closed_forms import CLOSED_FORMS
from jaxcollapse.theory.mean_field import fresh_moments, kept_moments, limit
from jaxcollapse.tree import cast, row, stack
from jaxcollapse.workflows import WORKFLOWS

SPLITS = {
    "ExDir(1, 0.1)": {"how": "exdir", "classes_per_silo": 1, "alpha": 0.1},
    "Dirichlet(0.1)": {"how": "dirichlet", "alpha": 0.1},
}
VERIFIERS = {"silo": lambda parts: row(parts, 0), "pooled": pooled}
RECORDED = ("trace_ratio", "mean_error", "bures_w2", "effective_rank")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """A Gaussian fitted to PCA features of digits, retrained on what a verifier keeps."""

    num_kept: Count = 500
    """Samples n kept in each generation."""
    budget: Share = 0.25
    """Share n / N of the candidates that selection keeps, in (0, 1]."""
    num_generations: Count = 100
    """Generations after the fit to real data."""
    num_components: Annotated[int, Range(1, 64)] = 32
    """Principal components."""
    num_silos: NumSilos = 10
    """Silos K."""
    fresh_share: Annotated[float, Range(0.0, 0.99)] = 0.2
    """Share of new real samples in the training sets of fresh_mix."""
    shrinkage: Annotated[float, Range(1e-6, 1e3)] = 0.05
    """Ridge on a silo's covariance, relative to its mean variance: small silos have singular ones."""
    num_seeds: NumSeeds = 8
    """Independent simulations."""


PRESETS = {
    "smoke": {"num_kept": 100, "num_generations": 5, "num_components": 8, "num_seeds": 2},
    "quick": {"num_generations": 30, "num_seeds": 4},
    "paper": {},
}


def problem(config: Config) -> tuple[Measure, Target]:
    """Project the digits, divide them by each split, and fit what each verifier knows, [split, verifier]."""
    digits = load_digits()
    pca = fit_pca(digits.points, config.num_components)
    features = np.asarray(project(pca, digits.points))
    targets = []
    for rule in SPLITS.values():
        parts = silos.split(features, digits.labels, num_silos=config.num_silos, seed=config.seed, **rule)
        targets.append(stack([fit_target(seen(parts), config.shrinkage) for seen in VERIFIERS.values()]))
    return uniform_measure(features), stack(targets)


def sizes_of(config: Config, budget: float) -> Sizes:
    """Count kept, drawn and fresh samples."""
    num_fresh = round(config.num_kept * config.fresh_share / (1 - config.fresh_share))
    return sizes(config.num_kept, budget, config.num_generations, num_fresh=num_fresh)


def record(truth: Moments, target: Target | None) -> Record:
    """Record the metrics of the experiment, and the distance to a verifier's target where there is one."""
    metrics = {name: METRICS[name] for name in RECORDED}
    if target is not None:
        metrics["target_distance"] = target_distance(target)
    return record_side_by_side(record_model(metrics, truth))


def simulation(config: Config) -> Callable[..., Run]:
    """Make the builder of runs, all workflows side by side; without a verifier nothing is selected."""
    memories = {"accumulate_subsample": buffer_memory()}
    workflows = [make(memories.get(name, moments_memory())) for name, make in WORKFLOWS.items()]

    def build(real, truth, seed, split=None, verifier=None) -> Run:
        def fresh(key, sizes) -> Measure:
            return uniform_measure(real.points[jax.random.randint(key, (sizes.max_fresh,), 0, len(real.points))])

        target = None if split is None else row(split, verifier)
        recursion = sizes_of(config, 1.0 if target is None else config.budget)
        select = keep_all() if target is None else top(mahalanobis(target))
        collapse = side_by_side(gaussian(), sample_and_select(gaussian(), select), workflows, fresh)
        return Run(seed, collapse, truth, recursion, record(truth, target))

    return build


def prediction(config: Config) -> Callable[..., Run]:
    """Make the builder of mean fields, all workflows side by side."""
    workflows = [WORKFLOWS[limit(name)](moments_memory()) for name in WORKFLOWS]

    def build(truth, split, verifier) -> Run:
        target = row(split, verifier)
        collapse = side_by_side(gaussian(), kept_moments(target), workflows, fresh_moments(truth))
        return Run(jax.random.key(0), collapse, truth, sizes_of(config, config.budget), record(truth, target))

    return build


def without_verifier(config: Config, truth: Moments) -> xr.Dataset:
    """Evaluate the closed forms of random selection."""
    arguments = {"fresh_mix": (sizes_of(config, 1.0).max_fresh,)}
    variance = np.stack(
        [f(config.num_kept, config.num_generations, *arguments.get(name, ())) for name, f in CLOSED_FORMS.items()],
        axis=-1,
    )
    total = float(jnp.trace(truth.covariance))
    dims = ("generation", "workflow")
    return xr.Dataset({"trace_ratio": (dims, variance), "mean_error": (dims, (1 - variance) * total)})


def run(config: Config, runner: Runner) -> Output:
    """Simulate every workflow under every verifier, and predict it from what the verifier knows."""
    check_fit(config.num_kept, config.num_components)
    runner.expect(3)
    real, targets = problem(config)
    truth = as_moments(real)
    recorded = (*RECORDED, "target_distance")
    options = {"dims": dict.fromkeys(recorded, ("workflow",)), "coords": {"workflow": list(WORKFLOWS)}}

    def axes(dtype) -> dict[str, Axis]:
        verifiers = Axis(list(VERIFIERS), jnp.arange(len(VERIFIERS)))
        return {"split": Axis(list(SPLITS), cast(targets, dtype)), "verifier": verifiers}

    seed, fixed = {"seed": seeds(config.num_seeds, config.seed)}, {"real": real, "truth": truth}
    random = runner.sweep("random", simulation(config), seed, fixed=fixed, **options)
    selected = runner.sweep("verified", simulation(config), axes(jnp.float32) | seed, fixed=fixed, **options)
    with jax.enable_x64(True):
        fixed = {"truth": cast(truth, jnp.float64)}
        exact = runner.sweep("mean field", prediction(config), axes(jnp.float64), fixed=fixed, **options)

    def with_random(verified: xr.Dataset, random: xr.Dataset) -> xr.Dataset:
        each = {name: verified.sel(verifier=name, drop=True) for name in VERIFIERS}
        return along("verifier", each | {"random": random})

    simulated, theory = with_random(selected, random), with_random(exact, without_verifier(config, truth))
    arrays = along("source", {"simulation": simulated, "theory": theory})

    final = arrays.trace_ratio.isel(generation=-1).mean("seed")
    final = final.transpose("source", "workflow", "split", "verifier").to_series()
    return Output(arrays, {"final_mean_trace_ratio": {" / ".join(k): float(v) for k, v in final.items()}})
