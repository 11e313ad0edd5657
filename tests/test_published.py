"""The published Gaussian experiment [qiao2026]: its instances, its table, and its theory."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import assert_unbiased, z_between, z_scores

from benchmarks.numpy_baseline import recursion
from jaxcollapse.analysis import standard_error
from jaxcollapse.experiments.gaussian_collapse import RECORDED, RIDGE, SAMPLED, Config, instances_of, simulation
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import trace_ratio
from jaxcollapse.record import record_model
from jaxcollapse.recursion import run
from jaxcollapse.sweep import sweep
from jaxcollapse.targets import PUBLISHED_SEEDS, published_instance
from jaxcollapse.theory.mean_field import mean_field
from jaxcollapse.tree import row
from jaxcollapse.workflows import WORKFLOWS

TABLE = pd.read_csv(Path(__file__).parent / "data" / "gaussian_n500.csv", comment="#")


@pytest.mark.parametrize("seed", PUBLISHED_SEEDS)
@pytest.mark.parametrize("dim", [2, 10, 7])
def test_instances_are_the_published_ones_bit_for_bit(seed, dim):
    state = np.random.get_state()
    np.random.seed(seed)
    mean = np.random.randn(dim)
    root = np.random.randn(dim, dim)
    covariance = root @ root.T + 0.1 * np.eye(dim)
    location = mean.copy()
    biased = np.random.choice(dim, dim // 2, replace=False)
    location[biased] += 3 * np.random.randn(dim // 2)
    np.random.set_state(state)
    instance = published_instance(seed, dim)
    assert_array_equal(instance.truth.mean, mean)
    assert_array_equal(instance.truth.covariance, covariance)
    assert_array_equal(instance.target.location, location)
    metric = instance.target.factor.T @ instance.target.factor
    assert_allclose(metric @ (0.3 * covariance), np.eye(dim), atol=1e-9)


@functools.cache
def published_histories(*, selected):
    config = Config()
    options = {"dims": dict.fromkeys(RECORDED, ("workflow",)), "coords": {"workflow": list(SAMPLED)}}
    return sweep(simulation(config, selected=selected), {"seed": instances_of(config, jnp.float32)}, **options)


@pytest.mark.parametrize("setting", TABLE.setting.unique())
def test_published_means_are_reproduced(setting):
    workflow, _, selected = setting.partition("+")
    history = published_histories(selected=bool(selected))
    rows = TABLE[(TABLE.setting == setting) & (TABLE.generation > 0)]
    trace, error = (
        history[name].sel(workflow=workflow, generation=rows.generation.to_numpy()).to_numpy()
        for name in ("trace_ratio", "mean_error")
    )
    z_trace = (trace.mean(0) - rows.trace_ratio_mean) / np.hypot(standard_error(trace), rows.trace_ratio_sem)
    # Mean errors are published without their standard errors.
    z_error = (error.mean(0) - rows.mean_error_mean) / (np.sqrt(2) * standard_error(error))
    z = np.abs([z_trace, z_error])
    assert z.shape == (2, 14)
    assert z.max() < 4
    assert np.mean(z > 3) <= 1 / 20


# One instance, many replicates.
SMALL = Config(num_kept=40, budget=0.1, num_generations=6, seeds=(2023,), dim=3)
REPLICATES = 200


@functools.cache
def small_histories():
    build = simulation(SMALL, SAMPLED, selected=True)
    _, instance = row(instances_of(SMALL, jnp.float32).values, 0)

    def replicate(key):
        return run(*build((key, instance)))[1]

    return jax.jit(jax.vmap(replicate))(jax.random.split(jax.random.key(0), 4 * REPLICATES))


@pytest.mark.parametrize("workflow", SAMPLED)
def test_numpy_recursion_agrees_in_law(workflow):
    # Means and spreads of the logarithms.
    reference = [recursion(f"{workflow}+select", 2023, 40, 0.1, 6, 3, rng_seed=r) for r in range(REPLICATES)]
    for name, values in zip(("trace_ratio", "mean_error"), zip(*reference, strict=True), strict=True):
        history = np.asarray(small_histories()[name])[:, 1:, list(SAMPLED).index(workflow)]
        actual, expected = np.log(history), np.log(np.stack(values)[:, 1:])
        assert_unbiased(z_between(actual, expected))
        assert_unbiased(z_between((actual - actual.mean(0)) ** 2, (expected - expected.mean(0)) ** 2))


def test_simulation_of_each_instance_follows_the_mean_field():
    # E[log trace] is off by less than 10 / n in these generations, and replicates scatter by 0.7 / sqrt(n)
    # (both measured with n = 125 and 500): of R replicates the bias is below 14 sqrt(R / n) standard errors.
    n, replicates, last = 4000, 10, 3
    config = Config(num_kept=n, num_generations=last)
    build = simulation(config, ["accumulate"], selected=True)
    keys = jax.random.split(jax.random.key(1), replicates)

    def simulated(key, instance):
        return run(*build((key, instance)))[1]["trace_ratio"][:, 0]

    def theory(instance):
        collapse = mean_field(instance.target, WORKFLOWS["accumulate"](moments_memory()), ridge=RIDGE)
        record = record_model({"trace_ratio": trace_ratio}, instance.truth)
        return run(*build((keys[0], instance))._replace(collapse=collapse, record=record))[1]["trace_ratio"]

    simulated = jax.jit(jax.vmap(jax.vmap(simulated, (None, 0)), (0, None)))
    traces = np.asarray(simulated(keys, instances_of(config, jnp.float32).values[1]), np.float64)
    with jax.enable_x64(True):
        expected = np.asarray(jax.jit(jax.vmap(theory))(instances_of(config, jnp.float64).values[1]))
    z = z_scores(np.log(traces[..., 1:]), np.log(expected[:, 1:]))
    assert_unbiased(z, replicates)
