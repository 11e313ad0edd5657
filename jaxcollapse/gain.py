"""Go or no-go: what a verifier will do to a generator, told before the generator is trained again."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from jaxcollapse.analysis import Interval, seed_interval
from jaxcollapse.arguments import MakeWorkflow, generator_of, measure_of
from jaxcollapse.base import Generator, Measure, Moments, Select
from jaxcollapse.checks import check_count, check_range
from jaxcollapse.generators import blend, contaminate, expand, kernel_density
from jaxcollapse.measures import as_moments, pooled, union
from jaxcollapse.silos import as_silos
from jaxcollapse.simulate import simulate
from jaxcollapse.sweep import seeds as seeds_axis
from jaxcollapse.targets import fit_target


class Expansion(NamedTuple):
    r"""What a generator does to data in one generation without selection; intervals of 95% over seeds.

    Attributes:
        log_trace: :math:`\log (\operatorname{Tr} \Sigma' / \operatorname{Tr} \Sigma)`, positive where it expands.
        log_determinant: :math:`\tfrac1d \log (\det \Sigma' / \det \Sigma)`.
        junk_share: :math:`\rho`, the share of samples that are new junk.
        junk: moments of the junk, of mass zero where there is none.
    """

    log_trace: Interval
    log_determinant: Interval
    junk_share: Interval
    junk: Moments


def measure_expansion(
    generator: Generator | str, data: Any, *, num_samples: int, seeds: int | Sequence[int] = 8, key: int = 0
) -> Expansion:
    r"""Measure what a generator does to data: fit it and sample, fit it to the samples and sample again.

    Junk is what lies farther out than any real point, in the Mahalanobis distance of the data. Rates compare what is no
    junk among the second samples with what is none among the first; of shares s and s' of junk the new one is
    :math:`\rho = 1 - (1 - s') / (1 - s)`, and its moments are those of the first.

    Args:
        generator: such as `gaussian_mixture(10)`, or a name of `GENERATORS`.
        data: real, an array [n, d] or a measure.
        num_samples: drawn each time; rates depend on it, since fits do.
        seeds: how many times, at least twice, or their labels.
        key: of everything random.

    Raises:
        ValueError: if an argument is not allowed.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> points = np.random.default_rng(0).normal(size=(50, 1))
        >>> rate = jc.measure_expansion("gaussian", points, num_samples=50, seeds=2).log_trace
        >>> bool(rate.low < 0 < rate.high)  # it may keep the variance
        True
    """
    generator, num_samples = generator_of(generator), check_count("num_samples", num_samples, low=2)
    data, (labels, keys) = measure_of("data", data), seeds_axis(seeds, key)
    check_range("seeds", len(labels), low=2)

    @jax.jit
    def measured(keys, data):
        *rates, junk = jax.lax.map(lambda key: expansion_of(generator, key, data, num_samples), keys)
        return rates, union(junk)

    rates, junk = jax.device_get(measured(keys, data))
    log_trace, log_determinant, junk_share = map(seed_interval, rates)
    return Expansion(log_trace, log_determinant, junk_share, junk)


def expansion_of(generator: Generator, key: Key[Array, ""], data: Measure, num_samples: int) -> tuple[Any, ...]:
    """Measure, once, the rates of `Expansion` and the moments of junk; arguments as for `measure_expansion`."""
    target = fit_target(as_moments(data))

    def distance(points):
        return jnp.linalg.norm((points - target.location) @ target.factor.T, axis=-1)

    reach = jnp.max(distance(data.points), where=data.weights > 0, initial=0)

    def parts(points):
        out = (distance(points) > reach).astype(points.dtype)
        return as_moments(Measure(points, 1 - out)), as_moments(Measure(points, out))

    first_key, trained_key, fit_key, again_key = jax.random.split(key, 4)
    first = generator.init(first_key, data)
    trained = generator.sample(trained_key, first, num_samples)
    second = generator.fit(fit_key, first, Measure(trained, jnp.ones(num_samples, trained.dtype)))
    (before, junk), (after, _) = map(parts, (trained, generator.sample(again_key, second, num_samples)))
    log_trace = jnp.log(jnp.trace(after.covariance) / jnp.trace(before.covariance))
    (_, log_after), (_, log_before) = map(jnp.linalg.slogdet, (after.covariance, before.covariance))
    log_determinant = (log_after - log_before) / len(before.mean)
    return log_trace, log_determinant, 1 - after.mass / before.mass, junk


def predict_gain(
    select: Select | str,
    pool: Any,
    silos: Any,
    expansion: Expansion,
    *,
    num_kept: int,
    budget: float,
    num_generations: int,
    workflow: MakeWorkflow | str = "accumulate_subsample",
    seeds: int | Sequence[int] = 8,
    key: int = 0,
) -> xr.DataArray:
    r"""Predict what a verifier does after T generations, from one pool, what silos tell, and a measured `Expansion`.

    .. math:: \log \frac{\mathrm{FD}_T(\text{verifier})}{\mathrm{FD}_T(\text{random})},

    with FD the Fréchet distance of candidates from the silos' mixture; negative where the verifier pays. The recursion
    runs with a surrogate in place of the generator, which resamples the training set and does to it what was
    measured: it adds noise where the generator expands (`expand`), blends where it contracts (`blend`), and puts in
    the junk that was found (`contaminate`). Nothing is trained.

    Args:
        select: such as `top(score)`, or a name of `VERIFIERS`, made from `silos`.
        pool: of today's candidates, an array [N, d] or a measure.
        silos: stacked measure, array [K, m, d], or list of arrays [m_k, d].
        expansion: as `measure_expansion` finds it.
        num_kept: n, candidates kept in each generation.
        budget: :math:`n / N`.
        num_generations: T.
        workflow: such as `accumulate`, or a name of `WORKFLOWS`.
        seeds: how many surrogate recursions, or their labels; the interval is over them.
        key: of everything random.

    Returns:
        The logarithm of the ratio, over seed and generation; `seed_interval` makes an interval of it.

    Raises:
        ValueError: if an argument is not allowed, or no stand-in does what was measured.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = np.random.default_rng(0).normal(size=(50, 1))
        >>> found = jc.measure_expansion("gaussian", pool, num_samples=50, seeds=2)
        >>> sizes = {"num_kept": 10, "budget": 0.2, "num_generations": 1, "workflow": "replace", "seeds": 2}
        >>> gain = jc.predict_gain("random", pool, pool[:40].reshape(2, 20, 1), found, **sizes)
        >>> gain.dims, float(abs(gain).max())  # over random selection, random selection gains nothing
        (('seed', 'generation'), 0.0)
    """
    silos = as_silos(silos)
    runs = surrogate_runs(
        {"verifier": select}, pool, silos, expansion, truth=pooled(silos), metrics=("frechet",), num_kept=num_kept,
        budget=budget, num_generations=num_generations, workflow=workflow, seeds=seeds, key=key,
    )  # fmt: skip
    return (np.log(runs["verifier"].frechet) - np.log(runs["random"].frechet)).rename("log_gain")


def surrogate_runs(
    verifiers: Mapping[str, Select | str],
    pool: Any,
    silos: Any,
    expansion: Expansion,
    *,
    num_kept: int,
    num_generations: int,
    **rest: Any,
) -> dict[str, xr.Dataset]:
    """Run the recursion with a surrogate of the generator, under verifiers and under random selection.

    Args:
        verifiers: by name.
        pool: of today's candidates, from which all start.
        silos: that verifiers are made from.
        expansion: what the surrogate does.
        num_kept: n.
        num_generations: T.
        rest: as for `simulate`.

    Returns:
        Results by the name of the verifier, and `random`.
    """
    pool = measure_of("pool", pool)
    generator = surrogate(expansion, max(len(pool.weights), (num_generations + 1) * num_kept))
    rest |= {"silos": silos, "num_kept": num_kept, "num_generations": num_generations}

    chosen = {"random": "random", **verifiers}
    return {name: simulate(generator, select, start=pool, **rest) for name, select in chosen.items()}


def surrogate(expansion: Expansion, max_points: int) -> Generator:
    """Make a generator that resamples its data and does to them what was measured.

    Args:
        expansion: as measured; a rate whose interval holds zero counts as zero.
        max_points: bound on the points of a training set.

    Raises:
        ValueError: if a rate is not finite, or the generator takes more than half of the trace in a generation.
    """
    for name in ("log_trace", "junk_share"):
        if not np.isfinite(getattr(expansion, name)).all():
            raise ValueError(f"expansion: {name} = {getattr(expansion, name).mean} must be finite, with its interval")
    generator, (rate, low, high) = kernel_density(max_points, 0.0), np.expm1(expansion.log_trace)
    if low > 0:
        generator = expand(generator, float(rate) ** 0.5)
    elif high < 0:
        if rate < -0.5:
            raise ValueError(
                f"expansion: a trace times {1 + rate:.2g} in a generation must be at least half, as of blends"
            )
        generator = blend(generator, -2 * float(rate))
    share = expansion.junk_share
    return contaminate(generator, float(share.mean), expansion.junk) if share.low > 0 else generator
