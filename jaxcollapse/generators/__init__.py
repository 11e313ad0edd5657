"""Generators. A new one is a module here and a line in `GENERATORS`."""

from jaxcollapse.generators.gaussian import gaussian

GENERATORS = {"gaussian": gaussian}
