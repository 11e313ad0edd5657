"""Assess how complete reference data are, and what a verifier that knows them would do."""

from jaxcollapse.pipeline.assess.assess import assess
