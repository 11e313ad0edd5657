"""The published Gaussian experiment [qiao2026]: its instances, its table, and its theory."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from experiments.gaussian_collapse import RIDGE, SETTINGS, Config, lanes_of, simulation
from experiments.numpy_baseline import recursion
from jaxcollapse.analysis import standard_error
from jaxcollapse.memories import moments_memory
from jaxcollapse.sweep import complete, sweep
from jaxcollapse.targets import PUBLISHED_SEEDS, published_instance
from jaxcollapse.theory.mean_field import mean_field
from jaxcollapse.trajectory import run
from jaxcollapse.validation import make_controls
from jaxcollapse.workflows import WORKFLOWS
from oracle import assert_unbiased, z_between

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


@pytest.mark.parametrize("setting", SETTINGS)
def test_published_means_are_reproduced(setting):
    config = Config()
    history = complete(sweep(simulation(config, *SETTINGS[setting]), {"seed": lanes_of(config, jnp.float32)}, 300))
    rows = TABLE[(TABLE.setting == setting) & (TABLE.generation > 0)]
    trace, error = (history[name][:, rows.generation] for name in ("trace_ratio", "mean_error"))
    se = np.concatenate([
        np.hypot(standard_error(trace), rows.trace_ratio_sem),
        np.sqrt(2) * standard_error(error),  # published without a standard error
    ])  # fmt: skip
    difference = np.concatenate([
        trace.mean(0) - rows.trace_ratio_mean,
        error.mean(0) - rows.mean_error_mean,
    ])  # fmt: skip
    z = np.abs(difference / se)
    assert len(z) == 28
    assert z.max() < 4
    assert np.mean(z > 3) <= 1 / 20


@pytest.mark.parametrize("setting", SETTINGS)
def test_numpy_recursion_agrees_in_law(setting):
    # One instance, many replicates: means and spreads of the logarithms.
    n, budget, last, replicates = 40, 0.1, 8, 200
    config = Config(num_kept=n, budget=budget, num_generations=last, seeds=(2023,), dim=3)
    build = simulation(config, *SETTINGS[setting])
    keys, instances = lanes_of(config, jnp.float32)
    instance = jax.tree.map(lambda leaf: leaf[0], instances)
    keys = jax.random.split(keys[0], 4 * replicates)
    history = complete(sweep(lambda key: build((key, instance)), {"key": keys}, last))
    reference = [recursion(setting, 2023, n, budget, last, 3, rng_seed=r) for r in range(replicates)]
    for name, values in zip(("trace_ratio", "mean_error"), zip(*reference, strict=True), strict=True):
        actual, expected = np.log(history[name][:, 1:]), np.log(np.stack(values)[:, 1:])
        assert_unbiased(z_between(actual, expected))
        assert_unbiased(z_between((actual - actual.mean(0)) ** 2, (expected - expected.mean(0)) ** 2))


@functools.cache
def mean_field_history(workflow, num_generations):
    config = Config()
    controls = make_controls(config.num_kept, config.budget)

    def models(instance):
        collapse = mean_field(instance.target, WORKFLOWS[workflow](moments_memory()), ridge=RIDGE)
        record = lambda key, state, info: state.params  # noqa: E731
        return run(jax.random.key(0), collapse, instance.truth, controls, num_generations, record)[1]

    with jax.enable_x64(True):
        models = jax.jit(jax.vmap(models))(lanes_of(config, jnp.float64)[1])
    return jax.tree.map(np.asarray, models)


@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
def test_simulation_of_each_instance_follows_the_mean_field(workflow):
    n, last, replicates = 8000, 4, 24
    config = Config(num_kept=n, num_generations=last)
    build = simulation(config, workflow, True)
    _, instances = lanes_of(config, jnp.float32)
    axes = {"key": jax.random.split(jax.random.key(1), replicates), "instance": instances}
    history = complete(sweep(lambda key, instance: build((key, instance)), axes, last))
    theory = mean_field_history(workflow, last)
    trace = np.trace(theory.covariance, axis1=-2, axis2=-1)
    trace_ratio = trace[:, 1:] / trace[:, :1]
    z = (np.log(history["trace_ratio"][..., 1:]) - np.log(trace_ratio)).mean(0)
    se = standard_error(np.log(history["trace_ratio"][..., 1:]))
    # The bias of finite n is of order 1 / n, the standard error of order 1 / sqrt(n R).
    assert_unbiased(z / se)
