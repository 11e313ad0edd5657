"""Selectors. A new one is a module here and a line in `SELECTORS`.

Every entry is called as `SELECTORS[name](score_fn, max_kept)` and returns a `SelectFn`. Rules that weigh candidates
against each other have no use for a score: those are in `MATCHING`, called as `MATCHING[name](max_kept)`.
"""

from collections.abc import Callable

from jaxcollapse.base import AggregateFn, ScoreFn, SelectFn
from jaxcollapse.selectors.aggregate import bottom_budget, random_budget, soft_budget, top_budget
from jaxcollapse.selectors.compose import from_scores, keep_all
from jaxcollapse.selectors.density_ratio import logistic_ratio, moment_ratio
from jaxcollapse.selectors.matching import MATCHING
from jaxcollapse.selectors.scores import SCORES, calibrated_gradient, mahalanobis
from jaxcollapse.selectors.submodular import fixed_point, greedy


def _by(aggregate: Callable[[int], AggregateFn]) -> Callable[[ScoreFn, int], SelectFn]:
    return lambda score_fn, max_kept: from_scores(score_fn, aggregate(max_kept))


SELECTORS = {
    "random": _by(random_budget),
    "top": _by(top_budget),
    "soft": _by(soft_budget),
    "bottom": _by(bottom_budget),
    "submodular": _by(fixed_point),
    "submodular_greedy": _by(greedy),
}
