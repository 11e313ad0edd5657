"""What the messages of an exchange give away: attacks on a silo's replies, against the sharpness of the plans."""

import dataclasses
import itertools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.spatial.distance import cdist

from jaxcollapse.checks import check_range
from jaxcollapse.exchanges import barycenter, carry_out, federated_sinkhorn
from jaxcollapse.exchanges.federated_sinkhorn import Request
from jaxcollapse.exchanges.interpolant import exposure, interpolate
from jaxcollapse.experiments.support.ranges import Epsilon, Range, Step
from jaxcollapse.experiments.support.runner import Output, Runner, Settings
from jaxcollapse.measures import uniform_measure
from jaxcollapse.privacy import cross_lines, differentiate_partition, invert_interpolant
from jaxcollapse.transport.sinkhorn import mean_cost
from jaxcollapse.tree import row

ATTACKS = (
    "fresh draw", "known step", "known step, support as large as the silo", "unknown step, two rounds",
    "federated Sinkhorn, chosen candidates",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Distance of what an attack recovers to the nearest of the silo's points, in units of their own distances."""

    dims: tuple[Annotated[int, Range(1, 256)], ...] = (2, 16)
    """Dimensions."""
    epsilons: tuple[Epsilon, ...] = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
    """Regularisations, relative to the mean cost between silo and support."""
    silo_size: Annotated[int, Range(2, 10**4)] = 300
    """Samples m of a silo."""
    num_support: Annotated[int, Range(2, 10**4)] = 100
    """Support points S, at most as many as the silo's."""
    step: Step = 0.5
    """Share of the way that a support point moves towards its image, in (0, 1]."""
    width: Step = 0.05
    """Distance of neighbouring candidates that an attacking server chooses, relative to the scale of the plans."""
    num_seeds: Annotated[int, Range(2, 10**4)] = 10
    """Independent silos."""


PRESETS = {
    "smoke": {"silo_size": 20, "num_support": 6, "epsilons": (0.5, 0.01), "num_seeds": 2},
    "quick": {"silo_size": 150, "num_support": 50, "num_seeds": 4},
    "paper": {},
}


def attacks(config: Config, silos: jax.Array, supports: jax.Array, fresh: jax.Array, relative: jax.Array):
    """Run the exchanges that involve the first of two silos, and what an attacker makes of its messages.

    Returns:
        What each of `ATTACKS` recovers, and the exposure that the silo could have looked up before, of its replies to
        the first support points and to all of them.
    """
    key, support, both = jax.random.key(0), supports[: config.num_support], uniform_measure(silos)
    first = row(both, 0)
    epsilon = relative * mean_cost(uniform_measure(support), first)
    agreed = epsilon, config.step

    reply, _ = interpolate(first, support, *agreed)
    moved = carry_out(barycenter(support, *agreed, num_rounds=1), key, None, both).points
    lines = jnp.stack([support, moved]), jnp.stack([reply, interpolate(first, moved, *agreed)[0]])

    dim = support.shape[1]
    width = config.width * jnp.sqrt(epsilon)
    steps = width / 2 * jnp.stack([-jnp.eye(dim), jnp.eye(dim)], axis=1)
    candidates = (support[:, None, None] + steps).reshape(-1, dim)
    asked = federated_sinkhorn(epsilon)
    state = asked.silo_init(key, first, uniform_measure(candidates))
    _, message = asked.reply(state, first, Request(jnp.zeros(len(candidates)), epsilon))
    partitions = message.log_partition.reshape(len(support), dim, 2)

    recovered = (
        fresh,
        invert_interpolant(support, reply, config.step),
        invert_interpolant(supports, interpolate(first, supports, *agreed)[0], config.step),
        cross_lines(*lines),
        differentiate_partition(partitions, support, width, epsilon),
    )
    return recovered, exposure(first, support, epsilon), exposure(first, supports, epsilon)


def run(config: Config, runner: Runner) -> Output:
    """Attack every silo at every epsilon."""
    check_range("num_support", config.num_support, low=2, high=config.silo_size)
    runner.expect(1)
    attack = jax.jit(lambda *arguments: attacks(config, *arguments))
    axes = {"dim": list(config.dims), "seed": range(config.num_seeds), "epsilon": list(config.epsilons)}
    found = []
    for dim, seed, relative in runner.track("attacks", list(itertools.product(*axes.values()))):
        rng = np.random.default_rng([config.seed, dim, seed])
        silos = rng.standard_normal((2, config.silo_size, dim)) + np.float32([[[0.0]], [[2 / np.sqrt(dim)]]])
        supports, fresh = rng.standard_normal((2, config.silo_size, dim))
        recovered, *exposed = attack(*map(config.dtype, (silos, supports, fresh, relative)))
        own = cdist(silos[0], silos[0]) + np.diag(np.full(config.silo_size, np.inf))
        spacing = np.median(own.min(axis=1))
        for name, points in zip(ATTACKS, recovered, strict=True):
            distance = cdist(points, silos[0]).min(axis=1) / spacing
            largest = float(exposed["as large" in name])
            found.append((np.median(distance), np.mean(distance < 0.1), largest))
    axes |= {"attack": list(ATTACKS), "quantity": ["distance", "share_recovered", "exposure"]}
    found = xr.DataArray(np.reshape(found, [len(axis) for axis in axes.values()]), axes, list(axes))
    arrays = found.to_dataset("quantity")
    means = arrays.mean("seed").to_dataframe()
    return Output(arrays, {"mean_over_seeds": means.reset_index().to_dict("records")})
