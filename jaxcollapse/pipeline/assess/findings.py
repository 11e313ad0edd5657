"""All that an assessment finds, before it is put into words."""

from typing import NamedTuple

import pandas as pd

from jaxcollapse.gain import Expansion
from jaxcollapse.pipeline.assess.bias import Bias
from jaxcollapse.pipeline.assess.coverage import Coverage
from jaxcollapse.pipeline.assess.evidence import Evidence
from jaxcollapse.pipeline.assess.forecast import Future


class Setting(NamedTuple):
    """What was asked.

    Attributes:
        num_kept: n.
        budget: of candidates that is kept.
        num_generations: T.
        workflow: replace, accumulate or accumulate_subsample.
        max_bias: of the mean that is accepted.
    """

    num_kept: int
    budget: float
    num_generations: int
    workflow: str
    max_bias: float


class Findings(NamedTuple):
    """What was found.

    Attributes:
        setting: what was asked.
        evidence: what was looked at.
        bias: None where nothing but the reference is known.
        coverage: of the population.
        modes: shares of classes or cells.
        expansion: of the generator.
        junk: share of candidates, zero where it may be chance.
        future: by theory.
        resampled: trace of resampled data with intervals over seeds: generation, trace, low, high; it may be empty.
        gains: over random selection, or None where they cannot be predicted.
    """

    setting: Setting
    evidence: Evidence
    bias: Bias | None
    coverage: Coverage
    modes: pd.DataFrame
    expansion: Expansion
    junk: float
    future: Future
    resampled: pd.DataFrame
    gains: pd.DataFrame | None

    @property
    def lacking(self) -> pd.DataFrame:
        """Modes that are missing or scarce in the reference."""
        return self.modes.loc[self.modes.status.isin(["missing", "scarce"])]

    @property
    def is_biased(self) -> bool:
        """Whether the mean is off by more than is accepted, and by more than chance."""
        mean = None if self.bias is None else self.bias.mean
        return mean is not None and mean.is_beyond_chance and bool(mean.low > self.setting.max_bias)

    @property
    def is_incomplete(self) -> bool:
        """Whether a mode is missing or scarce, or the mean is biased."""
        return bool(self.is_biased or len(self.lacking))
