"""Selection is scoring, then aggregation."""

import jax

from jaxcollapse.base import AggregateFn, Controls, Measure, ScoreFn, SelectFn


def from_scores(score_fn: ScoreFn, aggregate_fn: AggregateFn) -> SelectFn:
    """Score the pool against every reference and aggregate.

    Args:
        score_fn: written for one reference; mapped over the leading axis of the references.
        aggregate_fn: from scores [r, n] to weights [n].
    """

    def select(key, pool: Measure, references, controls: Controls):
        score_key, aggregate_key = jax.random.split(key)
        scores = jax.vmap(score_fn, in_axes=(None, None, 0))(score_key, pool, references)
        return aggregate_fn(aggregate_key, scores, pool, controls)

    return select


def keep_all(key, pool: Measure, references, controls: Controls):
    """Select nothing away: the whole pool is kept."""
    return pool.weights
