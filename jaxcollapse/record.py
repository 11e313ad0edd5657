"""What to keep of a generation."""

from collections.abc import Callable, Mapping

import jax
from jaxtyping import Array, Float

from jaxcollapse.base import Data, Generator, Info, Measure, Metric, Moments, Record, State
from jaxcollapse.measures import uniform_measure
from jaxcollapse.recursion import RECORD


def record_model(metrics: Mapping[str, Metric], truth: Data) -> Record:
    """Record metrics of a model whose parameters are moments.

    The record raises TypeError where they are not.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> record = jc.record_model({"trace_ratio": jc.metrics.trace_ratio}, truth)
        >>> state = jc.State(0, truth._replace(covariance=truth.covariance / 2), memory=())
        >>> float(record(jax.random.key(0), state, jc.Info(truth, truth, {}))["trace_ratio"])
        0.5
    """

    def record(key, state: State, info: Info) -> dict[str, Array]:
        if not isinstance(state.params, Moments):
            name = type(state.params).__name__
            raise TypeError(f"record_model: the model's parameters are {name}, not Moments; use record_samples")
        return {name: metric(key, state.params, truth) for name, metric in metrics.items()}

    return record


def record_samples(
    metrics: Mapping[str, Metric],
    truth: Measure,
    generator: Generator,
    num_samples: int,
    embed: Callable[[Float[Array, "n d"]], Float[Array, "n f"]] = lambda points: points,
) -> Record:
    """Record metrics of samples of the model.

    Args:
        metrics: by name.
        truth: that samples are compared with, in the coordinates of `embed`.
        generator: of the recursion.
        num_samples: drawn anew in each generation.
        embed: from samples to features.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.uniform_measure(jnp.array([[0.0], [2.0]]))
        >>> record = jc.record_samples({"mean_error": jc.metrics.mean_error}, truth, jc.generators.gaussian(), 4)
        >>> state = jc.State(0, jc.Moments(jnp.ones(()), jnp.array([4.0]), jnp.zeros((1, 1))), memory=())
        >>> float(record(jax.random.key(0), state, jc.Info(truth, truth, {}))["mean_error"])  # of four samples at 4
        9.0
    """

    def record(key, state: State, info: Info) -> dict[str, Array]:
        samples = uniform_measure(embed(generator.sample(key, state.params, num_samples)))
        metric_key = jax.random.fold_in(key, RECORD)
        return {name: metric(metric_key, samples, truth) for name, metric in metrics.items()}

    return record


def record_side_by_side(record: Record) -> Record:
    """Record the model of every workflow of `side_by_side`, with a function that looks at the model alone.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(1), jnp.eye(1))
        >>> models = jc.Moments(jnp.ones(2), jnp.zeros((2, 1)), jnp.array([[[1.0]], [[0.5]]]))
        >>> record = jc.record_side_by_side(jc.record_model({"trace_ratio": jc.metrics.trace_ratio}, truth))
        >>> told = record(jax.random.key(0), jc.State(0, models, memory=()), jc.Info(truth, truth, {}))
        >>> told["trace_ratio"].tolist()
        [1.0, 0.5]
    """

    def record_each(key, state: State, info: Info):
        return jax.vmap(lambda params: record(key, state._replace(params=params), info))(state.params)

    return record_each
