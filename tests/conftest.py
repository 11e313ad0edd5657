"""Shapes and types are checked whenever a function of the package is called, in tests only."""

import sys
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]
# These take a user's arrays on the host, and say themselves what is wrong with them.
AT_THE_DOOR = {"jaxcollapse.silos", "jaxcollapse.data"}

sys.path.insert(0, str(ROOT))  # for `experiments` and `paper_figures`
modules = {f"jaxcollapse.{path.stem}" for path in (ROOT / "jaxcollapse").glob("[!_]*")}
install_import_hook(sorted(modules - AT_THE_DOOR), "typecheck.checked")


@pytest.fixture
def x64():
    """Run a test in double precision."""
    with jax.enable_x64(True):
        yield
