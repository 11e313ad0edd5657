"""One call that simulates, and one that predicts. Here alone names stand for members."""

import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxcollapse import selectors
from jaxcollapse.arguments import (
    MakeWorkflow,
    generator_of,
    grid_of,
    metrics_of,
    recorder_of,
    select_of,
    start_of,
    truth_of,
    workflow_of,
)
from jaxcollapse.base import Generator, Moments, Run, Select
from jaxcollapse.checks import check_covariance, check_names
from jaxcollapse.generators.gaussian import one_component
from jaxcollapse.measures import as_moments
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.metrics import METRICS
from jaxcollapse.recursion import build_collapse, sample_and_select
from jaxcollapse.scores.mahalanobis import distance_score
from jaxcollapse.sweep import Progress, along, in_words, sweep
from jaxcollapse.sweep import seeds as seeds_axis
from jaxcollapse.theory.closed_forms import CLOSED_FORMS
from jaxcollapse.theory.mean_field import all_moments, fresh_moments, kept_moments, limit
from jaxcollapse.tree import cast, row
from jaxcollapse.workflows import WORKFLOWS, accumulate_subsample, fresh_mix, fresh_samples

_FIRST = 2**32 - 1  # beyond the generations and the seeds that a key is folded with


def simulate(
    generator: Generator | str,
    select: Select | str,
    workflow: MakeWorkflow | str,
    start: Any,
    *,
    num_kept: int | Sequence[int],
    budget: float | Sequence[float] = 1.0,
    num_generations: int,
    num_fresh: int = 0,
    temperature: float = 1.0,
    seeds: int | Sequence[int] = 1,
    key: int = 0,
    metrics: Sequence[str] = ("trace_ratio",),
    truth: Any = None,
    silos: Any = None,
    num_scored: int = 1000,
    checkpoint: Path | str | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    r"""Train a generator on what is kept of its own samples, generation after generation, and measure what it becomes.

    Args:
        generator: such as `gaussian()`, or a name of `GENERATORS`.
        select: such as `top(mahalanobis(target))`, or a name of `VERIFIERS`, made from `silos`.
        workflow: such as `accumulate`, or a name of `WORKFLOWS`.
        start: real data that the first model is fitted to, an array [n, d] or a measure; or the parameters of the model
            of generation 0, such as `Moments`.
        num_kept: n, candidates kept in each generation; of several each is simulated.
        budget: :math:`\alpha = n / N` in (0, 1]; likewise.
        num_generations: T.
        num_fresh: real samples a generation, drawn from `start`, for `fresh_mix`.
        temperature: of soft selection, in units of the score.
        seeds: how many independent simulations, or their labels.
        key: seed of everything random. What a named verifier draws from silos is the same for all seeds.
        metrics: names of `METRICS` and `POINT_METRICS`. They see the model's moments where its parameters are moments
            and all metrics take moments, and `num_scored` of its samples otherwise.
        truth: data that models are compared with; `start` by default.
        silos: stacked measure, array [K, m, d], or list of arrays [m_k, d].
        num_scored: samples of each model that are scored.
        checkpoint: file that the run continues from, if it is interrupted.
        progress: called with the generations done, all of them, and what comes next, in a word.

    Returns:
        The metrics, over the dimensions num_kept and budget where several are given, seed and generation; the attribute
        `warnings` lists what went wrong.

    Raises:
        ValueError: if an argument is not allowed.
        TypeError: if metrics of points are asked for and the truth is moments; give points as `truth`.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> points, sizes = np.random.default_rng(0).normal(size=(100, 2)), {"num_kept": 50, "budget": 0.5}
        >>> select = jc.selectors.top(jc.scores.mahalanobis(jc.isotropic_target(np.zeros(2))))
        >>> runs = jc.simulate("gaussian", select, "replace", points, **sizes, num_generations=3, seeds=4)
        >>> dict(runs.trace_ratio.sizes)
        {'seed': 4, 'generation': 4}
        >>> bool(runs.trace_ratio.mean("seed")[-1] < 0.1)  # collapsed
        True
    """
    generator, make_workflow = generator_of(generator), workflow_of(workflow)
    axis = seeds_axis(seeds, key)
    data, params = start_of(generator, start)
    if num_fresh and data is None:
        raise ValueError(f"num_fresh = {num_fresh}: fresh data are drawn from start, which must be data")
    if num_fresh and make_workflow in WORKFLOWS.values() and make_workflow is not fresh_mix:
        raise ValueError(f"num_fresh = {num_fresh}: of the workflows only fresh_mix takes fresh data")
    if data is not None:
        jax.eval_shape(lambda key: generator.init(key, data), axis.values[0])  # refuses what it cannot be fitted to
    truth = truth_of(truth, params if data is None else data)
    rest = {"num_generations": num_generations, "num_fresh": num_fresh, "temperature": temperature}
    grid, axes = grid_of(num_kept, budget, **rest)
    by_moments = generator.takes_moments and make_workflow is not accumulate_subsample
    made = make_workflow(moments_memory() if by_moments else buffer_memory())
    recorder = recorder_of(generator, metrics, num_scored)

    def prepare(seed, data, params, **_) -> dict[str, Any]:
        return {"first": generator.init(jax.random.fold_in(seed, _FIRST), data) if params is None else params}

    def build(seed, num_kept, budget, first, select, grid, data, params, truth) -> Run:
        fresh = fresh_samples(data) if num_fresh else None
        collapse = build_collapse(generator, sample_and_select(generator, select), made, fresh)
        return Run(seed, collapse, first, row(row(grid, num_kept), budget), recorder(truth))

    chosen = select_of(select, silos, jax.random.fold_in(jax.random.key(key), _FIRST))
    runs = sweep(
        build,
        axes | {"seed": axis},
        fixed={"select": chosen, "grid": grid, "data": data, "params": params, "truth": truth},
        prepare=prepare,
        checkpoint=checkpoint,
        progress=progress,
    )
    messages = in_words(
        {f"values of {name} that are not finite": ~np.isfinite(runs[name]) for name in metrics_of(metrics)}
    )
    for message in messages:
        warnings.warn(message, stacklevel=2)
    runs = runs.assign_attrs(warnings=runs.attrs["warnings"] + messages)
    return _drop_scalars(runs, num_kept=num_kept, budget=budget)


def predict(
    generator: Generator | str,
    select: Select | str,
    workflow: MakeWorkflow | str,
    start: Any,
    *,
    num_kept: int | Sequence[int],
    budget: float | Sequence[float] = 1.0,
    num_generations: int,
    num_fresh: int = 0,
    metrics: Sequence[str] = ("trace_ratio",),
    truth: Any = None,
    silos: Any = None,
    **others: Any,
) -> xr.Dataset:
    """Compute what theory says of `simulate` with the same arguments, in double precision.

    `THEORIES` lists what is known. Under selection by distance to a target it is the mean field, exact as n grows;
    under random selection, or none, that of a generator made worse, and of a Gaussian the exact expectation, which has
    the metrics trace_ratio and mean_error alone.

    Args:
        generator: whose parameters are moments, and whose law is a mixture of Gaussians.
        select: `top(mahalanobis(target))`, `random()` or `keep_all()`.
        workflow: as in `simulate`.
        start: likewise; data are reduced to their moments.
        num_kept: n.
        budget: n / N.
        num_generations: T.
        num_fresh: real samples a generation.
        metrics: names of `METRICS`.
        truth: as in `simulate`.
        silos: likewise; no theory is known of selection by silos.
        others: arguments of `simulate` on which theory does not depend.

    Returns:
        The metrics, over the dimensions of `simulate` without the seed.

    Raises:
        ValueError: if an argument is not allowed, or no theory is known.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> theory = jc.predict("gaussian", jc.selectors.random(), "replace", truth, num_kept=10, num_generations=3)
        >>> theory.trace_ratio.values.round(3)  # (1 - 1/n)^t
        array([1.   , 0.9  , 0.81 , 0.729])
    """
    check_names("argument", others, inspect.signature(simulate).parameters)
    generator, make_workflow = generator_of(generator), workflow_of(workflow)
    select = select_of(select, silos, jax.random.key(0))
    name = next((name for name, member in WORKFLOWS.items() if member is make_workflow), None)
    if not generator.takes_moments or generator.law is None or name is None:
        raise ValueError("predict knows no theory of this generator and workflow; THEORIES lists others")
    data, params = start_of(generator, start)
    by_chance = isinstance(select, selectors.random | selectors.keep_all)
    by_distance = isinstance(select, selectors.top) and isinstance(select.score, distance_score)
    by_closed_form = by_chance and generator.law is one_component
    metrics = metrics_of(metrics, ("trace_ratio", "mean_error") if by_closed_form else METRICS)
    params = as_moments(data) if params is None else params
    compared = as_moments(truth_of(truth, params))
    with jax.enable_x64(True):  # noqa: FBT003
        params, compared = cast((params, compared), jnp.float64)
        if by_closed_form:
            found = _expected(name, params, num_kept, budget, num_generations, num_fresh)[metrics]
        elif by_chance or by_distance:
            check_covariance("start: its covariance", params.covariance)
            target = cast(select.score.target, jnp.float64) if by_distance else None  # pyright: ignore[reportAttributeAccessIssue]
            grid, axes = grid_of(num_kept, budget, num_generations=num_generations, num_fresh=num_fresh)
            made = WORKFLOWS[limit(name)](moments_memory())
            recorder = recorder_of(generator, metrics, 0)

            def build(num_kept, budget, params, compared, target, grid) -> Run:
                keep = all_moments(generator) if by_chance else kept_moments(target, generator)
                collapse = build_collapse(generator, keep, made, fresh_moments(params))
                at = row(row(grid, num_kept), budget)
                return Run(jax.random.key(0), collapse, params, at, recorder(compared))

            fixed = {"params": params, "compared": compared, "target": target, "grid": grid}
            found = sweep(build, axes, fixed=fixed)
        else:
            raise ValueError(f"predict knows no theory of {type(select).__name__} by this score; THEORIES lists others")
    return _drop_scalars(found, num_kept=num_kept, budget=budget)


THEORIES = {
    "gaussian, top(mahalanobis), any workflow": "theory.mean_field, exact as n grows; `predict`",
    "gaussian, top(mahalanobis), replace or accumulate": "theory.finite_size.linear_noise, first order in 1 / n",
    "gaussian, top(mahalanobis), isotropic fixed point": "theory.exponents: kappa, psi, psi_finite",
    "gaussian, random or keep_all, any workflow": "theory.closed_forms, exact expectations; `predict`",
    "gaussian made worse, top(mahalanobis), random or keep_all": "theory.mean_field, exact as n grows; `predict`",
    "gaussian made worse, isotropic truth": "theory.regimes and theory.spectrum in closed form, theory.critical",
    "gaussian_mixture, top(mahalanobis), replace or accumulate": "theory.mixture, exact for separated components",
    "kernel_density, keep_all, replace": "theory.kernel_density, exact expectations",
    "categorical, keep_all, any workflow but fresh_mix": "theory.surviving_symbols, exact, or a lower bound",
    "categorical, or gaussian and many options, best_of, replace": "theory.curation, exact as n grows",
}


def _expected(
    workflow: str, start: Moments, num_kept: Any, budget: Any, num_generations: int, num_fresh: int
) -> xr.Dataset:
    """Evaluate the closed form of a workflow, the same for every budget."""
    arguments = (num_fresh,) if workflow == "fresh_mix" else ()
    total = float(jnp.trace(start.covariance))
    of_each = {}
    for n in np.atleast_1d(num_kept):
        variance = CLOSED_FORMS[workflow](int(n), num_generations, *arguments)
        expected = {"trace_ratio": variance, "mean_error": (1 - variance) * total}
        coords = {"generation": np.arange(num_generations + 1)}
        of_each[n] = xr.Dataset({m: ("generation", values) for m, values in expected.items()}, coords)
    return along("num_kept", of_each).expand_dims(budget=np.atleast_1d(budget), axis=1)


def _drop_scalars(found: xr.Dataset, **given: Any) -> xr.Dataset:
    return found.isel({name: 0 for name, value in given.items() if np.ndim(value) == 0}, drop=True)
