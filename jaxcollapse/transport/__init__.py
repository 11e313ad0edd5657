"""Optimal transport."""

from jaxcollapse.transport.bures import bures_distance
