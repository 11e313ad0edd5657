r"""Balanced selection of more candidates than are looked at together.

Candidates are dealt into tiles. The density of the pool about a candidate, of which `kernel_ratio` is made, is that of
its own tile, and of the next one in place of the others,

.. math:: \hat p(x) = \tfrac1N \Big( \sum_{y \in \text{tile}} k(x, y)
          + \frac{N - B}{B} \sum_{y \in \text{next tile}} k(x, y) \Big),

without bias, and with the candidate itself in it. The few multipliers of the goals are fitted to one tile, and from
there to ten, or all. A fit to one tile alone takes its chance for the pool's, more so as most candidates are certain to
be kept or not: then the tile's few others settle all multipliers.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int

from jaxcollapse.base import Counted, Measure, Parties, together
from jaxcollapse.measures import pooled
from jaxcollapse.selectors.balanced import Goal, balanced, features_of, fit_odds, intercept
from jaxcollapse.tree import stack

FITTED = 10  # tiles at most
ROUNDS, MAX_PASSES = 6, 6  # of the fit: curvatures, and passes over tiles with each

Rows = Int[np.ndarray, " b"]
Take = Callable[[Rows], Float[np.ndarray, "b d"]]
Tell = Callable[..., None]


def program(function: Callable, chosen: Any) -> Callable:
    """Compile a function of a selector, unless silos that it asks are on other hosts."""
    leaves = jax.tree.leaves(chosen, is_leaf=lambda leaf: isinstance(leaf, Parties))
    return function if any(isinstance(leaf, Parties) for leaf in leaves) else jax.jit(function)


def balanced_by_tiles(
    chosen: balanced, key: Array, take: Take, tiles: Sequence[Rows], num_kept: int, tell: Tell
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " N"], Mapping[str, Any]]:
    """Keep n candidates, by scores and goals of all.

    Args:
        chosen: the selector.
        key: of everything random.
        take: gives candidates by their rows.
        tiles: their rows, dealt at random, two tiles at least.
        num_kept: n.
        tell: is told what is being done, how much of it is done, and of how much.

    Returns:
        Rows of the kept, log odds of all, NaN where a score is not finite, and what went wrong, counted.
    """
    num_candidates, size = sum(map(len, tiles)), max(map(len, tiles))
    score_key, goal_key, draw_key = jax.random.split(key, 3)
    offset = np.empty(num_candidates, np.float32)

    def filled(rows: Rows) -> Measure:
        padding = ((0, size - len(rows)), (0, 0))
        weights = (np.arange(size) < len(rows)).astype(np.float32)
        return Measure(jnp.asarray(np.pad(take(rows), padding)), jnp.asarray(weights))

    def known(rows: Rows) -> tuple[Measure, Array]:
        """Give candidates and their offsets; those without one have no mass."""
        here, there = filled(rows), jnp.asarray(np.pad(offset[rows], (0, size - len(rows))))
        return here._replace(weights=jnp.where(jnp.isfinite(there), here.weights, 0)), jnp.nan_to_num(there)

    following, troubles = filled(tiles[0]), []
    for i, rows in enumerate(tiles):
        tell("scoring", i, len(tiles))
        here, following = following, filled(tiles[(i + 1) % len(tiles)])
        found, trouble = program(_offsets, chosen)(chosen, score_key, here, following, num_candidates)
        offset[rows] = np.asarray(found)[: len(rows)]
        troubles.append(trouble)
    tell("fitting")
    goals, theta = program(_fitted, chosen)(chosen, goal_key, *known(tiles[0]), num_kept / num_candidates)
    theta, unconverged = _refitted(
        goals, np.asarray(theta, float), num_kept / num_candidates, tiles[:FITTED], known, tell
    )

    finite = np.isfinite(offset)
    log_odds = np.empty(num_candidates, np.float32)
    for rows in tiles:
        log_odds[rows] = np.asarray(_log_odds(goals, *known(rows), theta))[: len(rows)]
    log_odds += float(_centred(log_odds, np.float32(finite), float(num_kept)))
    log_odds[~finite] = np.nan
    drawn = log_odds + np.asarray(jax.random.logistic(draw_key, log_odds.shape))  # NaN is last
    return np.sort(np.argpartition(-drawn, num_kept)[:num_kept]), log_odds, together([*troubles, unconverged])


def _refitted(
    goals: Sequence[Goal],
    theta: Float[np.ndarray, " f"],
    share: float,
    tiles: Sequence[Rows],
    known: Callable[[Rows], tuple[Measure, Array]],
    tell: Tell,
) -> tuple[Float[np.ndarray, " f"], Mapping[str, Array]]:
    r"""Minimise the objective of `fit_odds` over tiles by L-BFGS [liu1989]_, in well-conditioned coordinates.

    These are z in :math:`\theta = \theta_0 + L^{-\top} z`, with :math:`L L^\top` the curvature at :math:`\theta_0`.
    """
    mean = np.concatenate([[1.0], *(goal.mean for goal in goals)])
    slack = np.concatenate([[0.0], *(goal.slack for goal in goals)])
    num_kept, pass_numbers = share * sum(map(len, tiles)), itertools.count(1)

    def objective(theta: np.ndarray) -> tuple[Any, np.ndarray]:
        number = next(pass_numbers)
        value, gradient = slack @ theta**2 / 2 - theta @ mean, slack * theta - mean
        for i, rows in enumerate(tiles):
            tell(f"fitting, pass {number} of at most {ROUNDS * MAX_PASSES}", i, len(tiles))
            told = _sums(goals, *known(rows), theta)
            value, gradient = value + np.asarray(told[0]) / num_kept, gradient + np.asarray(told[1]) / num_kept
        return value, gradient

    def improved(start: np.ndarray) -> tuple[np.ndarray, np.floating]:
        tell("fitting, curvature")
        curvature = np.diag(slack)
        for rows in tiles:
            curvature += np.asarray(_curvature(goals, *known(rows), start)) / num_kept
        ridge = np.finfo(np.float32).eps * curvature.trace()
        root = np.linalg.cholesky(curvature + ridge * np.eye(len(slack)))

        def moved(z: np.ndarray) -> np.ndarray:
            return start + scipy.linalg.solve_triangular(root, z, trans="T", lower=True)

        def whitened(z: np.ndarray) -> tuple[Any, np.ndarray]:
            value, gradient = objective(moved(z))
            return value, scipy.linalg.solve_triangular(root, gradient, lower=True)

        options = {"maxfun": MAX_PASSES, "ftol": 1e-5, "gtol": 0.0}
        found = scipy.optimize.minimize(whitened, np.zeros_like(start), method="L-BFGS-B", jac=True, options=options)
        return moved(found.x), found.jac @ found.jac / 2

    gain = np.inf
    for _ in range(ROUNDS):
        theta, gain = improved(theta)
        if gain <= 1e-3:
            break
    return theta, {"fits that have not converged": jnp.int32(not gain <= 1e-3)}


_centred = jax.jit(intercept)


def _fitted(
    chosen: balanced, goal_key: Array, here: Measure, offset: Array, share: Array | float
) -> tuple[list[Goal], Array]:
    goals = chosen.asked(goal_key, here)
    return goals, fit_odds(goals, here, offset, share * here.weights.sum()).value


@jax.jit
def _log_odds(goals: Sequence[Goal], here: Measure, offset: Array, theta: Array) -> Array:
    return offset + features_of(goals, here.points) @ theta


@jax.jit
def _curvature(goals: Sequence[Goal], here: Measure, offset: Array, theta: Array) -> Array:
    phi = features_of(goals, here.points)
    p = jax.nn.sigmoid(offset + phi @ theta)
    return ((here.weights * p * (1 - p))[:, None] * phi).T @ phi


@jax.jit
def _sums(goals: Sequence[Goal], here: Measure, offset: Array, theta: Array) -> tuple[Array, Array]:
    r"""Sum :math:`\log(1 + e^u)` over a tile, and its gradient in :math:`\theta`."""
    phi = features_of(goals, here.points)
    u = offset + phi @ theta
    return here.weights @ jax.nn.softplus(u), (here.weights * jax.nn.sigmoid(u)) @ phi


def _offsets(chosen: Any, key: Array, here: Measure, following: Measure, num_candidates: Array | int) -> Counted:
    """Score a tile against itself and the next one, which stands for the rest of the pool."""
    if chosen.score is None:
        return Counted(jnp.zeros_like(here.weights), {})
    rest = (num_candidates - here.weights.sum()) / following.weights.sum()
    pool = pooled(stack([here, following._replace(weights=rest * following.weights)]))
    score = chosen.strength * chosen.score.at(here.points, key, pool)
    lost = jnp.sum((here.weights > 0) & ~jnp.isfinite(score))
    return Counted(score, {"scores that are not finite": lost})
