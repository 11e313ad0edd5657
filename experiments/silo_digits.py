"""Collapse on real input: handwritten digits divided among silos, and a verifier who sees one of them."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from experiments.common import Output, Parts, Settings, frame, lane_keys, main
from jaxcollapse.base import Measure, Moments, Target
from jaxcollapse.batches import sampled
from jaxcollapse.data.digits import load_digits
from jaxcollapse.data.features import fit_pca, project
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import as_moments, uniform_measure
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.metrics import METRICS, target_distance
from jaxcollapse.references import all_silos, pooled, single_silo
from jaxcollapse.selectors import SELECTORS, keep_all, mahalanobis
from jaxcollapse.silos import dirichlet_split, exdir_split, stack_silos
from jaxcollapse.sweep import Trajectory
from jaxcollapse.targets import cast, fit_target, stack
from jaxcollapse.theory.closed_forms import CLOSED_FORMS
from jaxcollapse.theory.mean_field import fresh_moments, kept_moments, limit
from jaxcollapse.trajectory import record_model, record_side_by_side, side_by_side
from jaxcollapse.validation import check_budget, check_fit, check_range, make_controls
from jaxcollapse.workflows import WORKFLOWS

NAME = "silo_digits"
SPLITS = ("ExDir(1, 0.1)", "Dirichlet(0.1)")
VERIFIERS = {"silo": single_silo(0), "pooled": pooled()}
RECORDED = ("trace_ratio", "mean_error", "bures_w2", "effective_rank")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """A Gaussian fitted to PCA features of digits, retrained on what a verifier keeps."""

    num_kept: int = 500
    """Samples n kept in each generation."""
    budget: float = 0.25
    """Share n / N of the candidates that selection keeps, in (0, 1]."""
    num_generations: int = 100
    """Generations after the fit to real data."""
    num_components: int = 32
    """Principal components."""
    num_silos: int = 10
    """Silos K."""
    fresh_share: float = 0.2
    """Share of new real samples in the training sets of fresh_mix."""
    shrinkage: float = 0.05
    """Ridge on a silo's covariance, relative to its mean variance: small silos have singular ones."""
    num_seeds: int = 8
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
    splits = (
        exdir_split(config.key, digits.labels, config.num_silos, 1, 0.1),
        dirichlet_split(config.key, digits.labels, config.num_silos, 0.1),
    )
    targets = []
    for split in splits:
        silos = stack_silos(features, split)
        for reference_fn in VERIFIERS.values():
            shown = reference_fn(jax.random.key(0), silos, uniform_measure(features), controls(config))
            targets.append(fit_target(jax.tree.map(lambda x: x[0], shown), config.shrinkage))
    shape = (len(splits), len(VERIFIERS))
    return uniform_measure(features), jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), stack(targets))


def controls(config: Config, budget: float | None = None):
    """Count kept, drawn and fresh samples."""
    num_fresh = round(config.num_kept * config.fresh_share / (1 - config.fresh_share))
    return make_controls(config.num_kept, budget or config.budget, num_fresh)


def simulation(config: Config, real: Measure) -> Callable[..., Trajectory]:
    """Make the builder of trajectories, all workflows side by side; without a verifier nothing is selected."""
    n, truth = config.num_kept, as_moments(real)
    max_fresh = max(int(controls(config).num_fresh), 1)
    moments, buffer = moments_memory(), buffer_memory(n * config.num_generations, n)
    workflows = [make(buffer if name == "accumulate_subsample" else moments) for name, make in WORKFLOWS.items()]

    def draw_real(key, controls) -> Measure:
        index = jax.random.randint(key, (max_fresh,), 0, real.points.shape[0])
        drawn = jnp.arange(max_fresh) < controls.num_fresh
        return Measure(real.points[index], drawn.astype(real.points.dtype))

    def build(seed, verifier: Target | None = None) -> Trajectory:
        knobs = controls(config, 1.0 if verifier is None else None)
        select = keep_all if verifier is None else SELECTORS["top"](mahalanobis(), n)
        silos = jax.tree.map(lambda x: x[None], verifier)
        num_candidates = n if verifier is None else round(n / config.budget)
        batch_fn = sampled(gaussian(), select, all_silos(), silos, num_candidates)
        collapse = side_by_side(gaussian(), batch_fn, workflows, draw_real)
        return Trajectory(seed, collapse, truth, knobs, record(truth, verifier))

    return build


def prediction(config: Config, truth: Moments) -> Callable[..., Trajectory]:
    """Make the builder of mean fields, all workflows side by side."""
    workflows = [WORKFLOWS[limit(name)](moments_memory()) for name in WORKFLOWS]

    def build(verifier: Target) -> Trajectory:
        collapse = side_by_side(gaussian(), kept_moments(verifier), workflows, fresh_moments(truth))
        return Trajectory(jax.random.key(0), collapse, truth, controls(config), record(truth, verifier))

    return build


def record(truth: Moments, verifier: Target | None):
    """Record the metrics of the experiment, and the distance to a verifier's target where there is one."""
    metrics = {name: METRICS[name] for name in RECORDED}
    if verifier is not None:
        metrics["target_distance"] = target_distance(verifier)
    return record_side_by_side(record_model(metrics, truth))


def without_verifier(config: Config, truth: Moments) -> xr.Dataset:
    """Evaluate the closed forms of random selection."""
    arguments = {"fresh_mix": (int(controls(config).num_fresh),)}
    variance = np.stack(
        [f(config.num_kept, config.num_generations, *arguments.get(name, ())) for name, f in CLOSED_FORMS.items()],
        axis=-1,
    )
    total = float(jnp.trace(truth.covariance))
    dims = ("generation", "workflow")
    return xr.Dataset({"trace_ratio": (dims, variance), "mean_error": (dims, (1 - variance) * total)})


def run(config: Config, parts: Parts) -> Output:
    """Simulate every workflow under every verifier, and predict it from what the verifier knows."""
    check_range("num_generations", config.num_generations, low=1)
    check_range("fresh_share", config.fresh_share, low=0, high=0.99)
    check_range("num_seeds", config.num_seeds, low=1)
    check_range("shrinkage", config.shrinkage, low=1e-6)
    check_budget(config.budget)
    check_fit(config.num_kept, config.num_components)
    real, targets = problem(config)
    truth = as_moments(real)
    exact_targets = jax.tree.map(np.asarray, targets)
    seeds = np.arange(config.num_seeds)
    keys = lane_keys(config.key, seeds)
    coords = {
        "split": list(SPLITS),
        "verifier": list(VERIFIERS),
        "seed": seeds,
        "generation": np.arange(config.num_generations + 1),
        "workflow": list(WORKFLOWS),
    }

    def sweep(name, build, **axes) -> xr.Dataset:
        dims = (*axes, "generation", "workflow")
        history = parts.sweep(name, build, axes, config.num_generations)
        return frame(history, dims, {d: coords[d] for d in dims})

    def of_verifier(build) -> Callable[..., Trajectory]:
        return lambda split, verifier, **seed: build(*seed.values(), jax.tree.map(lambda x: x[verifier], split))

    build = simulation(config, real)
    random = sweep("random", build, seed=keys)
    selected = sweep("verified", of_verifier(build), split=targets, verifier=jnp.arange(2), seed=keys)
    with jax.enable_x64(True):
        predict = of_verifier(prediction(config, cast(truth, jnp.float64)))
        exact = sweep("mean field", predict, split=cast(exact_targets, jnp.float64), verifier=jnp.arange(2))
    theory = with_random(exact, without_verifier(config, truth)).expand_dims(seed=seeds)
    pair = [with_random(selected, random), theory]
    arrays = xr.concat(pair, pd.Index(["simulation", "theory"], name="source"))

    columns = ["workflow", "split", "verifier", "seed", "generation"]
    table = arrays.to_dataframe().reset_index()
    table = table[[*columns, *RECORDED, "target_distance", "source"]]
    last = table[table.generation == config.num_generations]
    final = last.groupby(["source", "workflow", "split", "verifier"]).trace_ratio.mean()
    summary = {" / ".join(labels): float(value) for labels, value in final.items()}
    return Output(arrays, table, {"final_mean_trace_ratio": summary})


def with_random(verified: xr.Dataset, random: xr.Dataset) -> xr.Dataset:
    """Add random selection as one more verifier, the same for every split."""
    random = random.expand_dims(split=verified.split, verifier=["random"])
    return xr.concat([verified, random], "verifier", data_vars="all", fill_value=np.nan)


if __name__ == "__main__":
    main(NAME, run, Config, PRESETS)
