"""What experiments share that compare verifiers."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from jaxcollapse.checks import check_budget, check_names, check_range
from jaxcollapse.experiments.support.runner import Settings
from jaxcollapse.verifiers import VERIFIERS, check_settings
from jaxcollapse.verifiers import Settings as VerifierSettings

Verifiers = tuple[Literal[tuple(VERIFIERS)], ...]
SETTINGS = tuple(field.name for field in dataclasses.fields(VerifierSettings) if field.name != "silo")


@dataclasses.dataclass(frozen=True)
class Comparison(Settings):
    """Configuration of every experiment that compares verifiers."""

    verifiers: Verifiers = tuple(VERIFIERS)
    """Ways to select."""
    num_kept: int = 150
    """Samples n kept in each generation."""
    budget: float = 0.25
    """Share n / N of the candidates that selection keeps, in (0, 1]."""
    num_generations: int = 10
    """Generations after the fit to real data."""
    num_silos: int = 10
    """Silos K."""
    epsilon: float = VerifierSettings.epsilon
    """Regularisation, relative to the mean cost of the real data with themselves."""
    tau: float = VerifierSettings.tau
    """Place of Scheme I's references on the geodesic from the pool to a silo."""
    num_support: int = VerifierSettings.num_support
    """Support points S of the schemes' references."""
    num_rounds: int = VerifierSettings.num_rounds
    """Rounds of the schemes; federated Sinkhorn takes four times as many of its own."""
    num_gradients: int = VerifierSettings.num_gradients
    """Gradients that the logistic fit asks of each silo in a generation."""
    privacy: tuple[float, float] = VerifierSettings.privacy
    """Loss of privacy (epsilon, delta) of a silo's one message for the private tilt."""
    max_norm: float = VerifierSettings.max_norm
    """Bound on the features of the private tilt."""
    num_seeds: int = 6
    """Independent problems and simulations."""


def settings(config: Comparison) -> dict[str, Any]:
    """Pick the settings of verifiers."""
    return {name: getattr(config, name) for name in SETTINGS}


def check_comparison(config: Comparison, known: Iterable[str] = VERIFIERS) -> None:
    """Check the configuration before anything runs.

    Raises:
        ValueError: at the first value that is not allowed.
    """
    check_names("verifier", config.verifiers, known)
    check_budget(config.budget)
    check_range("num_generations", config.num_generations, low=1)
    check_range("num_silos", config.num_silos, low=1)
    check_range("num_seeds", config.num_seeds, low=1)
    check_settings(config)
