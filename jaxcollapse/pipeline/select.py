"""Which candidates to keep, out of as many as files hold.

A pool that is small is given to a verifier whole, as experiments do. A large one is dealt into tiles at random, and
balanced selection sees all of it by `balanced_by_tiles`. Other verifiers keep their share of each tile.
"""

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int

from jaxcollapse import selectors
from jaxcollapse.base import Measure, Parties, Select, Sizes, counted, together
from jaxcollapse.checks import check_count, check_finite, check_names
from jaxcollapse.measures import uniform_measure
from jaxcollapse.pipeline.tiles import Take, Tell, balanced_by_tiles, program
from jaxcollapse.selectors.budget import scored
from jaxcollapse.silos import as_silos, stack_silos
from jaxcollapse.sizes import sizes
from jaxcollapse.verifiers import VERIFIERS, verifier

TILE = 20_000
DEFAULT = "kernel_balanced"
KEEPERS = tuple(name for name in VERIFIERS if name not in ("recoloured", "keep_all"))


class Selection(NamedTuple):
    """What is kept.

    Attributes:
        kept: rows of the candidates, in order, [n].
        score: of every candidate, [N]: log odds of being kept, or what the verifier ranks by; NaN where it has none, as
            in a tile of which none is kept.
        probability: of being kept, [N]; NaN where the verifier has none.
        trouble: what went wrong, counted.
        num_tiles: in which the pool was looked at; one is the pool as a whole.
    """

    kept: Int[np.ndarray, " n"]
    score: Float[np.ndarray, " N"]
    probability: Float[np.ndarray, " N"]
    trouble: Mapping[str, float]
    num_tiles: int


def select(
    candidates: Any,
    silos: Sequence[Any],
    *,
    num_kept: int,
    verifier: str = DEFAULT,
    key: int = 0,
    tile: int = TILE,
    tell: Tell = lambda *told: None,
) -> Selection:
    """Keep n of N candidates by what silos tell.

    Args:
        candidates: an array [N, d], mapped from a file or in memory.
        silos: arrays [m_k, d].
        num_kept: n, less than N.
        verifier: a name of `VERIFIERS` that keeps rows as they are; `single_silo` is that of the first.
        key: of everything random.
        tile: candidates that are looked at together, at most.
        tell: is told what is being done, how much of it is done, and of how much.

    Raises:
        ValueError: if an argument is not allowed.

    Example:
        >>> import numpy as np
        >>> from jaxcollapse.pipeline.select import select
        >>> candidates, silo = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([[4.0], [5.0]])
        >>> select(candidates, [silo], num_kept=2, verifier="center_matching").kept
        array([2, 3])
    """
    check_names("verifier", [verifier], KEEPERS)
    num_candidates = len(candidates)
    num_kept = check_count("num_kept", num_kept, low=1, high=num_candidates - 1)
    tile = check_count("tile", tile, low=2)

    def take(rows: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b d"]:
        points = np.asarray(candidates[rows], np.float32)
        check_finite("candidates", points)
        return points

    widths = {np.shape(points)[-1] for points in (candidates, *silos)}
    if len(widths) > 1:
        raise ValueError(f"candidates and silos have {sorted(widths)} columns, and must have as many")
    chosen = made(verifier, silos, key)
    return keep(chosen, take, num_candidates, num_kept, key, tile, tell)


def made(name: str, silos: Sequence[Any] | Parties, key: int) -> Select:
    """Make a verifier from arrays of several lengths, or from silos on other hosts."""
    if isinstance(silos, Parties):
        return verifier(name, silos, jax.random.split(jax.random.key(key))[0])
    silos = [np.asarray(silo, np.float32) for silo in silos]
    for i, silo in enumerate(silos):
        check_finite(f"silos[{i}]", silo)
    ends = np.cumsum([0, *map(len, silos)])
    rows = [np.arange(*pair) for pair in itertools.pairwise(ends)]
    return _made(name, as_silos(stack_silos(np.concatenate(silos), rows)), jax.random.key(key))


@partial(jax.jit, static_argnums=0)
def _made(name: str, silos: Measure, key: Array) -> Select:
    """Make a verifier in one program."""
    setup_key, _ = jax.random.split(key)
    return verifier(name, silos, setup_key)


def keep(chosen: Select, take: Take, num_candidates: int, num_kept: int, key: int, tile: int, tell: Tell) -> Selection:
    """Keep n of N candidates, of which `take` gives rows; other arguments as for `select`."""
    num_tiles = -(-num_candidates // tile)
    _, key = jax.random.split(jax.random.key(key))
    if num_tiles == 1:
        tell("selecting")
        rows = np.arange(num_candidates)
        weights, score, probability, trouble = jax.device_get(
            program(_whole, chosen)(chosen, key, uniform_measure(take(rows)), _bounds(num_kept, num_candidates))
        )
        return Selection(np.flatnonzero(weights), score, probability, _numbers(trouble), 1)
    order = np.random.default_rng(np.asarray(jax.random.key_data(key))).permutation(num_candidates)
    tiles = [np.sort(part) for part in np.array_split(order, num_tiles)]
    streams = isinstance(chosen, selectors.balanced) and (chosen.score is None or hasattr(chosen.score, "at"))
    if streams:
        kept, log_odds, trouble = balanced_by_tiles(chosen, key, take, tiles, num_kept, tell)
        return Selection(kept, log_odds, scipy.special.expit(log_odds), _numbers(trouble), num_tiles)
    return _tile_by_tile(chosen, key, take, tiles, num_kept, tell)


def _bounds(num_kept: int, num_candidates: int) -> Sizes:
    return sizes(num_kept, num_kept / num_candidates, temperature=1.0)


def _whole(chosen: Any, key: Array, pool: Measure, bounds: Sizes) -> tuple[Array, Array, Array, Mapping[str, Array]]:
    """Select, and tell by what."""
    if hasattr(chosen, "log_odds"):
        log_odds = chosen.log_odds(key, pool, bounds)
        weights, trouble = chosen.draw(key, log_odds, pool, bounds)
        return weights, log_odds.value, jax.nn.sigmoid(log_odds.value), trouble
    weights, trouble = counted(chosen(key, pool, bounds))
    score = probability = jnp.full_like(pool.weights, jnp.nan)
    if hasattr(chosen, "score"):
        score_key, _ = jax.random.split(key)
        score = scored(chosen.score, score_key, pool).value
        if isinstance(chosen, selectors.soft):
            probability = -jnp.expm1(-jnp.exp(score + _offset(score, bounds.num_kept)))
        else:
            probability = weights
    elif isinstance(chosen, selectors.random):
        probability = jnp.full_like(pool.weights, bounds.num_kept / bounds.num_candidates)
    return weights, score, probability, trouble


def _offset(score: Float[Array, " n"], num_kept: Array) -> Float[Array, ""]:
    r"""Solve :math:`\sum_i 1 - \exp(-e^{s_i + c}) = n` by bisection: how often `soft` keeps candidates [rosen1972]_."""

    def halve(_, ends):
        middle = (ends[0] + ends[1]) / 2
        few = -jnp.expm1(-jnp.exp(score + middle)).sum() < num_kept
        return jnp.where(few, middle, ends[0]), jnp.where(few, ends[1], middle)

    low, high = jax.lax.fori_loop(0, 60, halve, (-jnp.max(score) - 50, -jnp.min(score) + 50))
    return (low + high) / 2


def _tile_by_tile(
    chosen: Select, key: Array, take: Take, tiles: Sequence[np.ndarray], num_kept: int, tell: Tell
) -> Selection:
    """Keep a share of each tile."""
    num_candidates = sum(map(len, tiles))
    score, probability = (np.full(num_candidates, np.nan, np.float32) for _ in range(2))
    ends = np.round(np.cumsum([0, *map(len, tiles)]) / num_candidates * num_kept).astype(int)
    kept, troubles = [], []
    for i, rows in enumerate(tiles):
        tell("selecting", i, len(tiles))
        if not (share := int(ends[i + 1] - ends[i])):
            continue
        bounds = _bounds(share, len(rows))
        weights, score[rows], probability[rows], trouble = program(_whole, chosen)(
            chosen, jax.random.fold_in(key, i), uniform_measure(take(rows)), bounds
        )
        kept.append(rows[np.asarray(weights) > 0])
        troubles.append(trouble)
    return Selection(np.sort(np.concatenate(kept)), score, probability, _numbers(together(troubles)), len(tiles))


def _numbers(trouble: Mapping[str, Any]) -> dict[str, float]:
    return {name: np.asarray(value).item() for name, value in trouble.items()}
