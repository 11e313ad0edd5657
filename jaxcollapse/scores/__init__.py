"""Scores of candidates; high is good. A new one is a module here and a line in `SCORES`."""

from jaxcollapse.scores.calibrated_gradient import calibrated_gradient, exchanged_gradient
from jaxcollapse.scores.kernel_ratio import kernel_ratio
from jaxcollapse.scores.logistic_ratio import logistic_ratio
from jaxcollapse.scores.mahalanobis import mahalanobis
from jaxcollapse.scores.mean import mean
from jaxcollapse.scores.moment_ratio import moment_ratio
from jaxcollapse.scores.standardised import standardised
from jaxcollapse.scores.tilted_ratio import tilted_ratio

SCORES = {
    "mahalanobis": mahalanobis,
    "calibrated_gradient": calibrated_gradient,
    "exchanged_gradient": exchanged_gradient,
    "moment_ratio": moment_ratio,
    "logistic_ratio": logistic_ratio,
    "tilted_ratio": tilted_ratio,
    "kernel_ratio": kernel_ratio,
    "mean": mean,
    "standardised": standardised,
}
