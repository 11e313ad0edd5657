"""Selectors: ways to re-weight a pool. A new one is a module here and a line in `SELECTORS`."""

from jaxcollapse.selectors.balanced import balanced, feature_goal, kernel_goal
from jaxcollapse.selectors.best_of import best_of
from jaxcollapse.selectors.budget import bottom, keep_all, random, soft, top
from jaxcollapse.selectors.capped import capped
from jaxcollapse.selectors.k_means import k_means
from jaxcollapse.selectors.matching import center_matching, covariance_matching
from jaxcollapse.selectors.recoloured import recoloured
from jaxcollapse.selectors.submodular import submodular, submodular_greedy

SELECTORS = {
    "keep_all": keep_all,
    "random": random,
    "top": top,
    "soft": soft,
    "bottom": bottom,
    "best_of": best_of,
    "submodular": submodular,
    "submodular_greedy": submodular_greedy,
    "balanced": balanced,
    "capped": capped,
    "center_matching": center_matching,
    "covariance_matching": covariance_matching,
    "k_means": k_means,
    "recoloured": recoloured,
}
