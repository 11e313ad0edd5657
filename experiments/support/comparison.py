"""What experiments share that compare verifiers."""

import dataclasses
from typing import Annotated, Any, Literal

from jaxcollapse.experiments.support.ranges import Count, Epsilon, Inner, NumSeeds, NumSilos, Range, Share
from jaxcollapse.experiments.support.runner import Settings
from jaxcollapse.verifiers import VERIFIERS
from jaxcollapse.verifiers import Settings as VerifierSettings

Verifiers = tuple[Literal[tuple(VERIFIERS)], ...]
SETTINGS = tuple(
    field.name for field in dataclasses.fields(VerifierSettings) if field.name not in ("silo", "max_rounds")
)


@dataclasses.dataclass(frozen=True)
class Comparison(Settings):
    """Configuration of every experiment that compares verifiers."""

    verifiers: Verifiers = tuple(VERIFIERS)
    """Ways to select."""
    num_kept: Count = 150
    """Samples n kept in each generation."""
    budget: Share = 0.25
    """Share n / N of the candidates that selection keeps, in (0, 1]."""
    num_generations: Count = 10
    """Generations after the fit to real data."""
    num_silos: NumSilos = 10
    """Silos K."""
    epsilon: Epsilon = VerifierSettings.epsilon
    """Regularisation, relative to the mean cost of the real data with themselves."""
    tau: Inner = VerifierSettings.tau
    """Place of Scheme I's references on the geodesic from the pool to a silo."""
    num_support: Count = VerifierSettings.num_support
    """Support points S of the schemes' references."""
    num_rounds: Count = VerifierSettings.num_rounds
    """Rounds of the schemes."""
    num_self: Annotated[int, Range(0, 10**6)] = VerifierSettings.num_self
    """Candidates that stand for the pool where potentials are debiased; none: they are not."""
    num_gradients: Count = VerifierSettings.num_gradients
    """Gradients that the logistic fit asks of each silo in a generation."""
    privacy: tuple[Annotated[float, Range(1e-6, 1e3)], Annotated[float, Range(1e-15, 0.5)]] = VerifierSettings.privacy
    """Loss of privacy (epsilon, delta) of a silo's one message for the private tilt."""
    max_norm: Annotated[float, Range(1e-6, 1e6)] = VerifierSettings.max_norm
    """Bound on the features of the private tilt."""
    public_scale: Annotated[float, Range(1e-6, 1e6)] = VerifierSettings.public_scale
    """Standard deviation of a coordinate that the private tilt takes as publicly known."""
    num_seeds: NumSeeds = 6
    """Independent problems and simulations."""


def settings(config: Comparison) -> dict[str, Any]:
    """Pick the settings of verifiers."""
    return {name: getattr(config, name) for name in SETTINGS}
